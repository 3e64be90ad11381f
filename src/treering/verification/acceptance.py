"""Whether what differs between two machines differs by no more than rounding does.

The same updates are computed here twice: as the recipe says, and in another arithmetic (every first weight moved to a
neighbouring number, micro-batches cut smaller, another number of threads). How far these two are apart is this machine's own
noise, and what another machine published may be a few times as far from here, not more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import Recipe
from treering.training.steps import StepReport
from treering.verification.verdicts import Check, Verdict

LIMIT = 10.0  # times the noise; docs/determinism.md has what was measured on both sides of it
# A change of one per cent in the path must not be able to hide in the noise.
LARGEST_NOISE = 0.01 / LIMIT
_EXACT = ("step", "batch_digest", "learning_rate", "tokens")
_NUMBERS = ("loss_nats", "gradient_norm", "update_norm")
# Where two runs here happen to agree in a number, that is luck and not precision: a few units in the last place of fp32.
_SMALLEST_RELATIVE_NOISE = 2.0**-20
_ULP = 2.0**-23
_SEED = 0


@dataclass(frozen=True)
class Distance:
    """How far the published is from what was computed here, and how far two computations here are apart.

    Both are shares: of the way travelled from the start for tensors, of the number itself for numbers.
    """

    what: str
    apart: float
    noise: float

    @property
    def ratio(self) -> float:
        """The one in units of the other."""
        if self.apart == 0:
            return 0.0
        return self.apart / self.noise if self.noise and math.isfinite(self.apart) else math.inf

    def __str__(self) -> str:
        return f"{self.what} {self.ratio:.2g} × this machine's own noise, which is {self.noise:.1e}"


@dataclass(frozen=True)
class Outcome:
    """What a stretch of updates came to: a report for each, and the state after the last."""

    reports: list[StepReport]
    state: TrainingState


def other_arithmetic(recipe: Recipe) -> Recipe:
    """Return a recipe of the same mathematics that is computed in another order: smaller micro-batches, other threads."""
    training = recipe.training
    size = next(size for size in range(training.micro_batch_size // 2 or 1, 0, -1) if training.micro_batch_size % size == 0)
    changed = training.model_copy(update={"micro_batch_size": size, "threads": 1 if training.threads > 1 else 2})
    return recipe.model_copy(update={"training": changed})


def neighbour(state: TrainingState) -> TrainingState:
    """Return the state with every weight moved to the next number above or below it."""
    signs = torch.Generator().manual_seed(_SEED)
    weights = {}
    for name, weight in state.weights.items():
        side = torch.randint(2, weight.shape, generator=signs).to(weight.dtype).sub_(0.5).mul_(math.inf)
        weights[name] = torch.nextafter(weight, side)
    moments = ({name: tensor.clone() for name, tensor in group.items()} for group in _groups(state)[1:])
    return TrainingState(state.step, weights, *moments)


def judge(name: str, start: TrainingState, published: Outcome, here: Outcome, elsewhere: Outcome) -> Check:
    """Return `consistent` where everything published is within `LIMIT` times the noise; `diverged` with the furthest where not.

    `not run` where the noise itself is so large that a change of one per cent could hide in it.

    Args:
        name: Of the check.
        start: Where all three began, `elsewhere` beside it.
    """
    if differing := next(_exact_differences(published, here), None):
        return Check(name, Verdict.DIVERGED, differing)
    found = list(distances(start, published, here, elsewhere))
    furthest = max(found, key=lambda distance: distance.ratio)
    says = {
        Verdict.DIVERGED: f"step{published.state.step}: {furthest}; at most {LIMIT:.0f} times is rounding",
        Verdict.NOT_RUN: f"the noise is too large to judge by ({found[0]}); take a shorter segment",
        Verdict.CONSISTENT: f"{found[0]}; furthest: {furthest}",
    }
    verdict = verdict_of(found)
    return Check(name, verdict, says[verdict])


def verdict_of(found: Sequence[Distance]) -> Verdict:
    """Return the verdict on distances as `distances` yields them, that of all weights first."""
    if max(distance.ratio for distance in found) > LIMIT:
        return Verdict.DIVERGED
    return Verdict.NOT_RUN if found[0].noise > LARGEST_NOISE else Verdict.CONSISTENT


def _exact_differences(published: Outcome, here: Outcome) -> Iterator[str]:
    """Yield where what no arithmetic can change is not the same."""
    for theirs, ours in zip(published.reports, here.reports, strict=True):
        for name in _EXACT:
            if (said := getattr(theirs, name)) != (true := getattr(ours, name)):
                yield f"update {ours.step - 1}, to step{ours.step}: {name} {said!r} published, {true!r} here"


def distances(start: TrainingState, published: Outcome, here: Outcome, elsewhere: Outcome) -> Iterator[Distance]:
    """Yield how far the published outcome is from the one here: of all weights, both moments, each tensor, each number."""
    names = ("weights", "first moments", "second moments")
    for name, *groups in zip(names, *map(_groups, (start, published.state, here.state, elsewhere.state)), strict=True):
        yield from _distances_of_group(name, *groups)
    for name in _NUMBERS:
        yield _distance_of_numbers(name, *(_column(outcome, name) for outcome in (published, here, elsewhere)))


def _groups(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    return state.weights, state.first_moments, state.second_moments


def _column(outcome: Outcome, name: str) -> Tensor:
    return torch.tensor([getattr(report, name) for report in outcome.reports], dtype=torch.float64)


Group = Mapping[str, Tensor]


def _distances_of_group(name: str, start: Group, published: Group, here: Group, elsewhere: Group) -> Iterator[Distance]:
    squares = {key: _squares(start[key], published[key], here[key], elsewhere[key]) for key in published}
    if squares:  # moments are not kept with every checkpoint
        yield _distance(name, torch.stack(list(squares.values())).sum(0))
    for key, of_tensor in squares.items():
        yield _distance(f"{name} of {key}", of_tensor)


def _squares(start: Tensor, published: Tensor, here: Tensor, elsewhere: Tensor) -> Tensor:
    """Return four squared lengths, fp64: published to here, here to elsewhere, one unit in the last place, start to here."""
    wide = [tensor.detach().cpu().double() for tensor in (start, published, here, elsewhere)]
    pairs = (wide[1] - wide[2], wide[2] - wide[3], _ULP * wide[2], wide[2] - wide[0])
    return torch.stack([pair.square().sum() for pair in pairs])


def _distance(what: str, squares: Tensor) -> Distance:
    apart, noise, ulp, path = squares.sqrt().tolist()
    share = path or 1.0
    return Distance(what, apart / share, max(noise, ulp) / share)


def _distance_of_numbers(name: str, published: Tensor, here: Tensor, elsewhere: Tensor) -> Distance:
    apart = ((published - here) / here).abs().max()
    noise = ((here - elsewhere) / here).square().mean().sqrt()
    return Distance(name, float(apart), max(float(noise), _SMALLEST_RELATIVE_NOISE))
