"""Steps that are missing from a rhythm, and rhythms that miss nothing; what a card says was kept."""

import json

import pytest
from hub_audit_making import PYTHIA_STEPS

from treering.hub.audit.contents import Contents
from treering.hub.audit.schedule import card_steps, check_schedule, missing_steps
from treering.hub.branches import place_of
from treering.hub.listed import Branch, FileFact, Listing


def listed(steps, text: str = "", name: str = "step{}") -> Contents:
    """What is known of a release of branches without files, and a card."""
    names = [name.format(step) for step in steps]
    branches = tuple(Branch(one, place_of(one), one.rpartition("step")[0] + "step", None, {}) for one in names)
    main = Branch("main", None, "", None, {"README.md": FileFact("README.md", 1, "card")})
    return Contents(Listing("acme/x", branches, main, tuple(names), lambda *_: b""), texts={"card": text.encode()})


@pytest.mark.parametrize(
    "steps",
    [
        PYTHIA_STEPS,
        [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512],
        [*range(0, 10_001, 100), *range(11_000, 50_001, 1000)],
        sorted({*range(0, 50_001, 1000), *(2**n for n in range(13))}),
        [0, 1, 4, 16, 64, 256, 1000, 2000, 3000],
        [0, 1000, 5000, 10_000, 20_000, 50_000, 100_000],
        [*range(0, 10_001, 500), 10_250],
        range(360),
        [0, 1, 2, 4],
        [0, 512],
        [7],
        [1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000],
        [0, 1, 2, 4, 8, 10, 20, 30, 40],
    ],
    ids=str,
)
def test_nothing_is_missing_from_a_rhythm_that_is_kept(steps):
    assert missing_steps(list(steps))[0] == []


@pytest.mark.parametrize(
    "gone",
    [
        [26_000],
        [142_000],
        [2000],
        [64],
        [64, 128],
        [4000, 32_000],
        [26_000, 28_000],
        list(range(5000, 30_000, 1000)),
        [64, 70_000],
    ],
    ids=str,
)
def test_what_is_taken_from_a_rhythm_is_missing(gone):
    assert missing_steps([step for step in PYTHIA_STEPS if step not in gone])[0] == gone


def test_a_gap_at_the_end_is_told_by_what_was_before():
    assert missing_steps([*range(0, 140_001, 1000), 143_000])[0] == [141_000, 142_000]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Checkpoints were saved every 128 steps up to step 512, at initialization.", {0, 128, 256, 384, 512}),
        ("and at every power of two up to step 16.", {1, 2, 4, 8, 16}),
        ("initial `step0`, log-spaced\n`step{1,2,4...512}`", {0, *(2**n for n in range(10))}),
        ("and 143 evenly-spaced checkpoints from `step1000` to\n`step143000`.", set(range(1000, 143_001, 1000))),
        ("We saved a checkpoint every 1,000 steps, up to step 5,000.", {1000, 2000, 3000, 4000, 5000}),
        ("every 1 steps up to step 999999999999", set()),
        ("every 0 steps up to step 100", set()),
        ("It was saved every 1000 steps. Results are to step 7.", set()),
        ("", set()),
    ],
)
def test_what_a_card_says_was_kept_is_read(text, steps):
    assert set(card_steps(listed([0], text))) == steps


def test_a_card_goes_before_the_rhythm():
    text = "Checkpoints were saved every 100 steps up to step 1000."
    (finding,) = check_schedule(listed(range(100, 701, 100), text))
    assert finding.branches == ("step800", "step900", "step1000")
    assert "README.md" in finding.evidence[0]
    assert list(check_schedule(listed(range(100, 1001, 100), text))) == []


def test_trainings_beside_each_other_have_rhythms_of_their_own():
    one, other = (
        [f"stage2-ingredient{n}-step{step}" for step in steps]
        for n, steps in ((1, range(0, 9000, 1000)), (2, range(0, 4500, 500)))
    )
    contents = listed([], "")
    places = [Branch(name, place_of(name), name[: name.index("-step") + 5], None, {}) for name in [*one, *other]]
    listing = Listing("acme/x", tuple(sorted(places, key=lambda branch: branch.step)), None, (), lambda *_: b"")
    assert list(check_schedule(Contents(listing))) == []
    gone = tuple(branch for branch in listing.branches if branch.name != "stage2-ingredient2-step2000")
    (finding,) = check_schedule(Contents(Listing("acme/x", gone, None, (), lambda *_: b"")))
    assert finding.branches == ("stage2-ingredient2-step2000",) and "ingredient2" in finding.problem
    assert json.dumps(finding.record()) and contents.card == ""
