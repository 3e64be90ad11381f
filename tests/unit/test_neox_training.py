"""What GPT-NeoX trained becomes a whole release: checkpoints imported, revisions, scores, card, and every look at it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from indexed_making import take_data_sets, write_indexed_recipe
from neox_making import write_neox_checkpoint
from release_making import SECTIONS
from training_making import prepare, resolve

from treering.card.stage import write_card
from treering.checkpoints.store import load_weights
from treering.config.digests import run_digest
from treering.config.reading import parse_recipe, read_recipe
from treering.config.run_directory import RunDirectory, open_run
from treering.errors import FormatError, InputError, IntegrityError, RecipeError
from treering.evaluation.stage import evaluate
from treering.model.shapes import parameter_shapes
from treering.neox.training import import_training, read_source
from treering.provenance.canonical import read_record, write_record
from treering.provenance.manifests import read_manifest, write_manifest
from treering.revisions.stage import export
from treering.verification.files import check_files
from treering.verification.release import verify
from treering.verification.sampling import Wanted
from treering.verification.segments import Segment
from treering.verification.verdicts import Verdict

KEPT = (0, 1, 2, 4)


CONFIG: dict[str, Any] = {
    "num-layers": 2,
    "hidden-size": 32,
    "num-attention-heads": 2,
    "seq-length": 32,
    "max-position-embeddings": 192,
    "pos-emb": "rotary",
    "rotary-pct": 0.25,
    "no-weight-tying": True,
    "gpt-j-residual": True,
    "init-method": "small_init",
    "output-layer-init-method": "wang_init",
    "seed": 7,
    "optimizer": {"type": "Adam", "params": {"lr": 0.01, "betas": [0.9, 0.95], "eps": 1e-8}},
    "min-lr": 0.001,
    "lr-decay-style": "cosine",
    "train-iters": 4,
    "warmup": 0.5,
}


def weights_of(step: int) -> dict[str, torch.Tensor]:
    """Weights in fp16, those of step 1 equal to those of step 0."""
    generator = torch.Generator().manual_seed(max(step, 1))
    shapes = parameter_shapes(resolve(model=SECTIONS["model"]).model)
    drawn = {name: torch.randn(shape, generator=generator).mul(64).round() / 1024 for name, shape in shapes.items()}
    return {name: (tensor + 1 if "norm.weight" in name else tensor).half() for name, tensor in drawn.items()}


def write_checkpoints(save: Path, steps: tuple[int, ...] = KEPT) -> Path:
    for step in steps:
        write_neox_checkpoint(save, step, weights_of(step), 2, ranks=2)
    return save


def recipe_of(folder: Path, save: Path, **sections: dict[str, Any]) -> Path:
    """The recipe of a run that GPT-NeoX trained in fp16, evaluated on a processor."""
    engine = {"engine": {"name": "gpt-neox", "checkpoints": str(save)}, "precision": "fp16"}
    sources = [{"neox": str(folder / "train"), "validation": str(folder / "validation")}]
    more = {**SECTIONS, "training": {**SECTIONS["training"], **engine}, "revisions": {"dtype": "float16"}, **sections}
    return write_indexed_recipe(folder, sources, **more)


@pytest.fixture
def folder(tiny_run: RunDirectory, tmp_path: Path) -> Path:
    return take_data_sets(tiny_run, tmp_path / "data")


@pytest.fixture(scope="module")
def _released(_tiny_prepared: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = take_data_sets(_tiny_prepared, tmp_path_factory.mktemp("imported") / "data")
    run = prepare(recipe_of(folder, write_checkpoints(folder / "save")), folder / "runs")
    for stage in (import_training, export, evaluate, write_card):
        stage(run)
    return run


@pytest.fixture
def released(_released: RunDirectory, tmp_path: Path) -> RunDirectory:
    """The test's own copy."""
    shutil.copytree(_released.path, tmp_path / "run")
    return open_run(tmp_path / "run")


def test_every_look_at_it_finds_nothing_and_its_checkpoints_are_read_again(released: RunDirectory) -> None:
    report = verify(released, Wanted(data=True))
    checks = {check["name"]: check for check in [*report["files"], *report["data"]]}
    assert {check["verdict"] for check in checks.values()} == {Verdict.REPRODUCED}, checks
    assert checks["checkpoints: each is its record's, of GPT-NeoX's files"]["found"] == "4 checkpoints"
    assert checks["checkpoints: read again from GPT-NeoX's files"]["found"] == "4 checkpoints"
    assert not [name for name in checks if "ledger" in name]


