"""What the model can do, against chance, an untrained model and the simplest model of its corpus."""

from collections.abc import Iterator

from treering.card.claims import Claims
from treering.card.forms import ABSENT
from treering.card.markdown import link, table
from treering.card.records import EVALUATION, REVISIONS, TOKENS, UNIGRAM, harness_record
from treering.card.sections.commentary import commentary
from treering.card.sections.introduction import title
from treering.card.sections.overlap import number_types, overlap
from treering.card.sections.pictures import pictures

_SHOWN_REVISIONS = 24
_SHOWN_DOMAINS = 24
_OF_A_DOMAIN = (("text", "domain"), ("loss", "bits_per_byte"), ("score", "perplexity"), ("count", "targets"))
HARNESS_PAGE = "https://github.com/EleutherAI/lm-evaluation-harness"


def evaluation(claims: Claims) -> str:
    """Return the harness's scores, the held-out scores of the revisions, and what they say.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    card = claims.records.recipe.card
    own_words = ["", claims.quote("evaluation_commentary")] if card.evaluation_commentary else []
    return "\n".join(
        [
            "## Evaluation",
            "",
            _setting(claims),
            "",
            _scores(claims),
            "",
            *number_types(claims),
            *commentary(claims, list(_metrics(claims))),
            *overlap(claims, shown_tasks(claims)),
            *_over_training(claims),
            *pictures(claims, shown_tasks(claims)),
            "",
            "On text held out from training, every revision was scored:",
            "",
            _heldout(claims),
            "",
            *_verdicts(claims),
            *_by_domain(claims),
            *own_words,
        ]
    )


def _setting(claims: Claims) -> str:
    harness, version = (
        link("Language Model Evaluation Harness", HARNESS_PAGE),
        claims.cite("text", f"{claims.records.main_harness}#/harness_version"),
    )
    revision, dtype = (
        claims.cite("code", f"{claims.records.main_harness}#/revision"),
        claims.cite("text", f"{claims.records.main_harness}#/dtype"),
    )
    return f"We evaluate {title(claims)} using the {harness} (version {version}): the {revision} revision, in {dtype}."


def _scores(claims: Claims) -> str:
    rows = [_score(claims, task, metric) for task, metric in _metrics(claims)]
    interval = f"Interval ({claims.cite('percent', f'{claims.records.main_harness}#/confidence')})"
    return table(("Benchmark", "Metric", "Score ± stderr", interval, "Chance", "What it measures"), rows)


def shown_tasks(claims: Claims) -> list[str]:
    """Return the addresses of the last revision's scores: of each task, but of a family the score of all together.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    record = claims.records.main_harness
    tasks = [f"tasks/{index}" for index, task in enumerate(claims.value(f"{record}#/tasks")) if task["group"] is None]
    groups = [f"groups/{index}" for index in range(len(claims.value(f"{record}#/groups")))]
    return [f"{record}#/{place}" for place in (*tasks, *groups)]


def _metrics(claims: Claims) -> Iterator[tuple[str, str]]:
    for address in shown_tasks(claims):
        yield from ((address, f"{address}/metrics/{index}") for index in range(len(claims.value(f"{address}/metrics"))))


def _score(claims: Claims, task: str, metric: str) -> tuple[str, ...]:
    samples, shots = claims.amount(f"{task}/samples", "sample"), claims.cite("count", f"{task}/num_fewshot")
    if "/groups/" in task:
        samples = f"{claims.amount(f'{task}/tasks', 'task')}, {samples}"
    elif not claims.value(f"{task}/items").startswith(claims.value(f"{task}/task")):
        samples = f"{samples} of {claims.cite('code', f'{task}/items')}"
    arrow = "↑" if claims.value(f"{metric}/higher_is_better") else "↓"
    return (
        f"{claims.cite('code', f'{task}/task')} ({samples}, {shots}-shot)",
        f"{claims.cite('code', f'{metric}/metric')} {arrow}",
        claims.cite("score", f"{metric}/value", f"{metric}/stderr"),
        claims.cite("interval", f"{metric}/interval"),
        claims.cite("chance", f"{metric}/chance"),
        claims.cite("text", f"{task}/what_it_measures"),
    )


def _over_training(claims: Claims) -> list[str]:
    """Return the first metric of each task at each revision that was scored, where there are several."""
    revisions = [
        row["name"] for row in claims.value(f"{EVALUATION}#/revisions") if claims.records.holds(harness_record(row["name"]))
    ]
    addresses = [address.partition("#")[2] for address in shown_tasks(claims)]
    if len(revisions) < 2 or not addresses:
        return []
    last = harness_record(revisions[-1])
    titles = [
        f"{claims.cite('code', f'{last}#{place}/task')} {claims.cite('code', f'{last}#{place}/metrics/0/metric')}"
        for place in addresses
    ]
    rows = [
        (
            claims.cite("code", f"{harness_record(name)}#/revision"),
            *(
                claims.cite("score", *(f"{harness_record(name)}#{place}/metrics/0/{part}" for part in ("value", "stderr")))
                for place in addresses
            ),
        )
        for name in (revisions[index] for index in shown_revisions(len(revisions)))
    ]
    return ["", "Over training:", "", table(("Revision", *titles), rows)]


