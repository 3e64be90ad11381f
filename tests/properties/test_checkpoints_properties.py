"""Any state that is finite is loaded as it was saved; any schedule keeps what it says."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from training_making import bits, scheduled

from treering.checkpoints.schedule import planned_steps, resumable_steps
from treering.checkpoints.state import TrainingState, without_moments
from treering.checkpoints.store import (
    digest_tensors,
    load_checkpoint,
    load_kept,
    read_checkpoint_record,
    save_checkpoint,
    saved_steps,
)

tensors = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True),
).map(lambda array: torch.from_numpy(np.asarray(array)))
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__" and not name.startswith(("first_moment", "second_moment"))
)


@settings(max_examples=20)
@given(named=st.dictionaries(names, st.tuples(tensors, tensors, tensors), min_size=1, max_size=4), step=st.integers(0, 2**40))
def test_any_finite_state_is_loaded_as_it_was_saved(
    named: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]], step: int
) -> None:
    groups = [{name: three[kind] for name, three in named.items()} for kind in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), TrainingState(step, *groups), "sha256:run", tokens=0)
        assert saved_steps(Path(folder)) == [step]
        loaded = load_checkpoint(Path(folder), step, "sha256:run")
    assert loaded.step == step
    for group, found in zip(groups, (loaded.weights, loaded.first_moments, loaded.second_moments), strict=True):
        assert {n: (t.shape, bits(t)) for n, t in group.items()} == {n: (t.shape, bits(t)) for n, t in found.items()}


@settings(max_examples=20)
@given(named=st.dictionaries(names, st.tuples(tensors, tensors, tensors), min_size=1, max_size=4), step=st.integers(1, 2**40))
def test_of_any_state_kept_by_its_weights_alone_they_are_loaded_and_the_moments_digests_stay(
    named: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]], step: int
) -> None:
    state = TrainingState(step, *({name: three[kind] for name, three in named.items()} for kind in range(3)))
    digests = digest_tensors(state)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), without_moments(state), "sha256:run", tokens=0, digests=digests)
        loaded = load_kept(Path(folder), step, "sha256:run")
        record = read_checkpoint_record(Path(folder) / f"step{step}", "sha256:run")
    assert {n: (t.shape, bits(t)) for n, t in loaded.weights.items()} == {
        n: (t.shape, bits(t)) for n, t in state.weights.items()
    }
    assert loaded.first_moments == loaded.second_moments == {}
    assert record["tensors"] == digests


@given(
    at=st.lists(st.integers(0, 300), unique=True, max_size=12).map(tuple),
    every=st.integers(1, 300),
    resumable_every=st.integers(1, 300),
    last=st.integers(1, 200),
)
def test_any_schedule_can_go_on_from_its_last_step_and_from_each_kept_multiple(
    at: tuple[int, ...], every: int, resumable_every: int, last: int
) -> None:
    recipe = scheduled(last, at=at, every=every, resumable_every=resumable_every)
    planned, whole = planned_steps(recipe), resumable_steps(recipe)
    assert list(whole) == [step for step in planned if step % resumable_every == 0 or step == last]


@given(
    at=st.lists(st.integers(0, 300), unique=True, max_size=12).map(tuple),
    every=st.integers(1, 300),
    last=st.integers(1, 200),
)
def test_any_schedule_keeps_the_last_step_and_those_it_names_once_and_in_order(
    at: tuple[int, ...], every: int, last: int
) -> None:
    steps = planned_steps(scheduled(last, at=at, every=every))
    assert list(steps) == sorted(set(steps))
    assert steps[-1] == last
    kept = {step for step in range(last + 1) if step in at or (step % every == 0 and every <= last) or step == last}
    assert set(steps) == kept
