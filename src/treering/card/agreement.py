"""Records that speak of the same thing, and whether they say the same."""

from collections.abc import Callable, Iterator
from typing import Any

from treering.card.claims import Evidence
from treering.card.records import (
    COMPARISON,
    CORPUS,
    EVALUATION,
    NUMBER_TYPES,
    ORDER,
    OVERLAP,
    REVISIONS,
    TOKENS,
    TRAINING,
    UNIGRAM,
    Records,
    harness_record,
)
from treering.errors import ClaimError
from treering.evaluation.comparison import compare
from treering.evaluation.overlap_records import overlap_totals
from treering.provenance.canonical import canonical_json

_CONFIG_FIELDS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
    "hidden_act", "rotary_pct", "rotary_emb_base", "use_parallel_residual", "attention_bias", "tie_word_embeddings",
    "layer_norm_eps",
)  # fmt: skip
_EQUAL = (
    (f"{CORPUS}#/train/documents", f"{TOKENS}#/train/documents"),
    (f"{CORPUS}#/validation/documents", f"{TOKENS}#/validation/documents"),
    (f"{TOKENS}#/train/tokens", f"{ORDER}#/train_tokens"),
    ("recipe.yaml#/training/steps", f"{TRAINING}#/steps"),
    ("recipe.yaml#/order/sequence_length", f"{ORDER}#/sequence_length"),
    ("recipe.yaml#/order/seed", f"{ORDER}#/seed"),
    ("recipe.yaml#/revisions/dtype", f"{REVISIONS}#/dtype"),
    (f"{UNIGRAM}#/bits_per_byte", f"{EVALUATION}#/unigram_bits_per_byte"),
)


def refuse_contradictions(records: Records) -> None:
    """Refuse records that contradict each other: no card could be true of all of them.

    Raises:
        ClaimError: When two records differ about the same thing; lists every such pair with both values.
    """
    found = [*_in_fields(records), *_in_lists(records), *_in_verdicts(records)]
    for look in (_in_comparison, _in_overlap, _in_number_types):
        found += _looked(look, records)
    if found:
        raise ClaimError(
            "the records contradict each other",
            where=", ".join(sorted({place for problem in found for place in problem[0]})),
            expected="the same from every record",
            found="; ".join(sentence for _, sentence in found),
            advice="delete the later of the two stages' folders and run the same command again",
        )


def refuse_other_scores(records: Records) -> None:
    """Refuse a release whose scores in its own number type are not those that its card shows.

    Raises:
        ClaimError: When one differs beyond noise.
    """
    if not records.holds(NUMBER_TYPES) or records.value(NUMBER_TYPES, "/agree"):
        return
    apart = [row for row in records.value(NUMBER_TYPES, "/metrics") if not row["agrees"]]
    computed, released = (records.value(NUMBER_TYPES, f"/{field}") for field in ("computed", "released"))
    raise ClaimError(
        f"the model in {released}, as it is released, does not score what it scores in {computed}",
        where=NUMBER_TYPES,
        expected="differences of one standard error at most",
        found="; ".join(f"{row['task']} {row['metric']}: {row['released']} for {row['computed']}" for row in apart),
        advice="release it in another number type, revisions.dtype",
    )


_Problem = tuple[tuple[str, ...], str]


def _in_fields(records: Records) -> Iterator[_Problem]:
    config = records.main_config
    pairs = [
        *_EQUAL,
        (f"{REVISIONS}#/main", f"{records.main_harness}#/revision"),
        (f"{EVALUATION}#/last_bits_per_byte", f"{records.main_heldout}#/bits_per_byte"),
    ]
    pairs += [(f"recipe.yaml#/model/{field}", f"{config}#/{field}") for field in _CONFIG_FIELDS]
    for pair in pairs:
        first, second = (records.value(*Evidence.at(address)) for address in pair)
        if first != second:
            yield tuple(Evidence.at(address).record for address in pair), f"{pair[0]} is {first!r}, {pair[1]} is {second!r}"


def _in_lists(records: Records) -> Iterator[_Problem]:
    trained = records.value(TRAINING, "/checkpoint_steps")
    published = [revision["step"] for revision in records.value(REVISIONS, "/revisions")]
    evaluated = [revision["step"] for revision in records.value(EVALUATION, "/revisions")]
    if not published:
        yield (REVISIONS,), "there is not one revision"
    if trained != published:
        yield (TRAINING, REVISIONS), f"checkpoints {trained}, revisions {published}"
    if evaluated != published:
        yield (REVISIONS, EVALUATION), f"revisions {published}, evaluated {evaluated}"
    last, main = _named(records.value(REVISIONS, "/revisions")), records.value(REVISIONS, "/main")
    if last != main:
        yield (REVISIONS,), f"`main` is {main}, the last revision {last}"


