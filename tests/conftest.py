"""What every test can ask for."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from treering.config.run_directory import RunDirectory, open_run
from treering.provenance.environment import let_waiting_threads_sleep

# Read when torch is imported: products as small as the tests' are many times quicker on one thread of a machine at work.
# What trains sets its own number from the recipe.
os.environ.setdefault("OMP_NUM_THREADS", "1")

let_waiting_threads_sleep()  # before any test imports torch

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a recipe that goes from text to its last checkpoint in about a second; its corpus lies beside it."""
    from training_making import write_recipe  # noqa: PLC0415 (brings torch, which most tests do without)

    return write_recipe(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def _tiny_prepared(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    from training_making import prepare  # noqa: PLC0415

    return prepare(tiny_recipe, tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def tiny_run(_tiny_prepared: RunDirectory, tiny_recipe: Path, tmp_path: Path) -> RunDirectory:
    """A run of the tiny recipe with corpus, tokens and order, ready to be trained; the test's own."""
    shutil.copytree(_tiny_prepared.path, tmp_path / "runs" / _tiny_prepared.path.name)
    return open_run(tiny_recipe, tmp_path / "runs")


@pytest.fixture(scope="session")
def tiny_trained(_tiny_prepared: RunDirectory, tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of the tiny recipe, trained to its end; shared by all tests, so only to be read or copied."""
    from treering.training.run import train  # noqa: PLC0415

    runs = tmp_path_factory.mktemp("trained")
    shutil.copytree(_tiny_prepared.path, runs / _tiny_prepared.path.name)
    run = open_run(tiny_recipe, runs)
    train(run)
    return run


@pytest.fixture
def treering(monkeypatch, capsys, tmp_path):
    """Call the command line in an empty folder; gives exit code, stdout and stderr."""
    from treering.cli import main as command_line  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["treering", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def hub(monkeypatch):
    """A Hub of simulated releases, to be audited with Hugging Face's own client."""
    import huggingface_hub  # noqa: PLC0415
    from hub_audit_making import serving  # noqa: PLC0415

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    with serving() as served:
        yield served
    huggingface_hub.close_session()
