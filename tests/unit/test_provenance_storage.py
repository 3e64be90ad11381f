"""A full disk, a file-size limit and a read-only folder, each made for real in a process of its own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from treering.provenance.files import held

WRITE = """
import json, resource, sys
from pathlib import Path
from treering.errors import TreeringError
from treering.provenance.files import held, whole_directory, write_atomically
from treering.provenance.manifests import verify_manifest, write_manifest

run, limit = Path(sys.argv[1]), int(sys.argv[2])
with whole_directory(run / "corpus") as partial:
    (partial / "a.txt").write_text("whole")
    write_manifest(partial, "corpus", "first", {})
write_atomically(run / "record.json", b"whole")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

def stage():
    with whole_directory(run / "corpus") as partial:
        for number in range(100):
            with (partial / f"{number}.bin").open("wb") as file:
                file.write(bytes(1 << 20))

errors = []
for act in (stage, lambda: write_atomically(run / "record.json", bytes(1 << 20))):
    try:
        act()
    except TreeringError as error:
        errors.append({"kind": type(error).__name__, "exit_code": error.exit_code, "message": str(error)})
verify_manifest(run / "corpus")
record = (run / "record.json").read_text()
print(json.dumps({"errors": errors, "record": record, "names": sorted(path.name for path in run.iterdir())}))
"""

READ_ONLY = """
import json, sys
from pathlib import Path
from treering.errors import TreeringError
from treering.provenance.files import held, whole_directory, write_atomically

folder = Path(sys.argv[1])

def stage():
    with whole_directory(folder / "corpus"):
        pass

def lock():
    with held(folder / "run"):
        pass

errors = []
for act in (stage, lock, lambda: write_atomically(folder / "record.json", b"{}")):
    try:
        act()
    except TreeringError as error:
        errors.append({"kind": type(error).__name__, "exit_code": error.exit_code, "message": str(error)})
print(json.dumps({"errors": errors, "names": sorted(path.name for path in folder.iterdir())}))
"""


def run(script: str, *arguments: object, prefix: Sequence[str] = ()) -> Any:
    """Run a script, by way of the command `prefix` where there is one, and return the JSON it prints."""
    command = [*prefix, sys.executable, "-c", script, *(str(argument) for argument in arguments)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def mounted(commands: str) -> list[str]:
    """Return a prefix that runs mount commands in a namespace of their own; skip where that cannot be done."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount a small disk, and `unshare` is needed")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody make a mount namespace")
    return ["unshare", "--mount", "sh", "-ec", f'{commands}\nexec "$0" "$@"']


def powerless() -> list[str]:
    """Return a prefix that takes root's power to write everywhere away; skip where that cannot be done."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("root may write everywhere, and `setpriv` cannot take that away here")
    return prefix


def check_nothing_is_lost(seen: dict[str, Any], problem: str) -> None:
    """Check that both writes were refused for the reason named, and that what was whole still is."""
    assert [(error["kind"], error["exit_code"]) for error in seen["errors"]] == [("StorageError", 3)] * 2
    for error in seen["errors"]:
        assert problem in error["message"]
        assert "corpus" in error["message"] or "record.json" in error["message"]
        assert "  do: " in error["message"]
    assert seen["record"] == "whole"
    assert seen["names"] == ["corpus", "record.json"]


def test_a_file_size_limit_is_a_storage_error_and_nothing_is_lost(tmp_path: Path) -> None:
    check_nothing_is_lost(run(WRITE, tmp_path / "run", 65_536), "largest size allowed")


def test_a_full_disk_is_a_storage_error_and_nothing_is_lost(tmp_path: Path) -> None:
    small_disk = mounted(f"mount -t tmpfs -o size=512k tmpfs {shlex.quote(str(tmp_path))}")
    check_nothing_is_lost(run(WRITE, tmp_path / "run", 0, prefix=small_disk), "the disk is full")


def test_a_read_only_disk_is_a_storage_error(tmp_path: Path) -> None:
    folder = shlex.quote(str(tmp_path))
    read_only = mounted(f"mount --bind {folder} {folder}\nmount -o remount,ro,bind {folder}")
    seen = run(READ_ONLY, tmp_path, prefix=read_only)
    assert [(error["kind"], error["exit_code"]) for error in seen["errors"]] == [("StorageError", 3)] * 3
    assert all("read-only" in error["message"] for error in seen["errors"])


def test_a_folder_without_permission_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o555)
    seen = run(READ_ONLY, folder, prefix=powerless())
    assert [(error["kind"], error["exit_code"]) for error in seen["errors"]] == [("StorageError", 3)] * 3
    assert all("may not be written" in error["message"] for error in seen["errors"])


SHARE = """
import json, sys
from pathlib import Path
from treering.errors import TreeringError
from treering.provenance.files import held

folder, found = Path(sys.argv[1]), []
for shared, place in ((True, folder), (False, folder), (True, folder / "none")):
    try:
        with held(place, shared=shared):
            found.append("held")
    except TreeringError as error:
        found.append(str(error))
print(json.dumps(found))
"""


@pytest.mark.parametrize("locked", [True, False])
def test_a_folder_on_a_read_only_disk_is_shared_and_not_held_alone(tmp_path: Path, locked: bool) -> None:
    folder = shlex.quote(str(tmp_path))
    prefix = mounted(f"mount --bind {folder} {folder}\nmount -o remount,ro,bind {folder}")
    check_it_is_shared_alone(tmp_path, prefix, "read-only", locked=locked)


@pytest.mark.parametrize("locked", [True, False])
def test_a_folder_without_permission_is_shared_and_not_held_alone(tmp_path: Path, locked: bool) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    check_it_is_shared_alone(folder, powerless(), "may not be written", locked=locked)


def check_it_is_shared_alone(folder: Path, prefix: Sequence[str], problem: str, *, locked: bool) -> None:
    """Check that a folder, with a lock that nobody may write or without one, is shared, and refused otherwise."""
    if locked:
        (folder / ".lock").write_bytes(b"")
        (folder / ".lock").chmod(0o444)
    folder.chmod(0o555)
    before = sorted(path.name for path in folder.iterdir())
    shared, alone, absent = run(SHARE, folder, prefix=prefix)
    assert shared == "held"
    assert problem in alone and ".lock" in alone
    assert problem in absent
    assert sorted(path.name for path in folder.iterdir()) == before
    if locked:
        with held(folder):
            shared, *_ = run(SHARE, folder, prefix=prefix)
        assert "another treering process" in shared