def _in_verdicts(records: Records) -> Iterator[_Problem]:
    last, revisions = records.value(EVALUATION, "/last_bits_per_byte"), records.value(EVALUATION, "/revisions")
    if not revisions or revisions[-1]["bits_per_byte"] != last:
        yield (EVALUATION,), f"last_bits_per_byte is {last}, the last revision's is another"
    for name in ("untrained", "unigram"):
        other, verdict = records.value(EVALUATION, f"/{name}_bits_per_byte"), records.value(EVALUATION, f"/better_than_{name}")
        if verdict != (None if other is None else last < other):
            yield (EVALUATION,), f"better_than_{name} is {verdict}, at {last} against {other} bits per byte"


def _looked(look: Callable[[Records], Iterator[_Problem]], records: Records) -> list[_Problem]:
    """Return what a look finds, or that a record lacks what it looks at."""
    try:
        return [*look(records)]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        return [((EVALUATION,), f"a record of the evaluation lacks something: {error!r}")]


def _in_comparison(records: Records) -> Iterator[_Problem]:
    """Yield where the comparison with published scores does not follow from the scores and the published ones."""
    if not records.holds(COMPARISON):
        return
    revisions = [row["name"] for row in records.value(EVALUATION, "/revisions")]
    scored = [name for name in revisions if records.holds(harness_record(name))]
    tokens = {row["name"]: row["tokens"] for row in records.value(REVISIONS, "/revisions")}
    bodies = [records.value(harness_record(name), "") for name in scored]
    expected = compare(bodies, tokens, records.value(TRAINING, "/parameters")) or {}
    written = {field: value for field, value in records.value(COMPARISON, "").items() if field not in ("format", "version")}
    for field in sorted(expected.keys() | written.keys()):
        if canonical_json(expected.get(field)) != canonical_json(written.get(field)):
            yield (COMPARISON,), f"its `{field}` does not follow from the scores and the published ones"


def _in_overlap(records: Records) -> Iterator[_Problem]:
    """Yield where counts of items that were trained on are not those of the lists of items, or of the scores without them."""
    if not records.holds(OVERLAP):
        return
    tasks = records.value(OVERLAP, "/tasks")
    if overlap_totals(tasks)["groups"] != records.value(OVERLAP, "/groups"):
        yield (OVERLAP,), "the counts of families are not those of their tasks"
    scores = {task["task"]: task for task in records.value(records.main_harness, "/tasks")}
    for task in tasks:
        listed = f"evaluation/overlap/{task['task']}.jsonl"
        items = records.lines(listed)
        found = (len(items), sum(item["batches"] > 0 for item in items))
        if found != (task["in_corpus"], task["trained_on"]):
            yield (OVERLAP, listed), f"{task['task']}: {task['in_corpus']} and {task['trained_on']} items, listed {found}"
        without = scores.get(task["task"], {}).get("without_overlap")
        others = task["items"] - task["trained_on"] if task["trained_on"] else None
        if task["task"] in scores and (None if without is None else without["samples"]) != others:
            yield (OVERLAP, records.main_harness), f"{task['task']}: {others} items were not trained on, scored apart {without}"


def _in_number_types(records: Records) -> Iterator[_Problem]:
    """Yield where scores in two number types are not those of the last revision, or their verdict not that of its parts."""
    if not records.holds(NUMBER_TYPES):
        return
    scores = {
        (task["task"], metric["metric"]): metric["value"]
        for task in records.value(records.main_harness, "/tasks")
        for metric in task["metrics"]
    }
    rows = records.value(NUMBER_TYPES, "/metrics")
    for row in rows:
        if scores.get((row["task"], row["metric"])) != row["computed"]:
            yield (NUMBER_TYPES, records.main_harness), f"{row['task']} {row['metric']} is {row['computed']} in one alone"
    if records.value(NUMBER_TYPES, "/agree") != all(row["agrees"] for row in rows):
        yield (NUMBER_TYPES,), "`agree` is not what all metrics say"


def _named(revisions: list[dict[str, Any]]) -> str | None:
    return revisions[-1]["name"] if revisions else None
