"""SIGKILL between any two writes of any stage: the same command goes on, and the bytes are those of an undisturbed run."""

import subprocess
from pathlib import Path

import pytest
from starting import start
from way_making import QUICKSTART, contents, treering

from treering.config.digests import STAGES

pytestmark = pytest.mark.way

# Kills its own process, as `kill -9` would, before the n-th change it is about to make to paths with a certain part.
DRIVER = """
import os, signal, sys
folder, left = sys.argv[1], int(sys.argv[2])

def count(event, arguments):
    global left
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(path, str) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    else:
        path, writes = arguments[0], event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate")
    if not writes or folder not in os.path.abspath(os.fspath(path)):
        return
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
sys.argv = ["treering", *sys.argv[3:]]
from treering.cli.main import main
main()
"""

SMALL = {
    "vocabulary_size: 4096": "vocabulary_size: 512",
    "  preset: sapling\n": "  preset: sapling\n  vocab_size: 512\n  hidden_size: 32\n  num_hidden_layers: 2\n",
    "steps: 512": "steps: 8",
    "warmup_steps: 32": "warmup_steps: 2",
    "name: quickstart": "name: small",
    "  every: 128  ": "  every: 5  ",
    "\ncard:": "\nevaluation:\n  tasks: [heldout_continuation, number_agreement]\n  heldout_tokens: 4096\n\ncard:",
}


@pytest.fixture(scope="module")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = QUICKSTART.read_text("utf-8")
    for old, new in SMALL.items():
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_run_killed_between_any_two_writes_goes_on_to_the_same_bytes(small_recipe, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    result = treering("run", small_recipe, cwd=undisturbed)
    assert result.returncode == 0, result.stderr

    killed = tmp_path / "killed"
    killed.mkdir()
    run = killed / "runs" / "small"
    for stage in STAGES:
        # These three fill their folder piece by piece; the others build it aside.
        place = run / (stage if stage in ("checkpoints", "training", "revisions") else f".{stage}.partial")
        life = live(small_recipe, killed, place, 2)
        assert life.returncode == -9, (stage, life.stderr)
        assert not (run / stage / "manifest.json").exists(), stage
    # Each life may make a few more changes than the last one, so that the deaths spread over the whole way.
    for changes in range(3, 400, 9):
        life = live(small_recipe, killed, run, changes)
        if life.returncode == 0:
            break
        assert life.returncode == -9, life.stderr
    assert life.returncode == 0
    assert contents(run) == contents(undisturbed / "runs" / "small")


def live(recipe: Path, folder: Path, place: Path, changes: int) -> subprocess.CompletedProcess[str]:
    """Go the whole way until so many changes have been made to a place, and die before the next."""
    return start("-c", DRIVER, place, changes, "run", recipe, cwd=folder)
