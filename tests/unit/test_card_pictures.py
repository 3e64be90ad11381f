"""The evaluation's pictures on the card: what stands there, and that no other picture can."""

from pathlib import Path

import numpy as np
import pytest
from card_making import PARAMETERS, change_record, lay_out_run, recipe_with_card, seal

from treering.card.checking import check_claims
from treering.card.claims import Claims
from treering.card.records import Records
from treering.card.sections.evaluation import shown_tasks
from treering.card.sections.pictures import pictures
from treering.card.stage import write_card
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import ClaimError, ManifestError
from treering.evaluation.figure_data import FigureData
from treering.evaluation.figures import draw_figures
from treering.provenance.canonical import read_record, write_record
from treering.verification.files import check_stage
from treering.verification.verdicts import Verdict

NAMES = ("8_queens", "loss")
PICTURES = ["8_queens.png", "loss.png", "loss.task.png", "overview.png"]


def make_run(folder: Path, recipe: Recipe) -> RunDirectory:
    """A run with two tasks of awkward names, and the pictures of its scores."""
    metrics = [
        {"metric": "acc", "value": 0.7, "stderr": 0.02, "interval": [0.66, 0.74], "higher_is_better": True, "chance": 0.5}
    ]
    run = lay_out_run(folder, recipe, harness={"confidence": 0.95})
    evaluation = run.stage("evaluation")
    harness = read_record(evaluation / "harness" / "step512.json", "harness", 1)
    tasks = [{**task, "task": name, "metrics": metrics} for task, name in zip(harness["tasks"], NAMES, strict=True)]
    harness |= {"tasks": tasks}
    write_record(evaluation / "harness" / "step512.json", "harness", 1, harness)
    rows = read_record(evaluation / "evaluation.json", "evaluation", 1)["revisions"]
    tokens = {row["name"]: row["step"] * 2048 for row in rows}
    draw_figures(evaluation / "figures", FigureData([harness], rows, tokens, 6.4, np.linspace(8, 4, 512), 2048))
    seal(run)
    return run


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, repository):
    quickstart = (repository / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    run = make_run(tmp_path_factory.mktemp("pictures") / "run", recipe_with_card(quickstart))
    write_card(run)
    return run


@pytest.fixture
def run(laid_out):
    """A run with its card; whatever a test changes is put back."""
    before = {path: path.read_bytes() for path in laid_out.path.rglob("*") if path.is_file()}
    yield laid_out
    for path, content in before.items():
        path.write_bytes(content)


def readme(run: RunDirectory) -> str:
    return (run.stage("card") / "README.md").read_text(encoding="utf-8")


def test_every_picture_lies_beside_the_card_byte_for_byte(run):
    card, evaluation = run.stage("card") / "figures", run.stage("evaluation") / "figures"
    assert sorted(path.name for path in card.iterdir()) == PICTURES
    for name in PICTURES:
        assert (card / name).read_bytes() == (evaluation / name).read_bytes()


def test_a_card_with_pictures_is_accepted(run):
    check_claims(run)
    assert check_stage(run, "card").verdict == Verdict.REPRODUCED
    assert check_stage(run, "evaluation").verdict == Verdict.REPRODUCED


def test_the_card_shows_all_scores_and_the_loss_and_says_what_is_seen(run):
    lines = readme(run).split("\n")
    scores = "Scores with their intervals against tokens seen, dashed what guessing scores: `8_queens` `acc` and `loss` `acc`"
    assert f"![{scores}](<figures/overview.png>)" in lines
    (loss,) = [line for line in lines if line.endswith("](<figures/loss.png>)")]
    assert loss.startswith(
        "![Loss on held-out text against tokens seen, in nats per token: 8.300 at `step0` and 4.200 at `step512`; dashed, 6.400"
    )


def test_the_card_leads_to_each_tasks_picture(run):
    links = "[`8_queens`](<figures/8_queens.png>) and [`loss`](<figures/loss.task.png>)"
    assert f"Each task has a picture of its own: {links}." in readme(run).split("\n")


def test_every_picture_on_the_card_is_there(run):
    named = [part.partition(">")[0] for part in readme(run).split("](<figures/")[1:]]
    assert sorted(named) == PICTURES


def test_a_picture_stands_alone_between_empty_lines(run):
    lines = readme(run).split("\n")
    for number, line in enumerate(lines):
        if line.startswith("!["):
            assert (lines[number - 1], lines[number + 1]) == ("", "")


def test_of_a_single_revision_one_loss_is_told(tmp_path, quickstart):
    values = recipe_with_card(quickstart).model_dump()
    values["checkpoints"] |= {"at": (512,), "every": 1000, "resumable_every": 1000}
    run = make_run(tmp_path / "run", Recipe.model_validate(values))
    write_card(run)
    check_claims(run)
    assert "in nats per token: 4.200 at `step512`; dashed, 6.400 of a unigram model" in readme(run)


def test_other_models_scores_are_named_where_they_are_drawn(tmp_path, quickstart):
    run = make_run(tmp_path / "run", recipe_with_card(quickstart))
    curve = {"model": "pythia-14m", "task": "loss", "metric": "acc", "points": []}
    about = {"revision": "step512", "parameters": PARAMETERS, "tasks": [], "curves": [curve]}
    write_record(run.stage("evaluation") / "comparison.json", "comparison", 1, about)
    claims = Claims(Records(run.path))
    lines = claims.settle("\n".join(pictures(claims, shown_tasks(claims)))).text
    assert "dashed what guessing scores, in grey those of `pythia-14m`: `8_queens`" in lines


def test_without_pictures_none_is_named(tmp_path, quickstart):
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart), harness={"confidence": 0.95, "tasks": []})
    write_card(run)
    check_claims(run)
    assert "figures/" not in readme(run)
    assert "![" not in readme(run)
    assert not (run.stage("card") / "figures").exists()


@pytest.mark.parametrize("stage", ["card", "evaluation"])
def test_swapped_pictures_are_seen(run, stage):
    one, other = (run.stage(stage) / "figures" / name for name in ("overview.png", "loss.png"))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert check_stage(run, stage).verdict == Verdict.DIVERGED
    with pytest.raises(ManifestError):
        run.verified(stage)


@pytest.mark.parametrize("stage", ["card", "evaluation"])
def test_a_missing_picture_is_seen(run, stage):
    (run.stage(stage) / "figures" / "overview.png").unlink()
    assert check_stage(run, stage).verdict == Verdict.DIVERGED


def test_an_added_picture_is_seen(run):
    added = run.stage("card") / "figures" / "another.png"
    added.write_bytes(b"\x89PNG")
    verdict = check_stage(run, "card").verdict
    added.unlink()
    assert verdict == Verdict.DIVERGED


def test_another_picture_under_the_same_words_is_seen(run):
    path = run.stage("card") / "README.md"
    path.write_text(readme(run).replace("(<figures/overview.png>)", "(<figures/loss.png>)"), encoding="utf-8")
    with pytest.raises(ClaimError):
        check_claims(run)


def test_other_words_under_a_picture_are_seen(run):
    path = run.stage("evaluation") / "evaluation.json"
    revisions = read_record(path, "evaluation", 1)["revisions"]
    change_record(path, revisions=[{**revisions[0], "loss_nats": 7.0}, *revisions[1:]])
    with pytest.raises(ClaimError, match=r"8\.300"):
        check_claims(run)
