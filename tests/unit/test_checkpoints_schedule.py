"""Which steps are kept."""

from pathlib import Path

import pytest
from training_making import scheduled

from treering.checkpoints.schedule import checkpoint_name, planned_steps, resumable_steps
from treering.config.reading import read_recipe

EARLY = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@pytest.mark.parametrize("size", ["14m", "160m", "12b"])
def test_pythia_keeps_154_steps(repository: Path, size: str) -> None:
    recipe = read_recipe(repository / "recipes" / f"pythia-{size}.yaml")
    steps = planned_steps(recipe)
    assert steps == (*EARLY, *range(1000, 143_001, 1000))
    assert len(steps) == 154


@pytest.mark.parametrize(
    ("at", "every", "last", "steps"),
    [
        (EARLY, 1000, 12, (0, 1, 2, 4, 8, 12)),
        (EARLY, 1000, 1, (0, 1)),
        ((), 1000, 12, (12,)),
        ((), 5, 12, (0, 5, 10, 12)),
        ((), 6, 12, (0, 6, 12)),
        ((3, 12, 99), 1000, 12, (3, 12)),
        ((7, 3), 1000, 12, (3, 7, 12)),
        ((0, 5), 5, 10, (0, 5, 10)),
        ((), 1, 3, (0, 1, 2, 3)),
    ],
)
def test_steps_are_those_named_those_at_the_interval_and_the_last(
    at: tuple[int, ...], every: int, last: int, steps: tuple[int, ...]
) -> None:
    assert planned_steps(scheduled(last, at=at, every=every)) == steps


@pytest.mark.parametrize(
    ("at", "every", "last", "steps"),
    [
        ((), 2, 4, (2, 4)),
        ((0, 1), 2, 4, (0, 1, 2, 4)),
        ((3,), 100, 7, (3, 7)),
    ],
)
def test_gpt_neox_keeps_step_0_where_it_is_named(at: tuple[int, ...], every: int, last: int, steps: tuple[int, ...]) -> None:
    recipe = scheduled(last, imported=True, at=at, every=every)
    assert planned_steps(recipe) == steps
    assert resumable_steps(recipe) == ()


def test_a_checkpoint_is_named_after_its_step_as_a_branch_is() -> None:
    assert [checkpoint_name(step) for step in (0, 64, 143_000)] == ["step0", "step64", "step143000"]
