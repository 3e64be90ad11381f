"""What the headers of weights say: shapes, number types and layers, the same on every branch and as the settings say."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from treering.hub.audit.contents import SETTINGS, Contents, Weights
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.headers import FLOATS
from treering.hub.audit.samples import layer_of
from treering.hub.strangers import named, shown

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
_SHOWN = 4
_MOST_LACKING = 1000  # of a branch


def check_tensors(contents: Contents) -> Iterator[Finding]:
    """Yield the branches whose tensors are not those of the others, or not what their settings say."""
    branches = contents.listing.everything
    seen = {branch.name: weights for branch in branches if (weights := contents.weights(branch)) is not None}
    yield from _shapes(seen)
    yield from _types(seen)
    yield from _types_apart(contents, seen)
    yield from _layers(seen)


def numbers_in(weights: Weights) -> int:
    """Return how many numbers a branch's weights have, those of masks and the like apart."""
    return sum(fact.numbers for fact in weights.tensors.values() if fact.dtype in FLOATS)


def main_dtype(weights: Weights) -> str:
    """Return the number type that most numbers of a branch's weights have."""
    counts: Counter[str] = Counter()
    for fact in weights.tensors.values():
        counts[fact.dtype] += fact.numbers
    return counts.most_common(1)[0][0] if counts else ""


def dtype_of(config: Mapping[str, Any] | None) -> str | None:
    """Return the number type that a configuration says, as safetensors write it, or None."""
    told = (config or {}).get("dtype", (config or {}).get("torch_dtype"))
    return _DTYPES.get(told.removeprefix("torch.")) if isinstance(told, str) else None


def _shapes(seen: Mapping[str, Weights]) -> Iterator[Finding]:
    shapes = {name: {tensor: fact.shape for tensor, fact in weights.tensors.items()} for name, weights in seen.items()}
    counted = Counter(frozenset(shape.items()) for shape in shapes.values())
    if len(counted) < 2:
        return
    usual = dict(counted.most_common(1)[0][0])
    for name, shape in shapes.items():
        if shape != usual:
            apart = sorted(tensor for tensor in shape.keys() | usual.keys() if shape.get(tensor) != usual.get(tensor))
            evidence = [f"{shown(tensor)}: {shape.get(tensor)}, elsewhere {usual.get(tensor)}" for tensor in apart[:_SHOWN]]
            problem = f"{name} has other tensors than most branches, or of other shapes: {len(apart)} of them"
            yield Finding("shapes change", Severity.ERROR, (name,), problem, tuple(evidence), "convert its checkpoint again")


def _types(seen: Mapping[str, Weights]) -> Iterator[Finding]:
    types = {name: main_dtype(weights) for name, weights in seen.items()}
    counted = Counter(types.values())
    if len(counted) > 1:
        usual = counted.most_common(1)[0][0]
        others = [name for name, dtype in types.items() if dtype != usual]
        told = ", ".join(f"{dtype} on {count}" for dtype, count in counted.most_common())
        problem = f"the weights of {named(others)} are of another number type than most branches'"
        advice = "publish every branch in one number type: rounding looks like training"
        yield Finding("number types change", Severity.WARNING, tuple(others), problem, (told,), advice)


def _types_apart(contents: Contents, seen: Mapping[str, Weights]) -> Iterator[Finding]:
    apart: dict[tuple[str, str], list[str]] = {}
    for branch in contents.listing.everything:
        told = dtype_of(contents.document(branch, SETTINGS[0]))
        if told is not None and branch.name in seen and (found := main_dtype(seen[branch.name])) != told:
            apart.setdefault((told, found), []).append(branch.name)
    for (told, found), names in apart.items():
        problem = f"config.json says {told}, and the weights are {found}, on {named(names)}"
        advice = "say in config.json what the weights are: transformers 5 loads them as it says"
        yield Finding("number types apart", Severity.WARNING, tuple(names), problem, (), advice)


def _layers(seen: Mapping[str, Weights]) -> Iterator[Finding]:
    """Yield the branches in which a layer lacks a tensor that most layers have, and has no other in its place."""
    apart: dict[tuple[str, ...], list[str]] = {}
    for name, weights in seen.items():
        kinds: dict[int, set[str]] = {}
        for tensor in weights.tensors:
            layer, kind = layer_and_kind(tensor)
            if layer is not None:
                kinds.setdefault(layer, set()).add(kind)
        usual = Counter(map(frozenset, kinds.values())).most_common(1)
        lacking = (
            f"{kind} in layer {layer}"
            for layer, found in kinds.items()
            if found < usual[0][0]
            for kind in sorted(usual[0][0] - found)
        )
        if few := tuple(islice(lacking, _MOST_LACKING)):
            apart.setdefault(tuple(sorted(few)), []).append(name)
    for lacking, names in apart.items():
        problem = f"layers lack tensors that the others have, on {named(names)}"
        yield Finding("layers incomplete", Severity.ERROR, tuple(names), problem, (named(lacking, _SHOWN),), "convert again")


def layer_and_kind(tensor: str) -> tuple[int | None, str]:
    """Return the layer that a tensor is of, None for one outside of layers, and its name with `*` for that number."""
    layer = layer_of(tensor)
    parts = tensor.split(".")
    place = next((place for place, part in enumerate(parts) if part.isascii() and part.isdigit()), None)
    return layer, tensor if place is None else ".".join([*parts[:place], "*", *parts[place + 1 :]])
