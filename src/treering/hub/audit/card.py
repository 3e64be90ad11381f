"""Whether the numbers on a card are those of its model, and agree with each other."""

from collections.abc import Iterator
from itertools import combinations

from treering.hub.audit.contents import TOKENIZER, Contents, Weights
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.samples import layer_of
from treering.hub.audit.special import token_numbers
from treering.hub.audit.statements import Statement, statements_of, title_of
from treering.hub.audit.tensors import main_dtype, numbers_in
from treering.hub.listed import Branch, Listing
from treering.hub.strangers import shown

# Of a configuration, by the names in use.
_FIELDS = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "context": ("max_position_embeddings", "n_positions", "max_sequence_length"),
    "vocabulary": ("vocab_size",),
}
_WORDS = {
    **{"layers": "layers", "hidden": "hidden dimension", "heads": "attention heads", "context": "context length"},
    **{"vocabulary": "vocabulary", "parameters": "parameters", "checkpoints": "checkpoints", "steps": "steps"},
    **{"trained tokens": "tokens trained on", "batch tokens": "tokens of a batch", "epochs": "epochs"},
}
_SHARES = {"parameters": 0.05, "trained tokens": 0.02, "batch tokens": 0.03, "epochs": 0.03}
_ONE_OF = ("trained tokens", "batch tokens", "steps", "parameters")  # a card has one of, not a list
_SIZES_SHARE, _GIBI = 0.1, 1.024**3
_ITEM_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
_TYPE_NAMES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
_Truth = tuple[float, ...]  # any of which a card may say
_ADVICE = "correct the number; a card whose numbers are made from records cannot be wrong so"


def check_card_numbers(contents: Contents) -> Iterator[Finding]:
    """Yield the numbers on the card that are not those of settings, weights and branches, or contradict each other."""
    listing = contents.listing
    card = contents.card
    if listing.main is None or card is None:
        return
    stated = list(statements_of(card, listing.name or title_of(card)))
    weights = contents.weights(listing.main)
    truths = {**_of_settings(contents, listing.main), **_of_branches(listing), **_of_weights(weights)}
    for quantity, truth in truths.items():
        yield from _against(quantity, truth, [one for one in stated if one.quantity == quantity])
    for quantity in _ONE_OF:
        if quantity not in truths:
            yield from _against_each_other(quantity, [one for one in stated if one.quantity == quantity and one.sure])
    if weights is not None:
        yield from _sizes(weights, [one for one in stated if one.quantity.startswith("bytes in ")])
    yield from _products(stated)
    yield from _repeated(listing, stated)


def _of_settings(contents: Contents, main: Branch) -> dict[str, _Truth]:
    """Return what the settings say of each quantity; of the vocabulary also how many tokens there are, without padding."""
    config, tokens = contents.document(main, "config.json") or {}, token_numbers(contents.document(main, TOKENIZER) or {})
    found = {
        quantity: tuple(float(config[name]) for name in names if _whole(config.get(name)))
        for quantity, names in _FIELDS.items()
    }
    if found["vocabulary"] and tokens:
        found["vocabulary"] += (float(len(tokens)),)
    return {quantity: values for quantity, values in found.items() if values}


def _of_weights(weights: Weights | None) -> dict[str, _Truth]:
    """Return how many parameters there are: all, and without the matrices outside of layers, which some leave out."""
    if weights is None:
        return {}
    outside = sum(fact.numbers for name, fact in weights.tensors.items() if layer_of(name) is None and len(fact.shape) > 1)
    return {"parameters": (float(numbers_in(weights)), float(numbers_in(weights) - outside))}


def _of_branches(listing: Listing) -> dict[str, _Truth]:
    """Return what the names of branches say: their number, the last step, and, where they say tokens, those and a batch's."""
    places = [branch.place for branch in listing.branches if branch.place is not None]
    if not places:
        return {}
    found: dict[str, _Truth] = {"checkpoints": (float(len(places)),)}
    stages = {place.stage for place in places}
    if len(stages) == 1 and len(listing.series) == 1 and listing.branches[-1].counts_updates:
        found["steps"] = (float(places[-1].step),)
        if places[-1].tokens and places[-1].step:
            tokens, steps = float(places[-1].tokens), places[-1].step
            found |= {"trained tokens": (tokens,), "batch tokens": (tokens / steps,)}
    return found


