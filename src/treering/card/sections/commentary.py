"""What the harness's scores say: against chance, along the training, and beside published scores of the Pythia suite."""

from collections.abc import Iterator, Mapping, Sequence

from treering.card.claims import Claims
from treering.card.markdown import bullets, link
from treering.card.numbers import listing
from treering.card.records import COMPARISON
from treering.card.sections.introduction import title

_ALONE = "No other model was evaluated beside it; to compare models of similar size, run the same tasks and settings."
_PAGE = "https://github.com/{repository}/tree/main/{folder}"
_DOWNLOADED = "downloaded from "

Scores = Sequence[tuple[str, str]]


def commentary(claims: Claims, scores: Scores) -> list[str]:
    """Return the lines that say what scores come to, and what they were compared with.

    Args:
        scores: The addresses of each score's task and of its metric, in the order of the card.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    compared = _compared(claims)
    remarks = [" ".join(_remark(claims, task, metric, compared)) for task, metric in scores]
    listed = bullets([*filter(None, remarks), *_cut_short(claims)])
    beside = [pair for pair in scores if _has_reference(claims, _entry(claims, *pair, compared))]
    return [*([listed, ""] if listed else []), *(_caveats(claims, beside, compared) if beside else [_ALONE])]


def _compared(claims: Claims) -> dict[tuple[str, str], str]:
    """Return where each score stands in the record of the comparison, by task and metric; nothing where there is none."""
    if not claims.records.holds(COMPARISON):
        return {}
    entries = claims.value(f"{COMPARISON}#/tasks")
    return {(entry["task"], entry["metric"]): f"{COMPARISON}#/tasks/{number}" for number, entry in enumerate(entries)}


def _entry(claims: Claims, task: str, metric: str, compared: Mapping[tuple[str, str], str]) -> str | None:
    return compared.get((claims.value(f"{task}/task"), claims.value(f"{metric}/metric")))


def _has_reference(claims: Claims, entry: str | None) -> bool:
    return entry is not None and claims.value(f"{entry}/reference") is not None


def _remark(claims: Claims, task: str, metric: str, compared: Mapping[tuple[str, str], str]) -> Iterator[str]:
    entry = _entry(claims, task, metric, compared)
    named = f"On {claims.cite('code', f'{task}/task')}, {claims.cite('code', f'{metric}/metric')}"
    if own := _alone(claims, metric, entry):
        yield f"{named} {own}."
    if entry is not None and _has_reference(claims, entry):
        yield f"{'It' if own else named} {_beside(claims, entry)}."


def _alone(claims: Claims, metric: str, entry: str | None) -> str:
    """Return how a score stands to chance and since when; where no chance is known, from where to where it went."""
    several = entry is not None and claims.value(f"{entry}/scored") > 1
    if claims.value(f"{metric}/chance") is not None and claims.value(f"{metric}/stderr") is not None:
        parts = [f"{metric}/{field}" for field in ("value", "stderr", "chance", "higher_is_better", "interval")]
        told = several and claims.value(f"{entry}/better_than_chance") is not None
        since = claims.cite("rise", *(f"{entry}/{field}" for field in ("rise", "better_than_chance", "scored"))) if told else ""
        return f"is {claims.cite('against chance', *parts)}{since}"
    if not several:
        return ""
    first, last = claims.cite("score", f"{entry}/first/value"), claims.cite("score", f"{metric}/value")
    return f"went from {first} at {claims.cite('code', f'{entry}/first/revision')} to {last}"


def _beside(claims: Claims, entry: str) -> str:
    """Return how far a score is from its reference."""
    reference = f"{entry}/reference"
    gap, model = claims.cite("gap", f"{reference}/difference"), claims.cite("code", f"{COMPARISON}#/reference/model")
    tokens = claims.amount(f"{reference}/tokens", "token")
    value = claims.cite("score", f"{reference}/value", f"{reference}/stderr")
    parts = (f"{reference}/difference", f"{reference}/difference_stderr", f"{entry}/higher_is_better")
    return f"is {gap} that of {model} after {tokens} ({value}), {claims.cite('against reference', *parts)}"


def _cut_short(claims: Claims) -> Iterator[str]:
    for number, task in enumerate(claims.value(f"{claims.records.main_harness}#/tasks")):
        if task["truncated"]:
            address = f"{claims.records.main_harness}#/tasks/{number}"
            cut = claims.amount(f"{address}/truncated", "request")
            yield f"On {claims.cite('code', f'{address}/task')}, {cut} did not fit into the context and lost their beginning."


def _caveats(claims: Claims, beside: Scores, compared: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Yield what the references are, and what else differs between them and the scores."""
    references = [f"{_entry(claims, *pair, compared)}/reference" for pair in beside]
    tasks = list(dict.fromkeys(task for task, _ in beside))
    yield _choice(claims)
    if untrained := next((place for place in references if _is_trained_in_name(claims, place)), None):
        step = claims.cite("count", f"{untrained}/step")
        yield f"At its step {step} the published scores are still those of its untrained state."
    yield _versions(claims, tasks, references[0])
    if files := [task for task in tasks if not claims.value(f"{task}/items").startswith(_DOWNLOADED)]:
        read = listing([f"{claims.cite('code', f'{task}/items')} for {claims.cite('code', f'{task}/task')}" for task in files])
        yield f"Items were read from files, {read}: they need not be of the split that Pythia was scored on."
    yield "Tokenizer and training data are each model's own, and a difference between scores is one of all these together;"
    yield "its standard error is that of two independent scores."


def _is_trained_in_name(claims: Claims, reference: str) -> bool:
    return claims.value(f"{reference}/untrained") and claims.value(f"{reference}/step") > 0


def _choice(claims: Claims) -> str:
    page = link("the published scores of EleutherAI's Pythia suite", _PAGE.format(**claims.value(f"{COMPARISON}#/source")))
    model = claims.cite("code", f"{COMPARISON}#/reference/model")
    size = claims.amount(f"{COMPARISON}#/reference/parameters", "parameter")
    own, tokens = claims.cite("count", f"{COMPARISON}#/parameters"), claims.amount(f"{COMPARISON}#/tokens", "token")
    return (
        f"References are {page}: of its models that of nearest size, {model} with {size}, where {title(claims)} has {own}; "
        f"at the step evaluated there that is nearest in tokens trained on, here {tokens}."
    )


def _versions(claims: Claims, tasks: Sequence[str], reference: str) -> str:
    harness, version = claims.cite("text", f"{COMPARISON}#/reference/harness"), claims.cite("text", f"{reference}/task_version")
    here = listing([f"{claims.cite('text', f'{task}/version')} of {claims.cite('code', f'{task}/task')}" for task in tasks])
    return f"They were measured with {harness}, on version {version} of each task; here it is {here}."
