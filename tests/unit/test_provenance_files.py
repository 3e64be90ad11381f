"""Whole or absent: what stands under a name after an error, a kill at any moment, or two writers."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from treering.errors import InputError, ManifestError, StorageError
from treering.provenance.files import held, remove_tree, whole_directory, write_atomically
from treering.provenance.manifests import find_stage, verify_manifest, write_manifest

REPLACE = """
import os, signal, sys
from pathlib import Path
from treering.provenance.files import whole_directory
from treering.provenance.manifests import write_manifest

target, fatal = Path(sys.argv[1]), int(sys.argv[2])
seen = 0

def kill_at_the_fatal_call(event, arguments):
    global seen
    touches = event == "open" or event.startswith("os.")
    if touches and arguments and str(target.parent) in str(arguments[0]):
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

sys.addaudithook(kill_at_the_fatal_call)
with whole_directory(target) as partial:
    (partial / "a.txt").write_text("second")
    (partial / "folder").mkdir()
    (partial / "folder" / "b.txt").write_text("second")
    write_manifest(partial, "corpus", "second", {})
"""

HOLD = """
import sys, time
from pathlib import Path
from treering.provenance.files import held, whole_directory

folder = Path(sys.argv[1])
with held(folder), whole_directory(folder / "stage") as partial:
    (partial / "half.txt").write_text("half")
    print("inside", flush=True)
    time.sleep(600)
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextlib.contextmanager
def holding(folder: Path):
    """Have another process at work in a folder, in the middle of a stage; it is killed in the end."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "inside\n"
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def first_version(target: Path) -> None:
    """Put a whole folder under the name."""
    with whole_directory(target) as partial:
        (partial / "a.txt").write_text("first")
        write_manifest(partial, "corpus", "first", {})


def test_a_folder_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "corpus"
    with whole_directory(target) as partial:
        (partial / "a.txt").write_text("text")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "text"
    assert names(tmp_path / "new") == ["corpus"]


def test_after_an_error_nothing_is_under_the_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such"), whole_directory(tmp_path / "corpus") as partial:
        (partial / "a.txt").write_text("text")
        raise InputError("no such file")
    assert names(tmp_path) == []


def test_after_an_interrupt_nothing_is_under_the_name(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_directory(tmp_path / "corpus") as partial:
        (partial / "a.txt").write_text("text")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_after_an_error_the_earlier_folder_is_as_it_was(tmp_path: Path) -> None:
    first_version(tmp_path / "corpus")
    with pytest.raises(InputError), whole_directory(tmp_path / "corpus") as partial:
        (partial / "a.txt").write_text("second")
        raise InputError("no such file")
    assert verify_manifest(tmp_path / "corpus").stage_digest == "first"
    assert names(tmp_path) == ["corpus"]


def test_a_new_folder_takes_the_place_of_the_earlier_one_with_nothing_of_it_left(tmp_path: Path) -> None:
    first_version(tmp_path / "corpus")
    (tmp_path / "corpus" / "old.txt").write_text("old")
    with whole_directory(tmp_path / "corpus") as partial:
        (partial / "b.txt").write_text("second")
    assert names(tmp_path / "corpus") == ["b.txt"]
    assert names(tmp_path) == ["corpus"]


def test_a_stage_killed_in_the_middle_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "stage").exists()
    assert find_stage(tmp_path / "stage", "sha256:any") is None
    with held(tmp_path), whole_directory(tmp_path / "stage") as partial:
        assert names(partial) == []  # what the killed process left is not taken for this one's
    assert names(tmp_path) == [".lock", "stage"]


def test_a_replacement_killed_at_any_file_operation_leaves_the_old_the_new_or_nothing_and_is_then_made_whole(
    tmp_path: Path,
) -> None:
    seen = set()
    for fatal in range(200):
        folder = tmp_path / str(fatal)
        target = folder / "corpus"
        first_version(target)
        killed = run(REPLACE, target, fatal)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        seen.add(verify_manifest(target).stage_digest if target.exists() else "nothing")
        assert run(REPLACE, target, 10_000).returncode == 0
        assert verify_manifest(target).stage_digest == "second"
        assert names(folder) == ["corpus"]
    assert fatal >= 10
    assert seen == {"first", "nothing", "second"}


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["record.json"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> None:
        calls.append(("rename", Path(target).name))
        rename(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell which file a descriptor stands for (/proc)")
    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    with whole_directory(tmp_path / "corpus") as partial:
        (partial / "b").mkdir()
        (partial / "b" / "c.txt").write_text("text")
        (partial / "a.txt").write_text("text")
    assert calls == [
        ("fsync", "a.txt"),
        ("fsync", "b"),
        ("fsync", "c.txt"),
        ("fsync", ".corpus.partial"),
        ("rename", "corpus"),
        ("fsync", tmp_path.name),
    ]


def test_two_processes_on_one_run_are_refused(tmp_path: Path) -> None:
    with holding(tmp_path), pytest.raises(InputError, match="another treering process") as caught, held(tmp_path):
        pass
    assert caught.value.exit_code == 2
    assert str(tmp_path) in str(caught.value)


def test_a_run_is_free_again_when_its_process_has_ended(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        process.kill()
        process.wait(timeout=60)
        with held(tmp_path):
            pass
    with held(tmp_path):
        pass


def test_removing_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    remove_tree(tmp_path / "absent")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("text")
    remove_tree(tmp_path / "there")
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/deeper", "file/deeper/still"])
def test_a_file_where_a_folder_is_needed_is_a_storage_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="a file stands where a folder is needed") as caught:
        write_atomically(tmp_path / place / "record.json", b"{}")
    assert caught.value.exit_code == 3
    with pytest.raises(StorageError), whole_directory(tmp_path / place / "corpus"):
        pass
    with pytest.raises(StorageError), held(tmp_path / place):
        pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("shared", [True, False])
def test_a_folder_where_none_can_be_made_is_a_storage_error(shared: bool) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("this system has no folder that takes none (/proc)")
    with pytest.raises(StorageError, match="no folder can be made here") as caught, held(Path("/proc/none"), shared=shared):
        pass
    assert caught.value.exit_code == 3
    assert "/proc/none" in str(caught.value)


@pytest.mark.parametrize("problem", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_shared_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    open_file = Path.open

    def refusing(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> IO[Any]:
        if path.name == ".lock" and mode != "r":
            raise OSError(problem, os.strerror(problem), str(path))
        return open_file(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(StorageError), held(tmp_path):
        pass
    if problem == errno.ENOSPC:
        with pytest.raises(StorageError, match="full"), held(tmp_path, shared=True):
            pass
        return
    with held(tmp_path, shared=True), held(tmp_path, shared=True):
        assert names(tmp_path) == []
    monkeypatch.undo()
    with holding(tmp_path):
        monkeypatch.setattr(Path, "open", refusing)
        with pytest.raises(InputError, match="another treering process"), held(tmp_path, shared=True):
            pass


def test_a_folder_where_a_file_is_needed_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(StorageError, match="a folder stands where a file is needed"):
        write_atomically(tmp_path / "record.json", b"{}")
    assert names(tmp_path) == ["record.json"]


def test_a_path_too_long_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="too long"):
        write_atomically(tmp_path / ("x" * 300) / "record.json", b"{}")


def test_an_error_that_is_not_of_storage_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_directory(tmp_path / "corpus"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(ManifestError), whole_directory(tmp_path / "corpus"):
        raise ManifestError("changed")