def _against(quantity: str, truth: _Truth, stated: list[Statement]) -> Iterator[Finding]:
    """Yield the statements that the truth refutes; of checkpoints, of which a card counts parts too, all have to be wrong."""
    share = _SHARES.get(quantity, 0.0)
    wrong = [one for one in stated if not any(one.agrees(value, share) for value in truth)]
    right = {one.line for one in stated if one not in wrong}
    parts = quantity == "checkpoints" and len(wrong) < len(stated)
    told = [one for one in wrong if (one.sure or quantity == "checkpoints") and one.line not in right]
    if told and not (parts and not any(one.line.startswith("|") for one in told)):
        problem = f"the card says {_number(told[0].value)} for {_WORDS[quantity]}, and there are {_number(truth[0])}"
        evidence = tuple(shown(line) for line in dict.fromkeys(one.line for one in told))[:3]
        yield Finding("card numbers", Severity.WARNING, (), problem, evidence, _ADVICE)


def _against_each_other(quantity: str, stated: list[Statement]) -> Iterator[Finding]:
    share = _SHARES.get(quantity, 0.0)
    for one, other in combinations(stated, 2):
        if not (one.agrees(other.value, share) or other.agrees(one.value, share)):
            problem = f"the card says two things of {_WORDS[quantity]}: {_number(one.value)} and {_number(other.value)}"
            yield Finding("card numbers", Severity.WARNING, (), problem, (shown(one.line), shown(other.line)), _ADVICE)
            return


def _sizes(weights: Weights, stated: list[Statement]) -> Iterator[Finding]:
    numbers, released = numbers_in(weights), _TYPE_NAMES.get(main_dtype(weights))
    for one in stated:
        kind = one.quantity.removeprefix("bytes in ")
        truth = float(numbers * _ITEM_BYTES[kind])
        if not (one.agrees(truth, _SIZES_SHARE) or one.agrees(truth / _GIBI, _SIZES_SHARE)):
            problem = f"the card says {_number(one.value)} bytes in {kind}, and {numbers:,} parameters take {_number(truth)}"
            yield Finding("card numbers", Severity.WARNING, (), problem, (shown(one.line), f"released in {released}"), _ADVICE)


def _products(stated: list[Statement]) -> Iterator[Finding]:
    """Yield where steps times batch are not the tokens, or data times epochs: of each the first statement counts."""
    first = {one.quantity: one for one in reversed(stated) if one.sure}
    for one, other, product in (("steps", "batch tokens", "trained tokens"), ("epochs", "data tokens", "trained tokens")):
        if all(quantity in first for quantity in (one, other, product)):
            parts = first[one], first[other], first[product]
            expected = parts[0].value * parts[1].value
            slack = sum(part.slack / part.value for part in parts if part.value)
            if abs(expected - parts[2].value) > (slack + 0.05) * parts[2].value:
                problem = f"the card's {one} × {other} are {_number(expected)}, and it says {_number(parts[2].value)} {product}"
                evidence = tuple(dict.fromkeys(shown(part.line) for part in parts))
                yield Finding("card numbers", Severity.WARNING, (), problem, evidence, _ADVICE)


def _repeated(listing: Listing, stated: list[Statement]) -> Iterator[Finding]:
    epochs = max((one.value for one in stated if one.quantity == "epochs"), default=0.0)
    said = any("exposure" in path or path.startswith("order/") for branch in listing.everything for path in branch.files)
    if epochs > 1.05 and not said:
        line = next(one.line for one in stated if one.quantity == "epochs" and one.value == epochs)
        problem = f"the data were gone through {epochs:g} times, and no file says what had been seen how often at a checkpoint"
        advice = "publish the order of the data, or counts: epochs that are shuffled together have no first one to stop after"
        yield Finding("repeated data", Severity.WARNING, (), problem, (shown(line),), advice)


def _whole(value: object) -> bool:
    return type(value) is int and 0 < value < 10**15


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:g}"
