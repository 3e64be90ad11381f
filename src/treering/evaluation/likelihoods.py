"""What a model gives to continuations: each context read once, the head applied to the continuations' positions alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

_ROWS_AT_ONCE = 2048
# A context is shared where it is long enough to be worth a mask; so many tokens are one row's at most.
_SHORTEST_SHARED, _LONGEST_PACKED = 16, 1024

Tokens = Sequence[int]
Scored = tuple[float, bool]
# What models raise that take no masks, positions or other inputs of these shapes.
_REFUSALS = (TypeError, ValueError, RuntimeError, IndexError)
Reading = Literal["contexts shared", "contexts apart", "by the harness"]


@dataclass(frozen=True)
class _Packed:
    """A context and the continuations that are read after it, none of which sees another; `numbers` are their requests."""

    context: Tokens
    continuations: tuple[Tokens, ...]
    numbers: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that are read: the last of a continuation is predicted only."""
        return len(self.context) + sum(len(tokens) - 1 for tokens in self.continuations)


def way_of_reading(model: PreTrainedModel) -> Reading:
    """Return how a model's continuations can be scored, by trying it on a few tokens.

    A context is shared by its continuations where a model heeds masks and positions; the head is applied by itself where that
    gives the model's logits. Others (scaled logits, states that run on, windows) are left to the harness.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Module):
        return "by the harness"
    try:
        return _try_reading(model, head)
    except _REFUSALS:
        return "by the harness"


def _try_reading(model: PreTrainedModel, head: torch.nn.Module) -> Reading:
    tokens = (torch.arange(24, device=model.device) % model.config.vocab_size).unsqueeze(0)
    with torch.inference_mode():
        states = getattr(model.base_model(tokens, use_cache=False), "last_hidden_state", None)
        if states is None or not _near(head(states), model(tokens, use_cache=False).logits):
            return "by the harness"
        ids = tokens[0].tolist()
        pairs = [(ids[:_SHORTEST_SHARED], ids[start:stop]) for start, stop in ((16, 20), (20, 24), (16, 18))]
        if _looks_through_windows(model):  # a mask of ours takes the place of its own, in contexts longer than those tried
            return "contexts apart"
        apart = score_continuations(model, pairs, 1, lambda _: None, share=False)
        try:
            together = score_continuations(model, pairs, 1, lambda _: None, share=True)
        except _REFUSALS:
            return "contexts apart"
    ends = [torch.tensor([nats for nats, _ in found]) for found in (apart, together)]
    return "contexts shared" if _near(*ends) else "contexts apart"


def _looks_through_windows(model: PreTrainedModel) -> bool:
    """Say whether any of a model's layers sees less than all that came before."""
    layers = getattr(model.config, "layer_types", None) or ()
    return bool(getattr(model.config, "sliding_window", None)) or any(layer != "full_attention" for layer in layers)


def _near(one: Tensor, other: Tensor) -> bool:
    """Return whether two results are equal but for rounding; what is no number is seen later, where it is named."""
    bound = 64 * torch.finfo(one.dtype).eps * max(1.0, float(one.abs().max()))
    return bool((one - other).abs().max() <= bound) or not bool(one.isfinite().all())


