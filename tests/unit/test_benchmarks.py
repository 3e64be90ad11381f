"""What the documents say of speed and memory is what was measured."""

import json
from pathlib import Path

import pytest

from treering.provenance.digests import digest_value

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DRAWN = sorted(path.stem for path in (BENCHMARKS / "results").glob("*.json"))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have benchmarks find each other, as they do when they are started."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_benchmark_with_results_is_on_the_page_and_has_a_command(repository: Path) -> None:
    from page import SECTIONS  # noqa: PLC0415

    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    assert DRAWN
    for name in DRAWN:
        command = SECTIONS[name][1]
        assert command.removeprefix("make ") in makefile
        assert (BENCHMARKS / f"{name.replace('-', '_')}.py").exists()


@pytest.mark.parametrize("name", DRAWN)
def test_every_picture_was_drawn_from_the_last_results(repository: Path, name: str) -> None:
    from page import latest  # noqa: PLC0415

    picture = (repository / "docs" / "benchmarks" / f"{name}.svg").read_text(encoding="utf-8")
    assert digest_value(latest(name)) in picture


def test_the_page_has_the_last_run_of_each_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import page  # noqa: PLC0415

    runs = [{"settings": {"model": model}, "rows": rows} for model, rows in (("a", 1), ("b", 2), ("a", 3))]
    (tmp_path / "training.json").write_text(json.dumps(runs), encoding="utf-8")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert [run["rows"] for run in page.latest("training")] == [3, 2]
    assert page.latest("memory") == []
