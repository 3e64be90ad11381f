"""Which segments are re-run."""

import json
import shutil
import subprocess
import time

import pytest
from starting import start

from treering.config.run_directory import RunDirectory
from treering.verification.sampling import Wanted, shuffled, within_budget
from treering.verification.segments import Segment, all_segments
from treering.verification.verdicts import Check, Verdict


@pytest.fixture(scope="module")
def run(tiny_trained: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A trained run that verification may write its records into."""
    copy = RunDirectory(tmp_path_factory.mktemp("sampled") / "tiny", tiny_trained.recipe)
    shutil.copytree(tiny_trained.path, copy.path)
    return copy


SEGMENTS = [Segment(start, start + 1) for start in range(200)]


def test_a_seed_gives_one_order_of_the_same_segments_and_another_seed_another() -> None:
    first, again, other = shuffled(SEGMENTS, 1), shuffled(reversed(SEGMENTS), 1), shuffled(SEGMENTS, 2)
    assert first == again
    assert sorted(first, key=lambda segment: segment.start) == SEGMENTS
    assert len({tuple(first), tuple(other), tuple(SEGMENTS)}) == 3


def test_every_segment_is_as_likely_to_be_picked_as_any_other() -> None:
    counts = dict.fromkeys(SEGMENTS[:10], 0)
    for seed in range(2000):
        counts[shuffled(SEGMENTS[:10], seed)[0]] += 1
    # Binomial with mean 200 and standard deviation 13.4; the seeds are fixed, so this fails always or never.
    assert all(140 < count < 260 for count in counts.values()), counts


def test_what_is_wanted_is_chosen_once(tiny_trained: RunDirectory) -> None:
    everything = all_segments(tiny_trained)
    named = (Segment(4, 6), Segment(0, 12), Segment(4, 6))
    assert Wanted().choose(tiny_trained) == []
    assert Wanted(named).choose(tiny_trained) == [Segment(4, 6), Segment(0, 12)]
    assert Wanted(every=True).choose(tiny_trained) == everything
    assert Wanted(sample=2, seed=5).choose(tiny_trained) == shuffled(everything, 5)[:2]
    assert Wanted(sample=99, seed=5).choose(tiny_trained) == shuffled(everything, 5)
    assert Wanted(seed=5, budget_seconds=1).choose(tiny_trained) == shuffled(everything, 5)
    assert Wanted(named[:1], seed=5, budget_seconds=1).choose(tiny_trained) == [Segment(4, 6)]
    assert set(Wanted(named, every=True).choose(tiny_trained)) == {*everything, Segment(0, 12)}


def test_a_budget_passes_over_what_would_not_end_in_time_and_takes_what_does(tiny_trained: RunDirectory) -> None:
    done: list[Segment] = []

    def slow(segment: Segment) -> Check:
        done.append(segment)
        time.sleep(0.05 * (segment.stop - segment.start))
        return Check(segment.name, Verdict.REPRODUCED)

    segments = [Segment(0, 2), Segment(0, 1000), Segment(2, 3), Segment(5, 500)]
    assert len(list(within_budget(20, segments, tiny_trained.recipe, slow))) == 2
    assert done == [Segment(0, 2), Segment(2, 3)]
    assert list(within_budget(0, segments, tiny_trained.recipe, slow)) == []


def treering(*arguments: object) -> subprocess.CompletedProcess[str]:
    return start("-m", "treering", *arguments)


def test_the_command_samples_by_a_seed_that_it_prints(run: RunDirectory) -> None:
    first = treering("verify", run.path, "--sample", 2, "--json")
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    assert len(record["segments"]) == 2
    again = treering("verify", run.path, "--sample", 2, "--seed", record["seed"], "--json")
    assert json.loads(again.stdout)["segments"] == record["segments"]
    shown = treering("verify", run.path, "--sample", 1, "--seed", 5)
    assert "picked by --seed 5" in shown.stdout


def test_a_budget_that_allows_nothing_could_not_look_and_a_large_one_looks_at_all(run: RunDirectory) -> None:
    none = treering("verify", run.path, "--budget", "0s")
    assert none.returncode == 3, none.stderr
    assert "5 segments passed over" in none.stdout
    everything = treering("verify", run.path, "--budget", "1h", "--json")
    assert everything.returncode == 0, everything.stderr
    assert len(json.loads(everything.stdout)["segments"]) == 5
    assert json.loads(everything.stdout)["passed_over"] == []


@pytest.mark.parametrize("text", ["10", "m", "ten m", "-5m", "1.2.3h", ""])
def test_a_budget_that_is_no_time_is_the_users_input(run: RunDirectory, text: str) -> None:
    result = treering("verify", run.path, "--budget", text)
    assert result.returncode == 2
    assert "10m" in result.stderr
