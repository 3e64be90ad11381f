"""A whole release of a run on GPT-NeoX's data sets, in GPT-NeoX's order."""

from typing import Any

import pytest
from indexed_making import take_data_sets, write_indexed_recipe
from release_making import SECTIONS, walk

from treering.card.checking import check_claims
from treering.config.run_directory import RunDirectory
from treering.verification.release import verify
from treering.verification.sampling import Wanted
from treering.verification.verdicts import Verdict


@pytest.fixture(scope="module", params=["one data set", "two blended"])
def release(request: pytest.FixtureRequest, _tiny_prepared: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = take_data_sets(_tiny_prepared, tmp_path_factory.mktemp("tokens") / "data")
    one = [{"neox": str(folder / "train"), "validation": str(folder / "validation")}]
    two = [{"neox": str(folder / "train"), "weight": 3.0, "domain": "a"}, {"neox": str(folder / "validation"), "domain": "b"}]
    blended = request.param == "two blended"
    return blended, walk(write_indexed_recipe(folder, two if blended else one, **SECTIONS), folder / "runs")


def test_every_look_at_it_finds_nothing(release: tuple[bool, RunDirectory]) -> None:
    blended, run = release
    check_claims(run)
    report = verify(run, Wanted(every=True, data=True))
    checks = [*report["files"], *report["data"], *report["segments"]]
    assert {check["verdict"] for check in checks} == {Verdict.REPRODUCED}, checks
    assert len(report["segments"]) == 3
    maps = "2 index maps" if blended else "1 index map"
    assert any(maps in str(check["found"]) for check in checks)


def test_the_card_says_what_it_was_trained_on(release: tuple[bool, RunDirectory]) -> None:
    blended, run = release
    card = (run.stage("card") / "README.md").read_text(encoding="utf-8")
    expected = [
        "The documents were tokens already, and were taken over as they were.",
        "The order is GPT-NeoX's: the documents of",
        "training documents end with the end-of-document token",
        "(`.bin` and `.idx`) where the recipe names it; its digest is",
        *(["2 data sets were blended by their weights", "at the end of a data set"] if blended else ["data sets of their own"]),
    ]
    for words in expected:
        assert words in card, words
    for words in ("normal form", "chosen by digest", "pseudorandom"):
        assert words not in card
