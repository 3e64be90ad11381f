"""The quickstart, run once for all tests of the way, as a user runs it."""

from pathlib import Path
from typing import NamedTuple

import pytest
from way_making import QUICKSTART, treering


class Release(NamedTuple):
    """A finished run's folder, and what the command printed."""

    run: Path
    printed: str


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The quickstart's run."""
    folder = tmp_path_factory.mktemp("quickstart")
    result = treering("run", QUICKSTART, cwd=folder)
    assert result.returncode == 0, result.stderr
    return Release(folder / "runs" / "quickstart", result.stdout)


@pytest.fixture(scope="session")
def hugging_face_home(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face home into which `treering install` has put the release."""
    home = tmp_path_factory.mktemp("hf")
    result = treering("install", release.run, cwd=release.run, HF_HOME=str(home))
    assert result.returncode == 0, result.stderr
    return home
