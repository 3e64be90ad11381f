"""Exporting a run: what is written, what is kept, what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from training_making import prepare, small_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig

from treering.checkpoints.store import load_weights
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import FormatError, InputError, NonFiniteError
from treering.provenance.canonical import write_record
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
    (folder / "step0" / "extra.py").write_text("print('not listed')")
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


def test_going_back_to_the_first_number_type_after_a_stopped_change_writes_the_first_revisions_again(
    exported, tmp_path, monkeypatch
):
    shutil.copytree(exported.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run", exported.recipe)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("treering.revisions.stage.check_tokenizer", stop)
        with pytest.raises(KeyboardInterrupt):
            export(with_dtype(run, "bfloat16"))
    shutil.copytree(exported.stage("revisions") / "step1", run.stage("revisions") / "step1", dirs_exist_ok=True)
    export(run)
    assert tree(run.stage("revisions")) == tree(exported.stage("revisions"))


def test_a_corpus_that_is_not_normalised_is_gated_as_its_tokenizer_reads_it(tmp_path):
    texts = [f"Café {number}: the frost came before its leaves. " * 3 for number in range(60)]  # é as e and an accent
    corpus = tmp_path / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    recipe = small_recipe(corpus, corpus={"normalisation": "none"}, training={"steps": 1, "schedule": {"name": "constant"}})
    path = tmp_path / "nfd.yaml"
    path.write_text(json.dumps(recipe), "utf-8")
    run = prepare(path, tmp_path / "runs")
    train(run)
    export(run)
    assert (run.stage("revisions") / "manifest.json").exists()


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


@pytest.fixture
def with_card(exported, tmp_path):
    """The exported run with a card's folder, its text beside the point here."""
    run = RunDirectory(shutil.copytree(exported.path, tmp_path / "run"), exported.recipe)
    run.stage("card").mkdir()
    (run.stage("card") / "README.md").write_text("# tiny\n")
    (run.stage("card") / "recipe.yaml").write_text("name: published\n")
    records = {"tokens/tokens.json": "/train/tokens", "recipe.yaml": "/name"}
    evidence = [{"record": record, "field": field} for record, field in records.items()]
    claim = {"sentence": "x", "value": "x", "form": "count", "evidence": evidence}
    write_record(run.stage("card") / "claims.json", "claims", 1, {"card_digest": "x", "claims": [claim]})
    (run.stage("card") / "figures").mkdir()
    (run.stage("card") / "figures" / "loss.png").write_bytes(b"a picture")
    run.stage("evaluation").mkdir()
    for stage in ("evaluation", "card"):
        run.seal(run.stage(stage), stage, {})
    return run


def test_installing_again_removes_branches_that_are_no_more(with_card, tmp_path):
    folder = install(with_card, "acme/tiny", tmp_path / "cache").folder
    (folder / "refs" / "step99").write_text("0" * 40)
    install(with_card, "acme/tiny", tmp_path / "cache")
    assert sorted(ref.name for ref in (folder / "refs").iterdir()) == sorted(["main", *(f"step{step}" for step in STEPS)])
    loaded = AutoModelForCausalLM.from_pretrained(folder / "snapshots" / (folder / "refs" / "step2").read_text())
    trained = load_weights(with_card.stage("checkpoints"), 2, run_digest(with_card.recipe))
    assert torch.equal(loaded.gpt_neox.embed_in.weight, trained["gpt_neox.embed_in.weight"])


def test_main_holds_the_card_and_the_records_that_its_numbers_follow_from(with_card, tmp_path):
    folder = install(with_card, "acme/tiny", tmp_path / "cache").folder
    main = folder / "snapshots" / (folder / "refs" / "main").read_text()
    assert (main / "tokens" / "tokens.json").read_bytes() == (with_card.stage("tokens") / "tokens.json").read_bytes()
    assert (main / "README.md").read_text() == "# tiny\n"
    assert (main / "recipe.yaml").read_text() == "name: published\n"  # the card's, not the run's own with what was watched
    assert (main / "figures" / "loss.png").read_bytes() == b"a picture"
    for name in ("training/ledger.jsonl", "checkpoints/manifest.json", "revisions/step12/revision.json", "card/manifest.json"):
        assert (main / name).read_bytes() == (with_card.path / name).read_bytes()
    assert not list(main.rglob("*.bin"))
    assert [path.name for path in main.rglob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["../../../elsewhere", "step01", "main"])
def test_a_revision_with_the_name_of_a_place_is_refused(with_card, tmp_path, name):
    path = with_card.stage("revisions") / "revisions.json"
    record = json.loads(path.read_text("utf-8"))
    record["revisions"][1]["name"] = name
    path.write_text(json.dumps(record), "utf-8")
    (with_card.stage("revisions") / "manifest.json").unlink()
    reads = {stage: with_card.verified(stage).digest for stage in ("corpus", "tokens", "checkpoints")}
    with_card.seal(with_card.stage("revisions"), "revisions", reads)
    with pytest.raises(FormatError, match="no revision's name"):
        install(with_card, "acme/tiny", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_evidence_outside_the_run_is_not_copied(with_card, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    path = with_card.stage("card") / "claims.json"
    path.write_text(path.read_text("utf-8").replace("tokens/tokens.json", "../secret.json"), "utf-8")
    (with_card.stage("card") / "manifest.json").unlink()
    with_card.seal(with_card.stage("card"), "card", {})
    with pytest.raises(FormatError, match="outside the run"):
        install(with_card, "acme/tiny", tmp_path / "cache")


def test_a_damaged_file_in_the_cache_is_mended_by_installing_again(with_card, tmp_path):
    folder = install(with_card, "acme/tiny", tmp_path / "cache").folder
    blob = next(path for path in (folder / "blobs").iterdir() if len(path.name) == 64)
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + b"?")
    install(with_card, "acme/tiny", tmp_path / "cache")
    assert blob.read_bytes() == content


def test_a_downloaded_repository_in_the_cache_is_not_overwritten(with_card, tmp_path):
    downloaded = tmp_path / "cache" / "models--EleutherAI--pythia-70m" / "refs"
    downloaded.mkdir(parents=True)
    (downloaded / "main").write_text("1" * 40)
    with pytest.raises(InputError, match="treering did not put there"):
        install(with_card, "EleutherAI/pythia-70m", tmp_path / "cache")
    assert (downloaded / "main").read_text() == "1" * 40


def test_installing_needs_the_card(exported, tmp_path):
    with pytest.raises(InputError, match="`card` has not been done"):
        install(exported, "acme/tiny", tmp_path)
