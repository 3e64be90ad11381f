"""Courses that are of one training, and courses that break: distances, what is told of them, and what is read for them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hub_audit_making import PYTHIA_STEPS, Training

from treering.hub.audit.distances import breaks_of, course_of, detours_of, jumps_of
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.headers import TensorFact
from treering.hub.audit.paths import Track, points_of
from treering.hub.audit.paths import Training as Path
from treering.hub.audit.samples import choose_slices, decode, layer_of, read_slices
from treering.hub.audit.trajectory import check_trajectory
from treering.hub.branches import Place
from treering.hub.listed import Branch

NUMBERS = 4096


def walk(count: int, seed: int = 0, drift: float = 0.0, numbers: int = NUMBERS) -> np.ndarray:
    random = np.random.default_rng(seed)
    direction = random.standard_normal(numbers) * drift
    steps = random.standard_normal((count, numbers)) * 0.01 + direction
    return (random.standard_normal(numbers) + np.cumsum(steps, axis=0)).astype(np.float32)


def kinds(rows: np.ndarray, steps: Sequence[int] | None = None) -> list[tuple[str, int]]:
    found = breaks_of(course_of(list(rows), steps or range(0, 100 * len(rows), 100)))
    return [(one.kind, one.place) for one in found]


def look(courses: dict[str, np.ndarray], steps: Sequence[int] | None = None) -> list[Finding]:
    """What is found of tensors whose numbers are given, matrices unless they are short."""
    count = len(next(iter(courses.values())))
    steps = list(steps or range(0, 100 * count, 100))
    branches = tuple(Branch(f"step{step}", Place(0, step, None), "step", None, {}) for step in steps)
    tracks = [
        Track(name, branches, course_of(list(rows), steps), 2 if rows.shape[1] > 100 else 1) for name, rows in courses.items()
    ]
    return list(check_trajectory([Path(branches, tuple(tracks))]))


def test_drift_gives_a_half_a_random_walk_one_and_jitter_two():
    assert detours_of(course_of(list(np.outer(np.arange(9), np.ones(500)).astype(np.float32)), range(9)))[
        1:-1
    ] == pytest.approx(0.5)
    assert detours_of(course_of(list(walk(9)), range(9)))[1:-1] == pytest.approx(1.0, abs=0.1)
    jitter = np.random.default_rng(0).standard_normal((9, NUMBERS)).astype(np.float32)
    assert detours_of(course_of(list(jitter), range(9)))[1:-1] == pytest.approx(2.0, abs=0.2)
    assert kinds(jitter) == []


def test_two_branches_of_the_same_step_tell_nothing_of_how_far_others_could_be():
    rows, steps = walk(9), [0, 100, 200, 200, 300, 400, 500, 600, 700]
    found = jumps_of(course_of(list(rows), steps))
    assert np.isfinite(found).all() and found.max() < 4
    rows[6:] += 100.0
    assert kinds(rows, steps) == [("jump", 5)]
    assert np.isnan(jumps_of(course_of(list(rows[:3]), [0, 0, 0]))).all()


def test_a_branch_from_elsewhere_gives_the_square_of_how_much_farther_it_is():
    rows = walk(9)
    rows[4] += 1.0
    assert detours_of(course_of(list(rows), range(9)))[4] == pytest.approx(2 * (1.0 / 0.01) ** 2 / 2, rel=0.1)
    assert kinds(rows) == [("detour", 4)]


@pytest.mark.parametrize("drift", [0.0, 0.001, 0.1])
@pytest.mark.parametrize("steps", [range(0, 2000, 100), [0, *(2**n for n in range(19))], PYTHIA_STEPS[:20]])
def test_honest_courses_do_not_break(drift, steps):
    gaps = np.sqrt(np.diff(steps))[:, None]
    random = np.random.default_rng(1)
    noise, direction = random.standard_normal((19, NUMBERS)) * 0.001, random.standard_normal(NUMBERS) * 0.001 * drift
    moved = np.cumsum(noise * gaps + direction * gaps**2, axis=0)
    rows = np.vstack([np.zeros(NUMBERS), moved]) + random.standard_normal(NUMBERS)
    assert kinds(rows.astype(np.float32), list(steps)) == []


def test_two_neighbours_exchanged_are_a_break():
    rows = walk(40, drift=0.003)
    rows[[20, 21]] = rows[[21, 20]]
    assert {place for _, place in kinds(rows)} == {20, 21}


def test_a_run_that_is_spliced_breaks_between_two_branches():
    rows = walk(20)
    rows[12:] = walk(20, seed=1)[12:]
    assert ("jump", 11) in kinds(rows)
    assert jumps_of(course_of(list(rows), range(20)))[11] > 50


def test_first_weights_of_another_run_break_at_the_first_interval_alone():
    rows = walk(20)
    rows[0] = walk(1, seed=5)[0]
    assert set(kinds(rows, [0, 1, *range(100, 1900, 100)])) == {("jump", 0), ("no trace", 0)}


def test_last_weights_of_another_run_break_at_the_last_interval():
    rows = walk(20)
    rows[-1] = walk(1, seed=5)[0]
    assert ("jump", 18) in kinds(rows)


def test_a_few_numbers_alone_break_nothing():
    rows = walk(20, numbers=8)
    rows[10] += 5
    assert kinds(rows) == []
    long = walk(20)
    long[10, :5] += 100
    assert kinds(long) == []


def test_weights_that_stand_still_break_nothing():
    rows = np.repeat(walk(1), 12, axis=0)
    assert kinds(rows) == []
    rows[6:] += 0.001
    assert kinds(rows) == []


def test_rates_that_grow_or_end_break_nothing():
    random = np.random.default_rng(2)
    rates = np.concatenate([np.geomspace(1e-5, 1, 15), np.ones(10), np.geomspace(1, 1e-4, 15)])[:, None]
    rows = random.standard_normal(NUMBERS) + np.cumsum(random.standard_normal((40, NUMBERS)) * 0.01 * rates, axis=0)
    assert kinds(rows.astype(np.float32)) == []


# What is told


def test_what_is_told_of_a_detour_is_where_how_far_and_from_what():
    rows = {name: walk(12, seed=seed) for seed, name in enumerate("abcd")}
    rows["c"][5] += 1
    (finding,) = look(rows)
    assert (finding.check, finding.severity, finding.branches) == ("broken trajectory", Severity.ERROR, ("step500",))
    assert "in 1 tensors" in finding.problem
    assert finding.evidence[0].startswith("c: ") and all(
        name in finding.evidence[0] for name in ("step400", "step600", "step0")
    )


def test_no_trace_counts_only_where_nothing_has_any():
    rows = {name: walk(12, seed=seed) for seed, name in enumerate("abcd")}
    changed = {name: np.vstack([walk(1, seed=50 + n)[:1], row[1:]]) for n, (name, row) in enumerate(rows.items())}
    steps = [0, *range(1000, 12_000, 1000)]
    assert [(finding.check, finding.branches) for finding in look(changed, steps)] == [("no descent", ("step0", "step1000"))]
    kept = {**changed, "a": rows["a"]}
    assert [finding for finding in look(kept, steps) if "cosine" in str(finding.evidence)] == []


def test_many_breaks_are_one_finding():
    rows = {"a": walk(20, numbers=NUMBERS)}
    for place in (3, 6, 9, 12, 15):
        rows["a"][place] += 1
    (finding,) = look(rows)
    assert finding.branches == ("step300", "step600", "step900", "step1200", "step1500")
    assert "5 of 20" in finding.problem


def test_a_picture_has_a_point_for_each_branch():
    branches = tuple(Branch(f"step{n}", Place(0, n, None), "step", None, {}) for n in range(8))
    rows = walk(8)
    points = points_of(Path(branches, (Track("a", branches, course_of(list(rows), range(8)), 2),)))
    assert [point.branch for point in points] == [f"step{n}" for n in range(8)]
    assert (points[0].length, points[0].cosine_to_first) == pytest.approx((1.0, 1.0))
    assert points[0].detour is points[-1].detour is None and points[3].detour == pytest.approx(1.0, abs=0.1)
    assert points_of(Path(branches, ())) == []


# What is read


def facts(training: Training) -> dict[str, TensorFact]:
    position, found = 100, {}
    for name, shape in training.shapes.items():
        size = 2 * int(np.prod(shape))
        found[name] = TensorFact("F16", shape, position, position + size)
        position += size
    return found


def test_the_numbers_to_read_follow_from_names_and_shapes_alone():
    training = Training(hidden=512, layers=12, vocabulary=4000)
    slices = choose_slices([facts(training)])
    assert slices == choose_slices([dict(reversed(facts(training).items()))])
    layers = {layer_of(part.tensor) for part in slices}
    assert layers == {None, 0, 6, 11}
    assert len([part for part in slices if layer_of(part.tensor) == 6]) == 1
    assert all(part.length <= 1 << 14 for part in slices)
    embedding = next(part for part in slices if "embed_in" in part.tensor)
    assert embedding.first == (4000 * 512 - (1 << 14)) // 2
    assert {layer_of(part.tensor) for part in choose_slices([facts(training)], every_layer=True)} == {None, *range(12)}


def test_each_file_of_weights_is_looked_into():
    whole = facts(Training(layers=9))
    files = [{name: fact for name, fact in whole.items() if layer_of(name) == layer} for layer in range(9)]
    slices = choose_slices(files)
    assert {layer_of(part.tensor) for part in slices} == set(range(9))


def test_names_of_layers_are_numbers_between_dots():
    assert [
        layer_of(name) for name in ("gpt_neox.layers.12.x", "model.layers.0.mlp.w", "h.3.attn", "w2.x", "lm_head.weight")
    ] == [*(12, 0, 3, None, None)]


def test_what_lies_close_together_is_read_in_one_piece():
    read: list[tuple[int, int]] = []
    tensors = {
        "a": TensorFact("F32", (4,), 0, 16),
        "b": TensorFact("F32", (4,), 16, 32),
        "c": TensorFact("F32", (4,), 10_000_000, 10_000_016),
    }

    def content(start: int, stop: int) -> bytes:
        read.append((start, stop))
        return np.arange(stop - start, dtype=np.uint8).tobytes()

    found = read_slices(content, tensors, choose_slices([tensors]))
    assert read == [(0, 32), (10_000_000, 10_000_016)]
    assert found.keys() == {"a", "b", "c"}


@pytest.mark.parametrize(("dtype", "kind"), [("F32", np.float32), ("F16", np.float16), ("F64", np.float64)])
def test_numbers_are_decoded(dtype, kind):
    numbers = np.array([0.5, -2.0, 1e-3, np.inf, np.nan], dtype=kind)
    assert np.array_equal(decode(numbers.tobytes(), dtype), numbers.astype(np.float32), equal_nan=True)


def test_bfloat16_is_decoded():
    numbers = np.array([0.5, -2.0, 3.0], dtype=np.float32)
    assert decode((numbers.view(np.uint32) >> 16).astype("<u2").tobytes(), "BF16").tolist() == [0.5, -2.0, 3.0]


def test_of_very_many_branches_fewer_numbers_are_read_from_the_same_places():
    training = Training(hidden=512, layers=12, vocabulary=4000)
    few, many = (choose_slices([facts(training)], branches) for branches in (150, 3000))
    assert [(part.tensor, part.first) for part in few] == [(part.tensor, part.first) for part in many]
    assert 3000 * sum(part.length for part in many) < 1 << 28 < 3000 * sum(part.length for part in few)
