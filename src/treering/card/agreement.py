"""Records that speak of the same thing, and whether they say the same."""

from collections.abc import Iterator
from typing import Any

from treering.card.claims import Evidence
from treering.card.records import (
    COMPARISON,
    CORPUS,
    EVALUATION,
    NUMBER_TYPES,
    ORDER,
    REVISIONS,
    TOKENS,
    TRAINING,
    UNIGRAM,
    Records,
)
from treering.errors import ClaimError

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
    found = [*_in_fields(records), *_in_lists(records), *_in_verdicts(records), *_in_comparison(records)]
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


def _in_comparison(records: Records) -> Iterator[_Problem]:
    """Yield where the comparison with published scores is not one of the last revision's scores, or has counted wrong."""
    if not records.holds(COMPARISON):
        return
    scored = records.value(records.main_harness, "")
    shown = [*(task for task in scored["tasks"] if task["group"] is None), *scored["groups"]]
    scores = {(task["task"], metric["metric"]): metric for task in shown for metric in task["metrics"]}
    for field, other in (("revision", scored["revision"]), ("parameters", records.value(TRAINING, "/parameters"))):
        if (value := records.value(COMPARISON, f"/{field}")) != other:
            yield (COMPARISON,), f"its {field} is {value!r}, elsewhere {other!r}"
    for entry in records.value(COMPARISON, "/tasks"):
        name, reference = f"{entry['task']} {entry['metric']}", entry["reference"]
        score = scores.get((entry["task"], entry["metric"]), {})
        for field in ("value", "stderr", "chance", "higher_is_better"):
            if field not in score or entry[field] != score[field]:
                yield (COMPARISON, records.main_harness), f"{field} of {name} is {entry[field]!r}, {score.get(field)!r}"
        if reference is not None and reference["difference"] != entry["value"] - reference["value"]:
            yield (COMPARISON,), f"the difference of {name} is {reference['difference']!r}, not that of the two scores"


def _named(revisions: list[dict[str, Any]]) -> str | None:
    return revisions[-1]["name"] if revisions else None