def test_a_checkpoint_is_what_gpt_neox_trained(released: RunDirectory) -> None:
    for step in KEPT:
        found = load_weights(released.stage("checkpoints"), step, run_digest(released.recipe))
        assert all(torch.equal(found[name], tensor.float()) for name, tensor in weights_of(step).items())
    record = json.loads((released.stage("training") / "training.json").read_text())
    assert (record["engines"], record["tokens"], record["checkpoint_steps"]) == (["GPT-NeoX"], 4 * 8 * 32, list(KEPT))
    assert not [name for name in record if "loss" in name]
    revisions = json.loads((released.stage("revisions") / "revisions.json").read_text())["revisions"]
    assert [revision["same_weights_as"] for revision in revisions] == [None, "step0", None, None]


def test_the_card_says_whose_training_it_was(released: RunDirectory) -> None:
    card = (released.stage("card") / "README.md").read_text(encoding="utf-8")
    for words in (
        "GPT-NeoX computed the updates, in fp16 with loss scaling; its checkpoints were imported with treering",
        "First weights were drawn by GPT-NeoX",
        "can be released again from its checkpoints",
        "no update of it is computed again",
        "put GPT-NeoX's, `global_stepN`, in",
        "In fp16 GPT-NeoX passes over updates that overflow, mostly the first",
        "Model, order and updates are as the recipe says; GPT-NeoX's own configuration was not there",
        "Documents held out, a data set of their own",
    ):
        assert words in card, words
    for words in (
        "The training loss was",
        "fully reproducible",
        "a restart leaves no trace",
        "Training used treering",
        "\n- reproducible",
    ):
        assert words not in card, words


def test_no_segment_of_it_can_be_run_again(released: RunDirectory) -> None:
    for wanted in (Wanted(every=True), Wanted(sample=1), Wanted(named=(Segment(0, 1),)), Wanted(budget_seconds=1.0)):
        with pytest.raises(InputError, match="no segment of this run can be re-run"):
            verify(released, wanted)


def other_weights(run: RunDirectory) -> None:
    """A checkpoint of GPT-NeoX's in another's place, and its record and the manifests made to fit."""
    place, other = run.stage("checkpoints") / "step2", run.stage("checkpoints") / "step4"
    shutil.copy(other / "weights.safetensors", place / "weights.safetensors")
    reseal_checkpoint(run, 2, json.loads((other / "state.json").read_text())["tensors"])


def reseal_checkpoint(run: RunDirectory, step: int, tensors: dict[str, str]) -> None:
    place = run.stage("checkpoints") / f"step{step}"
    record = read_record(place / "state.json", "checkpoint", 1)
    write_record(place / "state.json", "checkpoint", 1, {**record, "tensors": tensors})
    write_manifest(place, "checkpoint", run_digest(run.recipe), {})
    inputs = run.reads("tokens", "order")
    run.seal(run.stage("checkpoints"), "checkpoints", inputs)
    run.seal(run.stage("training"), "training", {**inputs, **run.reads("checkpoints")})


def test_weights_that_are_not_those_of_the_record_are_seen(released: RunDirectory) -> None:
    other_weights(released)
    (found,) = [check for check in check_files(released) if check.name.startswith("checkpoints: each is its record's")]
    assert (found.verdict, "this checkpoint is not its record's" in str(found.found)) == (Verdict.DIVERGED, True)


def test_files_that_changed_or_went_are_seen(folder: Path) -> None:
    save = write_checkpoints(folder / "save")
    run = prepare(recipe_of(folder, save), folder / "runs")
    import_training(run)
    before = read_manifest(run.stage("training")).digest
    assert import_training(run).digest == before
    shutil.rmtree(save / "global_step4")
    (found,) = [check for check in verify(run, Wanted(data=True))["data"] if "GPT-NeoX" in check["name"]]
    assert (found["verdict"], found["found"]) == (Verdict.NOT_RUN, "1 of 4 are not there")
    write_neox_checkpoint(save, 4, weights_of(2), 2, ranks=2)
    (found,) = [check for check in verify(run, Wanted(data=True))["data"] if "GPT-NeoX" in check["name"]]
    assert found["verdict"] == Verdict.DIVERGED
    assert "not the files that the checkpoint was made from" in found["found"]