def score_continuations(
    model: PreTrainedModel,
    pairs: Sequence[tuple[Tokens, Tokens]],
    batch_size: int,
    done: Callable[[int], None],
    *,
    share: bool = True,
) -> list[Scored]:
    """Return for each pair the continuation's log probability, nats, and whether each token of it is the likeliest.

    Args:
        model: In evaluation mode.
        pairs: Context and continuation, tokens, each at least one; both together fit into the model's context but for the
            last token.
        batch_size: Contexts in the forward pass of the longest; of shorter ones so many more as have as many tokens together.
        done: Told how many pairs have been scored.
        share: Whether to read a context once for all its continuations.

    Exact: Log-softmax in the model's number type, summed over the continuation in it, as the harness does; the products have
        other shapes than the harness's, so scores agree within rounding.
    """
    found: dict[int, Scored] = {}
    shared, alone = _pack(pairs, share=share)
    for groups in (shared, alone):
        groups.sort(key=lambda group: (-group.size, *group.context, *group.continuations[0]))
        most, start = batch_size * groups[0].size if groups else 0, 0
        while start < len(groups):
            batch = groups[start : start + max(1, most // groups[start].size)]
            start += len(batch)
            scores = _score_batch(model, batch, masked=groups is shared)
            numbers = [number for group in batch for number in group.numbers]
            found |= zip(numbers, scores, strict=True)
            done(len(numbers))
    return [found[number] for number in range(len(pairs))]


def _pack(pairs: Sequence[tuple[Tokens, Tokens]], *, share: bool) -> tuple[list[_Packed], list[_Packed]]:
    """Return the pairs by context: those that share one, and those that are read alone."""
    by_context: dict[tuple[int, ...], list[int]] = {}
    for number, (context, _) in enumerate(pairs):
        by_context.setdefault(tuple(context), []).append(number)
    shared: list[_Packed] = []
    alone: list[_Packed] = []
    for context, numbers in by_context.items():
        for some in _fitting(context, numbers, pairs) if share else [[number] for number in numbers]:
            (shared if len(some) > 1 else alone).append(
                _Packed(context, tuple(pairs[number][1] for number in some), tuple(some))
            )
    return shared, alone


def _fitting(context: Tokens, numbers: Sequence[int], pairs: Sequence[tuple[Tokens, Tokens]]) -> Iterator[list[int]]:
    """Yield the pairs of a context in groups that fit into one row; one at a time where it is short."""
    some: list[int] = []
    size = len(context)
    for number in numbers:
        more = len(pairs[number][1]) - 1
        if some and (len(context) < _SHORTEST_SHARED or size + more > _LONGEST_PACKED):
            yield some
            some, size = [], len(context)
        some.append(number)
        size += more
    yield some


def _score_batch(model: PreTrainedModel, batch: Sequence[_Packed], *, masked: bool) -> list[Scored]:
    width = max(group.size for group in batch)
    inputs, segments, positions = (torch.zeros(len(batch), width, dtype=torch.long) for _ in range(3))
    segments -= 1
    places: list[int] = []
    for row, group in enumerate(batch):
        tokens, segment, position, own = _lay_out(group)
        inputs[row, : group.size] = torch.tensor(tokens)
        segments[row, : group.size] = torch.tensor(segment)
        positions[row, : group.size] = torch.tensor(position)
        places += [row * width + place for place in own]
    options = {"attention_mask": _mask(segments, model), "position_ids": positions.to(model.device)} if masked else {}
    continuations = [tokens for group in batch for tokens in group.continuations]
    targets = torch.tensor([token for tokens in continuations for token in tokens], device=model.device)
    with torch.inference_mode():
        states = model.base_model(inputs.to(model.device), use_cache=False, **options).last_hidden_state
        nats, likeliest = _score_targets(model, states.flatten(0, 1)[places], targets)
    counts = [len(tokens) for tokens in continuations]
    parts = zip(nats.split(counts), likeliest.split(counts), strict=True)
    return [(float(mine.sum()), bool(greedy.all())) for mine, greedy in parts]


def _lay_out(group: _Packed) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return a row's tokens, whose each is (0 the context's), their positions, and where each target is predicted."""
    tokens, length = list(group.context), len(group.context)
    segments, positions, places = [0] * length, list(range(length)), []
    for number, continuation in enumerate(group.continuations, start=1):
        places += [length - 1, *range(len(tokens), len(tokens) + len(continuation) - 1)]
        tokens += continuation[:-1]
        segments += [number] * (len(continuation) - 1)
        positions += range(length, length + len(continuation) - 1)
    return tokens, segments, positions, places


def _mask(segments: Tensor, model: PreTrainedModel) -> Tensor:
    """Return what is added to attention's scores, [batch, 1, to, from]: each token sees the context, its own and itself."""
    width = segments.shape[1]
    before = torch.ones(width, width, dtype=torch.bool).tril()
    seen = (segments.unsqueeze(1) == 0) | (segments.unsqueeze(1) == segments.unsqueeze(2))
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~(seen & before), torch.finfo(model.dtype).min)
    return mask.unsqueeze(1).to(model.device)


def _score_targets(model: PreTrainedModel, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    head = cast("torch.nn.Module", model.get_output_embeddings())
    nats, likeliest = [], []
    for some, wanted in zip(states.split(_ROWS_AT_ONCE), targets.split(_ROWS_AT_ONCE), strict=True):
        scores = log_softmax(head(some), dim=-1)
        nats.append(scores.gather(1, wanted.unsqueeze(1)).squeeze(1))
        likeliest.append(scores.argmax(dim=-1) == wanted)
    return torch.cat(nats), torch.cat(likeliest)
