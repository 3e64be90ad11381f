"""A run's folder belongs to one recipe; stages are found again by the digest of their inputs."""

import json
from pathlib import Path

import pytest

from treering.config.differences import differences
from treering.config.digests import STAGES, recipe_digest, resolved, run_digest, stage_digest
from treering.config.reading import parse_recipe, read_recipe
from treering.config.run_directory import RunDirectory, holds_run, open_run
from treering.errors import InputError, IntegrityError, ManifestError, RecipeError, StorageError
from treering.provenance.files import whole_directory


@pytest.fixture
def recipe_file(tmp_path: Path, quickstart: str) -> Path:
    """The quickstart's recipe in a folder of its own."""
    path = tmp_path / "quickstart.yaml"
    path.write_text(quickstart, encoding="utf-8")
    return path


@pytest.fixture
def run(recipe_file: Path, tmp_path: Path) -> RunDirectory:
    """A run that has just begun."""
    return open_run(recipe_file, tmp_path / "runs")


def change(path: Path, old: str, new: str) -> None:
    """Change one place of a file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def finish(run: RunDirectory, stage: str, reads: dict[str, str]) -> None:
    """Write a stage's folder with something in it."""
    with whole_directory(run.stage(stage)) as partial:
        (partial / "content.txt").write_text(stage)
        run.seal(partial, stage, reads)


def test_a_run_begins_with_the_resolved_recipe(run: RunDirectory, recipe_file: Path) -> None:
    assert run.path.name == "quickstart"
    written = read_recipe(run.path / "recipe.yaml")
    assert written == read_recipe(recipe_file)
    assert "intermediate_size: 512" in (run.path / "recipe.yaml").read_text(encoding="utf-8")


def test_opening_again_by_recipe_or_by_folder_changes_no_byte(run: RunDirectory, recipe_file: Path) -> None:
    content = (run.path / "recipe.yaml").read_bytes()
    assert open_run(recipe_file, run.path.parent) == run
    assert open_run(run.path) == run
    assert open_run(run.path / "recipe.yaml", run.path.parent) == run
    assert (run.path / "recipe.yaml").read_bytes() == content


def test_an_existing_run_with_another_recipe_is_refused_with_the_difference(run: RunDirectory, recipe_file: Path) -> None:
    content = (run.path / "recipe.yaml").read_bytes()
    change(recipe_file, "learning_rate: 3e-3", "learning_rate: 2e-3")
    with pytest.raises(InputError, match="begun with another recipe") as caught:
        open_run(recipe_file, run.path.parent)
    assert caught.value.exit_code == 2
    assert "training.optimizer.learning_rate: 0.003 ≠ 0.002" in str(caught.value)
    assert (run.path / "recipe.yaml").read_bytes() == content


def test_what_changes_no_weight_can_change_in_an_existing_run(run: RunDirectory, recipe_file: Path) -> None:
    change(recipe_file, "model_name: sapling-sotu", "model_name: another-name")
    again = open_run(recipe_file, run.path.parent)
    assert again.recipe.card.model_name == "another-name"
    assert read_recipe(run.path / "recipe.yaml") == again.recipe


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no recipe\.yaml"):
        open_run(tmp_path)


