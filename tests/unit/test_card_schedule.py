"""The list of checkpoints in words, irregularities included."""

import json

import pytest
from card_making import change_record, lay_out_run, recipe_with_card, seal

from treering.card.schedule import CheckpointSchedule, equal_weights, example_step
from treering.card.stage import write_card
from treering.config.schema import Recipe
from treering.provenance.canonical import canonical_json
from treering.provenance.digests import digest_value

POWERS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def schedule_text(tmp_path, quickstart, steps: int, every: int, at=POWERS, **records) -> str:
    values = recipe_with_card(quickstart).model_dump()
    values["training"] |= {"steps": steps}
    values["training"]["schedule"] |= {"warmup_steps": 1 if steps > 1 else 0}
    values["checkpoints"] = {"at": at, "every": every}
    run = lay_out_run(tmp_path / "run", Recipe.model_validate(values), **records)
    write_card(run)
    readme = (run.stage("card") / "README.md").read_text()
    return readme[readme.index("## Accessing") : readme.index("This makes")]


def test_pythias_schedule_is_told_as_pythia_tells_it(tmp_path, quickstart):
    text = schedule_text(tmp_path, quickstart, 143_000, 1000)
    assert "availability of 154 intermediate training checkpoints, from initialization (step 0)" in text
    assert "through the final training step (step 143,000)" in text
    assert (
        "Checkpoints were saved every 1,000 steps up to step 143,000, at initialization, "
        "and at every power of two up to step 512." in text
    )
    assert "There are no exceptions to this schedule" in text
    assert 'revision="step1000"' in text


def test_series_that_interleave_are_told_to_be_uneven(tmp_path, quickstart):
    text = schedule_text(tmp_path, quickstart, 600, 100)
    assert "every 100 steps up to step 600, at initialization, and at every power of two up to step 512" in text
    assert "interleave" in text
    assert 'revision="step64"' in text


def test_a_last_step_that_is_no_multiple_is_told(tmp_path, quickstart):
    text = schedule_text(tmp_path, quickstart, 650, 100)
    assert "and at the last step." in text
    assert "The final step, 650, is not a multiple of 100: training ended there." in text


def test_steps_of_their_own_are_told(tmp_path, quickstart):
    text = schedule_text(tmp_path, quickstart, 30, 10, at=(0, 3, 7))
    assert "every 10 steps up to step 30, at initialization, and at steps 3 and 7." in text
    assert "power of two" not in text


def test_without_step_0_no_initialization_is_promised(tmp_path, quickstart):
    text = schedule_text(tmp_path, quickstart, 7, 100, at=(5,))
    assert "availability of 2 intermediate training checkpoints, from step 5 through" in text
    assert "Checkpoints were saved at step 5, and at the last step." in text


def test_one_update_makes_a_card_in_the_singular(tmp_path, quickstart):
    text = schedule_text(tmp_path, quickstart, 1, 1, at=(0,))
    assert "every 1 step up to step 1" in text
    assert 'revision="step1"' in text


def test_a_first_rate_of_0_explains_why_step_0_is_step_1(tmp_path, quickstart):
    run = lay_out_equal_first_weights(tmp_path / "run", recipe_with_card(quickstart))
    write_card(run)
    readme = (run.stage("card") / "README.md").read_text()
    assert "These checkpoints hold the same weights: `step0` and `step1`." in readme
    assert "The learning rate of the first update is 0.0." in readme
    assert "no exceptions" not in readme


def lay_out_equal_first_weights(folder, recipe):
    run = lay_out_run(folder, recipe)
    path = run.stage("revisions") / "revisions.json"
    revisions = json.loads(path.read_bytes())["revisions"]
    revisions[1]["weights_digest"] = revisions[0]["weights_digest"]
    change_record(path, revisions=revisions)
    lines = [canonical_json({"step": 0}), canonical_json({"step": 1, "learning_rate": 0.0})]
    (run.stage("training") / "ledger.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    seal(run)
    return run


@pytest.mark.parametrize(
    ("steps", "every", "powers", "multiples", "missing", "others"),
    [
        ((0, 1, 2, 4, 8, 10, 20), 10, (1, 2, 4, 8), (10, 20), (), ()),
        ((0, 1, 2, 3, 4), 1, (), (1, 2, 3, 4), (), ()),
        ((0, 10, 30), 10, (), (10, 30), (20,), ()),
        ((0, 1, 2, 8, 10), 10, (), (10,), (), (1, 2, 8)),
        ((3,), 5, (), (), (), ()),
    ],
)
def test_the_two_series_of_a_schedule(steps, every, powers, multiples, missing, others):
    schedule = CheckpointSchedule(steps, every)
    assert (schedule.powers, schedule.multiples, schedule.missing, schedule.others) == (powers, multiples, missing, others)


@pytest.mark.parametrize(("steps", "shown"), [((0, 64, 1000), 1000), ((0, 64, 100), 64), ((0, 10, 20), 10), ((7,), 7)])
def test_the_example_loads_a_step_that_exists(steps, shown):
    assert example_step(steps) == shown


def test_equal_weights_are_grouped_by_digest():
    revisions = [{"name": f"step{step}", "weights_digest": digest_value(step // 2)} for step in range(5)]
    assert equal_weights(revisions) == [["step0", "step1"], ["step2", "step3"]]