def test_an_interrupted_import_goes_on_and_refuses_other_files(folder: Path) -> None:
    save = write_checkpoints(folder / "save")
    run = prepare(recipe_of(folder, save), folder / "runs")
    broken = save / "global_step2" / "layer_03-model_01-model_states.pt"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    with pytest.raises(FormatError):
        import_training(run)
    assert read_source(run, 1)["iteration"] == 1
    broken.write_bytes(content)
    shutil.rmtree(save / "global_step1")
    write_neox_checkpoint(save, 1, weights_of(4), 2, ranks=2)
    with pytest.raises(IntegrityError, match="not the files that the checkpoint was made from"):
        import_training(run)
    shutil.rmtree(save / "global_step1")
    write_neox_checkpoint(save, 1, weights_of(1), 2, ranks=2)
    import_training(run)


def test_a_run_that_kept_no_step_0_is_imported(folder: Path) -> None:
    save = write_checkpoints(folder / "save", (2, 4))
    run = prepare(recipe_of(folder, save, checkpoints={"at": [], "every": 2}), folder / "runs")
    import_training(run)
    for stage in (export, evaluate, write_card):
        stage(run)
    card = (run.stage("card") / "README.md").read_text(encoding="utf-8")
    assert "from step 2 through the final training step" in card


def write_configs(save: Path, **changes: Any) -> None:
    folder = save / "global_step4" / "configs"
    folder.mkdir(exist_ok=True)
    (folder / "model.yml").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")


def neox_recipe(folder: Path, save: Path) -> Path:
    """A recipe that GPT-NeoX has a configuration for."""
    path = recipe_of(folder, save, model={**SECTIONS["model"], "seed": 7})
    recipe = json.loads(path.read_text())
    recipe["training"]["schedule"] = {"name": "neox-v1", "warmup_steps": 2, "minimum_learning_rate": 0.001}
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def test_gpt_neoxs_own_record_of_the_run_is_compared(folder: Path) -> None:
    save = write_checkpoints(folder / "save")
    run = prepare(neox_recipe(folder, save), folder / "runs")
    maps = sorted(run.stage("order").glob("train_0_indexmap_*.npy"))
    for path in maps:  # under a later version's name
        shutil.copy(path, folder / f"train_{path.name.replace('7s_', '7s_packedpi_ac_')}")
    write_configs(save, **{"train-data-weights": [2.5], "train-micro-batch-size-per-gpu": 4, "gas": 2})
    import_training(run)
    record = json.loads((run.stage("training") / "training.json").read_text())["compared"]
    assert (list(record["configuration"]), record["index_maps"]) == (["model.yml"], 3)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hidden-size": 64}, "another hidden_size than the recipe"),
        ({"seed": 8}, "another seed"),
        ({"warmup": 0.25}, "another warmup"),
        ({"optimizer": {"type": "Adam", "params": {"lr": 0.02}}}, "another optimizer.params.lr than the recipe, and 1 more"),
        ({"train-data-weights": [2.0, 1.0]}, "another train_data_weights"),
        ({"train-micro-batch-size-per-gpu": 4}, "another train_batch_size"),  # on the one rank that the checkpoint speaks of
        ({"train-batch-size": 16}, "another train_batch_size"),
        ({"lr-decay-iters": 8}, "another warmup|another lr_decay_iters"),
    ],
)
def test_a_configuration_that_says_something_else_is_refused(folder: Path, changes: dict[str, Any], problem: str) -> None:
    save = write_checkpoints(folder / "save")
    run = prepare(neox_recipe(folder, save), folder / "runs")
    write_configs(save, **changes)
    with pytest.raises(IntegrityError, match=problem):
        import_training(run)


def test_index_maps_that_are_others_than_the_runs_are_refused(folder: Path) -> None:
    run = prepare(recipe_of(folder, write_checkpoints(folder / "save")), folder / "runs")
    (maps,) = run.stage("order").glob("train_0_indexmap_*_shuffle_idx.npy")
    (folder / f"train_{maps.name}").write_bytes(maps.read_bytes()[:-4] + bytes(4))
    with pytest.raises(IntegrityError, match="GPT-NeoX's index map is not the run's"):
        import_training(run)