def _heldout(claims: Claims) -> str:
    revisions = claims.value(f"{EVALUATION}#/revisions")
    rows = [_revision(claims, index, revisions[index]["step"]) for index in shown_revisions(len(revisions))]
    rows.append(
        (
            "unigram model of the corpus",
            ABSENT,
            claims.cite("loss", f"{UNIGRAM}#/bits_per_byte"),
            claims.cite("score", f"{UNIGRAM}#/perplexity"),
            claims.cite("loss", f"{UNIGRAM}#/loss_nats"),
        )
    )
    shown = table(("Revision", "Tokens trained on", "Bits per byte", "Perplexity", "Loss (nats per token)"), rows)
    if len(revisions) <= _SHOWN_REVISIONS:
        return shown
    number = claims.cite("length", f"{EVALUATION}#/revisions")
    return f"{shown}\n\nOf {number} revisions, a selection is shown; all are in the records."


def _by_domain(claims: Claims) -> list[str]:
    """Return the last revision's score on each domain of the held-out text, where there are several."""
    domains = f"{claims.records.main_heldout}#/domains"
    number = len(claims.value(domains))
    if number < 2:
        return []
    rows = [
        tuple(claims.cite(kind, f"{domains}/{index}/{field}") for kind, field in _OF_A_DOMAIN)
        for index in range(min(number, _SHOWN_DOMAINS))
    ]
    more = f" (the first of {claims.cite('length', domains)})" if number > len(rows) else ""
    return ["", f"By domain{more}:", "", table(("Domain", "Bits per byte", "Perplexity", "Tokens"), rows)]


def _revision(claims: Claims, index: int, step: int) -> tuple[str, ...]:
    address = f"{EVALUATION}#/revisions/{index}"
    name = claims.cite("code", f"{address}/name")
    return (
        f"{name} (untrained)" if step == 0 else name,
        claims.cite("count", f"{REVISIONS}#/revisions/{index}/tokens"),
        claims.cite("loss", f"{address}/bits_per_byte"),
        claims.cite("score", f"{address}/perplexity"),
        claims.cite("loss", f"{address}/loss_nats"),
    )


def shown_revisions(number: int) -> list[int]:
    """Return which of so many revisions a table shows: all, or as many as fit, evenly, with the first and the last."""
    if number <= _SHOWN_REVISIONS:
        return list(range(number))
    gaps = _SHOWN_REVISIONS - 1
    return [index * (number - 1) // gaps for index in range(_SHOWN_REVISIONS)]


def _verdicts(claims: Claims) -> Iterator[str]:
    if claims.value(f"{EVALUATION}#/untrained_bits_per_byte") is None:
        yield "No untrained revision was kept to compare with."
    else:
        yield _verdict(claims, "an untrained one", f"{EVALUATION}#/untrained_bits_per_byte")
    yield _verdict(claims, "a unigram model of the corpus", f"{EVALUATION}#/unigram_bits_per_byte")
    revisions = claims.value(f"{EVALUATION}#/revisions")
    if min(revision["bits_per_byte"] for revision in revisions) < revisions[-1]["bits_per_byte"]:
        yield f"The lowest value is not the last one's: it is that of {claims.cite('lowest', f'{EVALUATION}#/revisions')}."
    targets = claims.amount(f"{claims.records.main_heldout}#/targets", "token")
    size = claims.cite("size", f"{claims.records.main_heldout}#/bytes")
    held_out = claims.amount(f"{TOKENS}#/validation/tokens", "held-out token")
    if claims.value(f"{claims.records.main_heldout}#/targets") + 1 < claims.value(f"{TOKENS}#/validation/tokens"):
        yield f"Measured on the first {targets} ({size} of text) of {held_out}, in the order of the corpus."
    else:
        apart = any(source.validation is not None for source in claims.records.recipe.corpus.indexed)
        whence = "" if apart else ", from the same sources as the training text"
        yield f"Measured on {targets} ({size} of text), all that were held out{whence}."
    yield "Bits per byte compare across tokenizers on the same text; perplexity and loss per token do not."


def _verdict(claims: Claims, name: str, other: str) -> str:
    last = f"{EVALUATION}#/last_bits_per_byte"
    value, against, margin = claims.cite("loss", last), claims.cite("loss", other), claims.cite("margin", last, other)
    standing = claims.cite("better", last, other)
    return (
        f"The trained model is {standing} {name}: "
        f"{value} against {against} bits per byte on held-out text, a difference of {margin}."
    )