def test_a_missing_recipe_begins_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe"):
        open_run(tmp_path / "absent.yaml", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_wrong_recipe_begins_no_run(recipe_file: Path, tmp_path: Path) -> None:
    change(recipe_file, "vocabulary_size: 4096", "vocabulary_size: many")
    with pytest.raises(RecipeError):
        open_run(recipe_file, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_recipe_was_broken_is_named(run: RunDirectory, recipe_file: Path) -> None:
    change(run.path / "recipe.yaml", "hidden_size: 128", "hidden_size: wide")
    with pytest.raises(RecipeError, match="runs/quickstart"):
        open_run(recipe_file, run.path.parent)


@pytest.mark.parametrize("in_the_way", ["runs", "runs/quickstart"])
def test_a_file_where_the_run_should_be_is_a_storage_error(recipe_file: Path, tmp_path: Path, in_the_way: str) -> None:
    path = tmp_path / in_the_way
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(StorageError):
        open_run(recipe_file, tmp_path / "runs")
    assert path.read_text() == "mine"


def test_a_finished_stage_is_found_and_verified(run: RunDirectory) -> None:
    assert run.find("corpus", {}) is None
    finish(run, "corpus", {})
    found = run.find("corpus", {})
    assert found is not None
    assert run.verified("corpus") == found
    assert run.reads("corpus") == {"corpus": found.digest}


def test_a_stage_that_has_not_been_done_is_named_with_the_command_that_does_it(run: RunDirectory) -> None:
    with pytest.raises(InputError, match="`tokens` has not been done") as caught:
        run.reads("tokens")
    assert "treering run " in str(caught.value)


def test_a_corpus_changed_between_stages_is_found_by_every_later_stage(run: RunDirectory) -> None:
    finish(run, "corpus", {})
    reads = run.reads("corpus")
    finish(run, "tokens", reads)
    (run.stage("corpus") / "content.txt").write_text("forged")
    with pytest.raises(ManifestError, match=r"content\.txt has changed|instead of"):
        run.reads("corpus")
    run.seal(run.stage("corpus"), "corpus", {})  # the forger makes a manifest to match
    assert run.reads("corpus") != reads
    with pytest.raises(IntegrityError, match="made from other inputs"):
        run.find("tokens", run.reads("corpus"))


def test_a_manifest_whose_reads_were_edited_is_found(run: RunDirectory) -> None:
    finish(run, "corpus", {})
    finish(run, "tokens", run.reads("corpus"))
    path = run.stage("tokens") / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["reads"]["corpus"] = "sha256:" + "0" * 64
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(IntegrityError, match="made from other inputs"):
        run.verified("tokens")


def test_a_cheap_stage_of_another_section_is_done_again_and_a_dear_one_refused(run: RunDirectory, recipe_file: Path) -> None:
    finish(run, "card", {})
    change(recipe_file, "model_name: sapling-sotu", "model_name: another-name")
    again = open_run(recipe_file, run.path.parent)
    assert again.find("card", {}, replaceable=True) is None
    with pytest.raises(IntegrityError):
        again.find("card", {})


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        ("validation_fraction: 0.02", "validation_fraction: 0.03", {"corpus"}),
        ("vocabulary_size: 4096", "vocabulary_size: 4095", {"tokens"}),
        ("seed: 1234                   # the data seed", "seed: 1", {"order"}),
        ("seed: 1234                   # the weight seed", "seed: 1", {"checkpoints", "training"}),
        ("learning_rate: 3e-3", "learning_rate: 2e-3", {"checkpoints", "training"}),
        ("every: 128", "every: 64", {"checkpoints", "training"}),
    ],
)
def test_a_field_moves_the_digests_of_its_own_stage_of_the_card_and_of_the_run(
    quickstart: str, old: str, new: str, moved: set[str]
) -> None:
    assert quickstart.count(old) == 1
    one, other = parse_recipe(quickstart, "one"), parse_recipe(quickstart.replace(old, new), "other")
    assert {stage for stage in STAGES if stage_digest(one, stage, {}) != stage_digest(other, stage, {})} == {*moved, "card"}
    assert run_digest(one) != run_digest(other)
    assert recipe_digest(one) != recipe_digest(other)


@pytest.mark.parametrize(
    ("section", "stage"), [("revisions:\n  dtype: float16", "revisions"), ("evaluation:\n  num_fewshot: 1", "evaluation")]
)
def test_what_is_done_with_a_finished_run_leaves_its_digest(quickstart: str, section: str, stage: str) -> None:
    one, other = parse_recipe(quickstart, "one"), parse_recipe(f"{quickstart}\n{section}\n", "other")
    assert run_digest(one) == run_digest(other)
    assert recipe_digest(one) != recipe_digest(other)
    assert [name for name in STAGES if stage_digest(one, name, {}) != stage_digest(other, name, {})] == [stage, "card"]


def test_what_a_stage_reads_is_in_its_digest(quickstart: str) -> None:
    recipe = parse_recipe(quickstart, "one")
    digests = {
        stage_digest(recipe, "tokens", reads)
        for reads in ({}, {"corpus": "sha256:a"}, {"corpus": "sha256:b"}, {"order": "sha256:a"})
    }
    assert len(digests) == 4


def test_every_field_of_a_recipe_is_in_some_digest_but_observe(quickstart: str) -> None:
    recipe = parse_recipe(quickstart, "one")
    assert differences(recipe, recipe) == []
    sections = set(resolved(recipe)) - {"name", "observe"}
    for section in sections:
        changes = {"training": {"steps": 7}, "order": {"seed": 7}, "evaluation": {"batch_size": 7}}
        other = getattr(recipe, section).model_copy(update=changes[section]) if section in changes else None
        others = recipe.model_copy(update={section: other})
        assert recipe_digest(others) != recipe_digest(recipe)
        assert any(stage_digest(others, stage, {}) != stage_digest(recipe, stage, {}) for stage in STAGES), section


def test_the_engine_is_in_the_digest_of_what_is_published_and_of_the_card_and_in_no_other(quickstart: str) -> None:
    one = parse_recipe(quickstart, "one")
    other = parse_recipe(quickstart.replace("training:\n", "training:\n  engine: {name: deepspeed, stage: 3}\n", 1), "other")
    assert differences(one, other) != []
    assert run_digest(one) == run_digest(other)
    assert recipe_digest(one) != recipe_digest(other)
    assert [name for name in STAGES if stage_digest(one, name, {}) != stage_digest(other, name, {})] == ["card"]


def test_differences_name_each_field_with_both_values(quickstart: str) -> None:
    one = parse_recipe(quickstart, "one")
    other = parse_recipe(
        quickstart.replace("name: quickstart", "name: other").replace("learning_rate: 3e-3", "learning_rate: 1"), "other"
    )
    assert differences(one, other) == ["name: 'quickstart' ≠ 'other'", "training.optimizer.learning_rate: 0.003 ≠ 1.0"]


def test_a_download_of_main_is_no_run_though_it_has_the_recipe(run: RunDirectory) -> None:
    assert holds_run(run.path)
    (run.path / "config.json").write_text("{}")
    assert not holds_run(run.path)
    with pytest.raises(InputError, match="download of a release's `main`"):
        open_run(run.path)
