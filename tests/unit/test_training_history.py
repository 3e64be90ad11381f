"""Each start, change and stop is an entry, bound to the one before; none of them is in a digest."""

import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starting import start
from training_making import STEPS, SignalAt, StopAt, Stopped, outcome, prepare, write_recipe

from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import FormatError, IntegrityError, NonFiniteError, PreemptionError
from treering.provenance.chain import make_link
from treering.training.history import Entry, history_path, read_history
from treering.training.run import finished_ledger, train
from treering.verification.files import check_files
from treering.verification.verdicts import Verdict

CHECK = "history: every line bound to the one before, each at a step of the ledger"


def told(run: RunDirectory) -> list[tuple[str, int]]:
    return [(entry.event, entry.step) for entry in read_history(history_path(run))]


def last(run: RunDirectory) -> Entry:
    return read_history(history_path(run))[-1]


def verdict(run: RunDirectory) -> Verdict:
    return next(check.verdict for check in check_files(run) if check.name == CHECK)


def test_a_run_that_nobody_stopped_has_a_start_and_a_stop(tiny_trained: RunDirectory) -> None:
    start, stop = read_history(history_path(tiny_trained))
    assert (start.event, start.step, start.ledger_digest) == ("start", 0, None)
    assert start.body["run_digest"] == run_digest(tiny_trained.recipe)
    environment = start.body["environment"]
    recorded = json.loads((tiny_trained.stage("training") / "environment.json").read_bytes())
    assert {part: environment[part] for part in ("software", "machine", "arithmetic")} == {
        part: recorded[part] for part in ("software", "machine", "arithmetic")
    }
    assert environment["processes"] == {"world_size": 1}
    assert environment["host"] == {"name": platform.node(), "release": platform.release()}
    assert (stop.event, stop.step, stop.body["reason"]) == ("stop", STEPS, "finished")
    assert stop.ledger_digest == finished_ledger(tiny_trained)[-1].digest
    times = [datetime.datetime.fromisoformat(entry.time) for entry in (start, stop)]
    assert times == sorted(times)
    assert all(time.utcoffset() == datetime.timedelta(0) for time in times)


def test_a_run_told_to_stop_and_begun_again_says_so_and_has_the_same_bytes(
    tiny_run: RunDirectory, tiny_trained: RunDirectory
) -> None:
    with pytest.raises(PreemptionError):
        train(tiny_run, SignalAt(2, signal.SIGTERM))
    assert last(tiny_run).body["reason"] == "preempted"
    train(tiny_run)
    assert told(tiny_run) == [("start", 0), ("stop", 3), ("resume", 3), ("stop", STEPS)]
    ledger = finished_ledger(tiny_run)
    for entry in read_history(history_path(tiny_run))[1:]:
        assert entry.ledger_digest == ledger[entry.step].digest
    assert outcome(tiny_run) == outcome(tiny_trained)
    assert verdict(tiny_run) == Verdict.REPRODUCED


def test_a_run_that_broke_off_says_at_which_error_and_goes_on_from_its_checkpoint(tiny_run: RunDirectory) -> None:
    with pytest.raises(Stopped):
        train(tiny_run, StopAt(8))
    assert last(tiny_run).body["error"] == "Stopped"
    train(tiny_run)
    assert told(tiny_run) == [("start", 0), ("stop", 9), ("resume", 6), ("stop", STEPS)]


def test_a_training_that_diverged_says_so(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, training={"optimizer": {"learning_rate": 1e39}, "schedule": {"name": "constant"}})
    run = prepare(recipe, tmp_path / "runs")
    with pytest.raises(NonFiniteError):
        train(run)
    body = last(run).body
    assert (body["reason"], body["error"]) == ("failed", "NonFiniteError")
    assert "not finite" in body["problem"]


KILL = """
import signal, sys, time
from pathlib import Path
from training_making import SignalAt
from treering.config.run_directory import open_run
from treering.training.run import train

class KillAt7(SignalAt):
    def advance(self, amount=1):
        while len(self.amounts) == 7 and not (run.stage("checkpoints") / "step6").exists():
            time.sleep(0.001)  # a thread at work beside saves it
        super().advance(amount)

run = open_run(Path(sys.argv[1]))
train(run, KillAt7(7, signal.SIGKILL))
"""


def test_a_run_that_was_killed_has_no_stop_and_the_next_line_is_the_resumption(
    tiny_run: RunDirectory, tiny_trained: RunDirectory
) -> None:
    assert start("-c", KILL, tiny_run.path).returncode == -signal.SIGKILL
    assert told(tiny_run) == [("start", 0)]
    train(tiny_run)
    assert told(tiny_run) == [("start", 0), ("resume", 6), ("stop", STEPS)]
    assert outcome(tiny_run) == outcome(tiny_trained)


def test_a_line_cut_off_by_a_kill_is_left_out_and_taken_away_by_the_next_start(tiny_run: RunDirectory) -> None:
    with pytest.raises(Stopped):
        train(tiny_run, StopAt(2))
    path = history_path(tiny_run)
    before = read_history(path)
    path.write_bytes(path.read_bytes() + b'{"event":"st')
    assert read_history(path) == before
    train(tiny_run)
    entries = read_history(path)
    assert entries[: len(before)] == before
    assert [entry.body.get("cut_off_bytes") for entry in entries[len(before) :]] == [12, None]


