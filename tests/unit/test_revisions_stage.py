"""Exporting a run: what is written, what is kept, what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig

from treering.checkpoints.store import load_weights
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import InputError, NonFiniteError
from treering.revisions.files import cast_weights, model_config, write_weights
from treering.revisions.install import install
from treering.revisions.stage import export
from treering.tokens.store import open_tokenizer
from treering.training.run import train

STEPS = (0, 1, 2, 4, 6, 12)


@pytest.fixture(scope="module")
def exported(tiny_trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    shutil.copytree(tiny_trained.path, folder)
    run = RunDirectory(folder, tiny_trained.recipe)
    export(run)
    return run


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def with_dtype(run, dtype) -> RunDirectory:
    revisions = run.recipe.revisions.model_copy(update={"dtype": dtype})
    return RunDirectory(run.path, run.recipe.model_copy(update={"revisions": revisions}))


def test_every_checkpoint_becomes_a_folder_with_the_trained_weights(exported):
    record = json.loads((exported.stage("revisions") / "revisions.json").read_text("utf-8"))
    assert [revision["step"] for revision in record["revisions"]] == list(STEPS)
    assert record["main"] == "step12"
    for step in STEPS:
        published = load_file(exported.stage("revisions") / f"step{step}" / "model.safetensors")
        trained = load_weights(exported.stage("checkpoints"), step, run_digest(exported.recipe))
        assert published.keys() == trained.keys()
        assert all(torch.equal(published[name], trained[name]) for name in trained)


def test_transformers_loads_model_and_tokenizer_of_a_revision_with_the_recipes_settings(exported):
    folder = exported.stage("revisions") / "step6"
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32
    assert model.config.hidden_act == exported.recipe.model.hidden_act
    assert model.config.rope_parameters["partial_rotary_factor"] == exported.recipe.model.rotary_pct
    tokenizer, own = AutoTokenizer.from_pretrained(folder), open_tokenizer(exported.stage("tokens"))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (own.end_of_document_id, own.padding_id)
    assert set(tokenizer("a tree")) == {"input_ids", "attention_mask"}


def test_the_configuration_says_the_same_in_the_words_of_both_transformers(exported):
    config = model_config(exported.recipe, open_tokenizer(exported.stage("tokens")))
    assert config["rope_parameters"]["partial_rotary_factor"] == config["rotary_pct"] == 0.25
    assert config["rope_parameters"]["rope_theta"] == config["rotary_emb_base"] == 10000
    assert config["dtype"] == config["torch_dtype"] == "float32"
    old_words_only = {name: value for name, value in config.items() if name not in ("rope_parameters", "dtype")}
    assert GPTNeoXConfig(**old_words_only).rope_parameters["partial_rotary_factor"] == 0.25


def test_exporting_twice_gives_the_same_bytes_and_the_second_time_writes_nothing(exported, tmp_path):
    shutil.copytree(exported.path, tmp_path / "run")
    again = RunDirectory(tmp_path / "run", exported.recipe)
    shutil.rmtree(again.stage("revisions"))
    export(again)
    assert tree(again.stage("revisions")) == tree(exported.stage("revisions"))
    times = {path: path.stat().st_mtime_ns for path in again.stage("revisions").rglob("*")}
    export(again)
    assert {path: path.stat().st_mtime_ns for path in again.stage("revisions").rglob("*")} == times


def test_an_interrupted_export_keeps_what_it_had_finished_and_mends_what_was_damaged(exported, tmp_path):
    shutil.copytree(exported.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run", exported.recipe)
    folder = run.stage("revisions")
    for path in (folder / "manifest.json", folder / "revisions.json"):
        path.unlink()
    shutil.rmtree(folder / "step4")
    damaged = folder / "step2" / "config.json"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    kept = (folder / "step1" / "model.safetensors").stat().st_mtime_ns
    export(run)
    assert tree(folder) == tree(exported.stage("revisions"))
    assert (folder / "step1" / "model.safetensors").stat().st_mtime_ns == kept


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_another_number_type_replaces_the_revisions_and_leaves_the_checkpoints_alone(exported, tmp_path, dtype):
    shutil.copytree(exported.path, tmp_path / "run")
    run = with_dtype(RunDirectory(tmp_path / "run", exported.recipe), dtype)
    (run.stage("revisions") / "step7").mkdir()
    export(run)
    weights = load_file(run.stage("revisions") / "step12" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {getattr(torch, dtype)}
    assert not (run.stage("revisions") / "step7").exists()
    record = json.loads((run.stage("revisions") / "revisions.json").read_text("utf-8"))
    assert record["float32_disk_bytes"] > sum(tensor.nbytes for tensor in weights.values()) * 1.9
    # transformers keeps its rotary frequencies beside the weights: a few numbers in fp32.
    assert 0 <= record["memory_float16_bytes"] - sum(tensor.numel() * 2 for tensor in weights.values()) <= 64
    assert tree(run.stage("checkpoints")) == tree(exported.stage("checkpoints"))


def test_weights_too_large_for_the_number_type_are_refused():
    with pytest.raises(NonFiniteError, match="too large for float16"):
        cast_weights({"embed_out.weight": torch.tensor([7e4])}, "float16", "step12")


def test_large_weights_are_sharded_and_load_as_one_model(exported, tmp_path):
    folder = tmp_path / "step12"
    shutil.copytree(exported.stage("revisions") / "step12", folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write_weights(folder, weights, largest_shard_bytes=40_000)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.gpt_neox.embed_in.weight, weights["gpt_neox.embed_in.weight"])
    assert torch.equal(model.get_output_embeddings().weight, weights["embed_out.weight"])


def test_an_unfinished_run_cannot_be_exported(tiny_run):
    with pytest.raises(InputError, match="`checkpoints` has not been done"):
        export(tiny_run)


def test_early_revisions_that_a_rate_of_zero_leaves_equal_say_so(tiny_run):
    schedule = {"name": "neox-v1", "warmup_steps": 3}
    training = {**tiny_run.recipe.training.model_dump(), "schedule": schedule}
    run = RunDirectory(tiny_run.path, Recipe.model_validate({**tiny_run.recipe.model_dump(), "training": training}))
    train(run)
    export(run)
    record = json.loads((run.stage("revisions") / "revisions.json").read_text("utf-8"))
    same = {revision["name"]: revision["same_weights_as"] for revision in record["revisions"]}
    assert same == {"step0": None, "step1": "step0", "step2": None, "step4": None, "step6": None, "step12": None}


def test_installing_needs_the_card(exported, tmp_path):
    with pytest.raises(InputError, match="`card` has not been done"):
        install(exported, "acme/tiny", tmp_path)
