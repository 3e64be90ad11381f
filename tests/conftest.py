"""What every test can ask for."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

settings.register_profile(
    "treering",
    deadline=None,  # shared machines pause at will
    derandomize=True,  # the same examples every time: a failure here is a failure everywhere
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
settings.load_profile("treering")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder this project is checked out in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of larger reference files beside the checkout; tests that need it are skipped where it is not."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference files (shared/data beside the checkout) are not on this machine")
    return folder


@pytest.fixture
def quickstart(repository: Path) -> str:
    """The text of the quickstart recipe."""
    return (repository / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