def test_another_host_is_a_change_and_the_same_one_is_none(tiny_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with pytest.raises(Stopped):
            train(tiny_run, StopAt(2))
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    monkeypatch.setattr(platform, "release", lambda: "99.0")
    train(tiny_run)
    assert [event for event, _ in told(tiny_run)] == ["start", "stop", "resume", "stop", "resume", "change", "stop"]
    changed = read_history(history_path(tiny_run))[-2]
    assert set(changed.body["changes"]) == {"host.name", "host.release"}
    assert changed.body["changes"]["host.release"][1] == "99.0"
    assert changed.step == 4  # from where the last training went on


def test_a_finished_run_is_no_start(tiny_run: RunDirectory) -> None:
    train(tiny_run)
    before = history_path(tiny_run).read_bytes()
    train(tiny_run)
    assert history_path(tiny_run).read_bytes() == before


def interrupted(run: RunDirectory) -> list[bytes]:
    """The lines of a history with two stops, the run being finished."""
    for _ in range(2):
        with pytest.raises(Stopped):
            train(run, StopAt(4))
    train(run)
    return history_path(run).read_bytes().splitlines(keepends=True)


LIES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "one dropped": lambda lines: [*lines[:2], *lines[3:]],
    "the first dropped": lambda lines: lines[1:],
    "two swapped": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "one twice": lambda lines: [*lines[:3], *lines[2:]],
    "a step altered": lambda lines: [*lines[:1], lines[1].replace(b'"step":5', b'"step":4'), *lines[2:]],
    "a space more": lambda lines: [lines[0], lines[1].replace(b",", b", ", 1), *lines[2:]],
    "no JSON": lambda lines: [lines[0], b"\xff\xfe\n", *lines[2:]],
    "no object": lambda lines: [lines[0], b"7\n", *lines[2:]],
    "another event": lambda lines: [*lines[:-1], lines[-1].replace(b'"event":"stop"', b'"event":"step"')],
    "another version": lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_history_that_was_changed_is_seen_and_nothing_is_written_on_top_of_it(tiny_run: RunDirectory, lie: str) -> None:
    lines, path = interrupted(tiny_run), history_path(tiny_run)
    assert verdict(tiny_run) == Verdict.REPRODUCED
    path.write_bytes(b"".join(LIES[lie](lines)))
    changed = path.read_bytes()
    assert changed != b"".join(lines)
    with pytest.raises(IntegrityError):
        read_history(path)
    assert verdict(tiny_run) == Verdict.DIVERGED
    (tiny_run.stage("training") / "manifest.json").unlink()
    with pytest.raises(IntegrityError):
        train(tiny_run)
    assert path.read_bytes() == changed


def test_that_the_last_lines_were_dropped_cannot_be_seen(tiny_run: RunDirectory) -> None:
    lines = interrupted(tiny_run)
    history_path(tiny_run).write_bytes(b"".join(lines[:-1]))
    assert verdict(tiny_run) == Verdict.REPRODUCED


def test_a_history_of_another_training_is_seen_though_its_chain_holds(tiny_run: RunDirectory) -> None:
    interrupted(tiny_run)
    path = history_path(tiny_run)
    previous, content = None, b""
    for entry in read_history(path):
        body = {key: value for key, value in entry.body.items() if key != "previous"}
        if entry.step == 5:
            body["ledger_digest"] = "sha256:" + "0" * 64
        link = make_link(body, previous)
        previous, content = link.digest, content + link.bytes
    path.write_bytes(content)
    read_history(path)
    assert verdict(tiny_run) == Verdict.DIVERGED


def test_a_run_without_its_history_verifies_and_says_that_it_was_not_looked_at(
    tiny_trained: RunDirectory, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "tiny", tiny_trained.recipe)
    shutil.copytree(tiny_trained.path, run.path, ignore=shutil.ignore_patterns("observe"))
    assert verdict(run) == Verdict.NOT_RUN
    assert Verdict.DIVERGED not in {check.verdict for check in check_files(run)}
    with pytest.raises(FormatError, match="no history"):
        read_history(history_path(run))


def test_a_runs_history_is_shown_with_it_and_a_recipe_has_none(treering, tiny_trained: RunDirectory, tiny_recipe: Path) -> None:
    _, shown, _ = treering("show", tiny_trained.path)
    assert "start   step 0  1 × cpu" in shown
    assert f"stop    step {STEPS}  finished" in shown
    record = json.loads(treering("show", tiny_trained.path, "--json")[1])
    assert [entry["event"] for entry in record["history"]] == ["start", "stop"]
    assert "history" not in json.loads(treering("show", tiny_recipe, "--json")[1])


@pytest.mark.parametrize(
    "variables",
    [
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "3"},
        {"MKL_NUM_THREADS": "2"},
    ],
)
def test_numbers_of_threads_in_the_environment_reach_no_byte(
    tiny_run: RunDirectory, tiny_trained: RunDirectory, variables: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "treering", "train", tiny_run.path]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert result.returncode == 0, result.stderr
    assert outcome(tiny_run) == outcome(tiny_trained)


def test_what_is_observed_reaches_no_byte_of_any_stage(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    watched = tmp_path / "watched.yaml"
    body = json.loads(recipe.read_text(encoding="utf-8"))
    watched.write_text(
        json.dumps({**body, "observe": {"log_every": 3, "workers": 3, "recompute_layers": True}}), encoding="utf-8"
    )
    runs = [prepare(path, tmp_path / path.stem) for path in (recipe, watched)]
    first, second = ([*(run.verified(stage) for stage in ("corpus", "tokens", "order")), train(run)] for run in runs)
    assert first == second
    assert outcome(runs[0]) == outcome(runs[1])
