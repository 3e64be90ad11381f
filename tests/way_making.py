"""What the tests of the way share: the command line as a user calls it, and folders compared byte by byte."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
QUICKSTART = REPOSITORY / "recipes" / "quickstart.yaml"


def treering(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder and wait for it."""
    return subprocess.run(
        [sys.executable, "-m", "treering", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def contents(run: Path) -> dict[str, str]:
    """Return the digest of every file of a run but what was only watched, by path."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    watched = ("observe", ".lock")
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.relative_to(run).parts[0] not in watched
    }


def kill_when(begun: Callable[[], bool], delay_seconds: float, *arguments: object, cwd: Path) -> bool:
    """Start the command line, wait until `begun`, then a while, then SIGKILL it; return whether it was still at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "treering", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not begun() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(delay_seconds)
        alive = process.poll() is None
        if not alive and process.returncode:
            raise AssertionError(process.communicate()[1].decode())
        return alive
    finally:
        process.kill()
        process.communicate()
