"""Which items of the tasks were trained on, and the scores without them; scores in the number type of the release."""

from collections.abc import Sequence

from treering.card.claims import Claims
from treering.card.forms import ABSENT
from treering.card.markdown import table
from treering.card.records import NUMBER_TYPES, OVERLAP


def overlap(claims: Claims, tasks: Sequence[str]) -> list[str]:
    """Return the lines that say how many items of each task were trained on; none where no items were looked for.

    Args:
        tasks: The addresses of the scores that are shown.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    if not claims.records.holds(OVERLAP) or not tasks:
        return []
    words, shortest = (claims.cite("count", f"{OVERLAP}#/{field}") for field in ("words", "shortest"))
    entries = {
        entry["task"]: f"{OVERLAP}#/{kind}/{place}" for kind in ("tasks", "groups") for place, entry in _listed(claims, kind)
    }
    rows = [_row(claims, task, entries[claims.value(f"{task}/task")]) for task in tasks]
    return [
        "",
        f"Every item was looked for in the training text, by {words} words of it in a row, or the whole of a text of it that "
        f"has fewer, but {shortest} at least; those in a batch were trained on:",
        "",
        table(
            ("Benchmark", "Items", "Long enough to tell", "In the corpus", "Trained on", "Metric", "Score without them"), rows
        ),
        "",
    ]


def _listed(claims: Claims, kind: str) -> Sequence[tuple[int, dict[str, str]]]:
    return list(enumerate(claims.value(f"{OVERLAP}#/{kind}")))


def _row(claims: Claims, task: str, entry: str) -> tuple[str, ...]:
    counts = [claims.cite("count", f"{entry}/{field}") for field in ("items", "long_enough", "in_corpus", "trained_on")]
    without, score = claims.value(f"{task}/without_overlap"), ABSENT
    if without is not None and without["metrics"]:
        score = claims.cite("score", *(f"{task}/without_overlap/metrics/0/{part}" for part in ("value", "stderr")))
    return (claims.cite("code", f"{task}/task"), *counts, claims.cite("code", f"{task}/metrics/0/metric"), score)


def number_types(claims: Claims) -> list[str]:
    """Return the lines that say how far scores in the released number type are from those shown; none where it is one.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    if not claims.records.holds(NUMBER_TYPES):
        return []
    released = claims.cite("text", f"{NUMBER_TYPES}#/released")
    if claims.value(f"{NUMBER_TYPES}#/largest_difference") is None:
        return [f"In {released}, as it is released, no score that has a standard error was there to compare.", ""]
    largest = claims.cite("score", f"{NUMBER_TYPES}#/largest_difference")
    return [f"In {released}, as it is released, the scores differ from these by {largest} of a standard error at most.", ""]