@pytest.mark.parametrize(("precision", "steps", "refused"), [("fp32", 4, True), ("fp16", 4, False), ("fp16", 70, True)])
def test_late_checkpoints_of_equal_weights_are_refused(folder: Path, precision: str, steps: int, refused: bool) -> None:
    save = folder / "save"
    for step in (2, steps):
        write_neox_checkpoint(save, step, weights_of(2), 2)
    path = recipe_of(folder, save, checkpoints={"at": [2], "every": 100})
    recipe = json.loads(path.read_text())
    recipe["training"] |= {"precision": precision, "steps": steps}
    path.write_text(json.dumps(recipe), encoding="utf-8")
    run = prepare(path, folder / "runs")
    import_training(run)
    if not refused:
        export(run)
        return
    with pytest.raises(IntegrityError, match="two checkpoints have the same weights"):
        export(run)


@pytest.mark.parametrize("change", ["removed", "added", "another iteration", "no files"])
def test_records_of_other_sources_are_seen(released: RunDirectory, change: str) -> None:
    folder = released.stage("training") / "imported"
    path = folder / "step2.json"
    record = read_record(path, "imported-checkpoint", 1)
    if change == "removed":
        path.unlink()
    elif change == "added":
        shutil.copy(path, folder / "step3.json")
    else:
        more = {"iteration": 3} if change == "another iteration" else {"files": {}}
        write_record(path, "imported-checkpoint", 1, {**record, **more})
    released.seal(released.stage("training"), "training", read_manifest(released.stage("training")).reads)
    (found,) = [check for check in check_files(released) if check.name.startswith("checkpoints: each is its record's")]
    assert found.verdict == Verdict.DIVERGED


def test_without_checkpoints_nothing_is_read_again(released: RunDirectory) -> None:
    shutil.rmtree(released.stage("checkpoints"))
    (found,) = [check for check in verify(released, Wanted(data=True))["data"] if "GPT-NeoX" in check["name"]]
    assert (found["verdict"], found["found"]) == (Verdict.NOT_RUN, "checkpoints not there")


@pytest.mark.parametrize(
    ("steps", "problem"), [((0, 1, 4), "3 of them, without 2"), ((0, 1, 2, 3, 4), "5 of them, with 3"), ((), "no checkpoint")]
)
def test_other_steps_than_the_recipes_are_refused(folder: Path, steps: tuple[int, ...], problem: str) -> None:
    (folder / "save").mkdir()
    run = prepare(recipe_of(folder, write_checkpoints(folder / "save", steps)), folder / "runs")
    with pytest.raises(InputError, match=problem):
        import_training(run)


def test_a_run_that_gpt_neox_trained_is_another_run(folder: Path) -> None:
    recipe = read_recipe(recipe_of(folder, folder / "save"))
    elsewhere = read_recipe(recipe_of(folder, folder / "other"))
    ours = json.loads((folder / "tiny.yaml").read_text())
    ours["training"] = {key: value for key, value in ours["training"].items() if key not in ("engine", "precision")}
    assert run_digest(recipe) == run_digest(elsewhere)
    assert run_digest(recipe) != run_digest(parse_recipe(json.dumps(ours), "ours.yaml"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"order": {"name": "treering"}}, "trained in its own order, neox-v1"),
        ({"corpus": {"sources": [{"neox": "a"}]}}, "GPT-NeoX trained on all of a data set"),
        ({"corpus": {"sources": [{"path": "a"}]}}, "is text, but GPT-NeoX trained on tokens"),
        ({"training": {"precision": "fp16"}}, "fp16 is only of runs that GPT-NeoX trained"),
        ({"training": {"engine": {"name": "neox"}}}, "`name: gpt-neox`"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(folder: Path, change: dict[str, Any], problem: str) -> None:
    recipe = json.loads(recipe_of(folder, folder / "save").read_text())
    for name, fields in change.items():
        if name == "training":
            del recipe["training"]["engine"]
        recipe[name] = {**recipe[name], **fields}
    with pytest.raises(RecipeError, match=problem):
        parse_recipe(json.dumps(recipe), "tiny.yaml")


def test_the_verbs_walk_the_way(treering: Any, folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder, write_checkpoints(folder / "save"))
    code, out, err = treering("show", recipe)
    assert code == 0, err
    assert "none: GPT-NeoX's checkpoints are imported" in out
    assert "resumable         0" in out
    assert treering("prepare", recipe, "--runs", "here")[0] == 0
    code, out, err = treering("train", recipe, "--runs", "here")
    assert code == 0, err
    assert "4 checkpoints, step 4, 1,024 tokens, imported from GPT-NeoX" in out
    code, out, err = treering("run", recipe, "--runs", "here")
    assert code == 0, err
    assert treering("verify", "here/tiny", "--data")[0] == 0
    assert treering("verify", "here/tiny", "--all")[0] == 2
