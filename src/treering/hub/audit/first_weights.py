"""The weights of step 0: whether they are first weights at all, and of the spread that card and settings declare."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from treering.hub.audit.contents import Contents, Weights
from treering.hub.audit.copies import repeated
from treering.hub.audit.findings import Finding, Severity
from treering.hub.strangers import named, shown

# Of layers that write to the residual stream, in the names of the families in use.
_WRITERS = re.compile(r"(?:attention\.dense|dense_4h_to_h|o_proj|down_proj|att_proj|attn_out|ff_out|c_proj|out_proj)\.weight$")
_DECLARED = {"small": re.compile(r"small[_ -]?init", re.I), "wang": re.compile(r"wang[_ -]?init", re.I)}
_DEVIATIONS, _SLACK, _ROUGH_SLACK = 6.0, 0.03, 0.15
_FEWEST_NUMBERS = 256
_SHOWN = 3


class Spread(NamedTuple):
    """A matrix of step 0, and its standard deviation as far as it was read."""

    tensor: str
    measured: float
    numbers: int

    def is_of(self, expected: float, slack: float) -> bool:
        """Return whether it is the spread of so many draws from a normal distribution of that one."""
        return abs(self.measured / expected - 1) <= slack + _DEVIATIONS / math.sqrt(2 * self.numbers)


def check_first_weights(contents: Contents) -> Iterator[Finding]:
    """Yield in what the weights of step 0 are not those that a training begins with, or not those declared."""
    branches = contents.listing.branches
    first = branches[0] if branches and branches[0].step == 0 else None
    weights = None if first is None or first.name in repeated(contents).whole else contents.weights(first)
    if first is None or weights is None:
        return
    if trained := sorted(_trained(weights)):
        problem = f"{first.name} has norms or biases that are not those of a model before its first update: {len(trained)}"
        evidence = (named([shown(name) for name in trained], 4),)
        advice = "look whether these are the first weights, each under its right name"
        yield Finding("first weights", Severity.WARNING, (first.name,), problem, evidence, advice)
        return
    config, card = contents.document(first, "config.json") or {}, contents.card or ""
    yield from _spreads(first.name, list(_matrices(weights)), config, card)


def _spreads(name: str, matrices: list[Spread], config: Mapping[str, Any], card: str) -> Iterator[Finding]:
    declared = {kind for kind, form in _DECLARED.items() if form.search(card)}
    hidden, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    if declared and _whole(hidden) and _whole(layers):
        spreads = {"small": math.sqrt(2 / (5 * hidden)), "wang": 2 / layers / math.sqrt(hidden)}
        expected = [
            (one, spreads["wang" if "wang" in declared and _WRITERS.search(one.tensor) else "small"]) for one in matrices
        ]
        wrong = [(one, spread) for one, spread in expected if not one.is_of(spread, _SLACK)] if "small" in declared else []
        if wrong:
            told = " and ".join(f"{kind}_init" for kind in sorted(declared))
            evidence = [
                f"{shown(one.tensor)}: standard deviation {one.measured:.5f}, declared {spread:.5f}" for one, spread in wrong
            ]
            problem = f"the card says {told}, and {len(wrong)} of {len(matrices)} matrices of {name} have another spread"
            advice = "correct the card by what the training did, which its step 0 shows"
            yield Finding("first weights", Severity.ERROR, (name,), problem, tuple(evidence[:_SHOWN]), advice)
        return
    told = config.get("initializer_range")
    if isinstance(told, float) and told > 0 and matrices and not any(one.is_of(told, _ROUGH_SLACK) for one in matrices):
        evidence = [f"{shown(one.tensor)}: standard deviation {one.measured:.5f}" for one in matrices[:_SHOWN]]
        problem = f"config.json says initializer_range {told:g}, and no matrix of {name} has that spread"
        advice = "write the range that was used: who trains again from config.json begins elsewhere"
        yield Finding("first weights", Severity.NOTE, (name,), problem, tuple(evidence), advice)


def _matrices(weights: Weights) -> Iterator[Spread]:
    for name, row in weights.samples.items():
        if len(weights.tensors[name].shape) == 2 and len(row) >= _FEWEST_NUMBERS and bool(np.isfinite(row).all()):
            yield Spread(name, float(row.astype(np.float64).std()), len(row))


def _trained(weights: Weights) -> Iterator[str]:
    """Yield the norms whose numbers are not all alike, and the biases that are not zero."""
    for name, row in weights.samples.items():
        if len(weights.tensors[name].shape) != 1 or len(row) == 0:
            continue
        if (name.endswith(".bias") and bool(row.any())) or ("norm" in name and bool((row != row[0]).any())):
            yield name


def _whole(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 10**9
