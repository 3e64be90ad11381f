"""The gates of a revision: a revision that computes or encodes otherwise is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from treering.checkpoints.state import weights_digest
from treering.config.run_directory import RunDirectory
from treering.errors import ReproductionError
from treering.revisions.agreement import check_agreement
from treering.revisions.round_trip import Sample, check_tokenizer
from treering.revisions.stage import export
from treering.tokens.store import TokenStore, open_tokenizer
from treering.tokens.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def exported(tiny_trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates") / "tiny"
    shutil.copytree(tiny_trained.path, folder)
    run = RunDirectory(folder, tiny_trained.recipe)
    export(run)
    return run


@pytest.fixture
def revision(exported, tmp_path):
    return shutil.copytree(exported.stage("revisions") / "step12", tmp_path / "step12")


@pytest.fixture
def rows(exported):
    tokens = TokenStore(exported.stage("tokens"), "validation").tokens[:64]
    return torch.from_numpy(tokens.astype("int64")).view(2, 32)


def edit_json(path, **changes):
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**document, **changes}), "utf-8")


def test_an_untouched_revision_passes_with_both_errors_of_one_scale(exported, revision, rows):
    agreement = check_agreement(revision, exported.recipe.model, rows)
    assert agreement.largest_difference <= agreement.bound / 2
    assert agreement.tokens == 64


ROPE = {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25}


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_pytorch_tanh"},
        {"hidden_act": "relu"},
        {"use_parallel_residual": False},
        {"layer_norm_eps": 1e-3},
        {"rope_parameters": {**ROPE, "partial_rotary_factor": 1.0}, "rotary_pct": 1.0},
        {"rope_parameters": {**ROPE, "rope_theta": 500}, "rotary_emb_base": 500},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_configuration_that_computes_otherwise_is_refused(exported, revision, rows, changes):
    edit_json(revision / "config.json", **changes)
    with pytest.raises(ReproductionError, match="transformers computes other logits"):
        check_agreement(revision, exported.recipe.model, rows)


def test_ids_of_the_token_file_that_the_tokenizer_does_not_give_are_refused(exported, revision):
    trained_with = open_tokenizer(exported.stage("tokens"))
    text, ids = samples(trained_with)[0]
    with pytest.raises(ReproductionError, match="other ids"):
        check_tokenizer(revision, exported.recipe, trained_with, [Sample(text, [*ids[:-1], ids[-1] ^ 1])])


def test_two_swapped_tensors_of_one_shape_are_refused_though_both_sides_read_the_same_file(exported, revision, rows):
    # The names are right on both sides, so what shows is that the file is not what either was given: the digests.
    path = revision / "model.safetensors"
    weights = load_file(path)
    recorded = json.loads((revision / "revision.json").read_text("utf-8"))["weights_digest"]
    assert weights_digest(weights) == recorded
    first, second = (f"gpt_neox.layers.{layer}.attention.dense.weight" for layer in range(2))
    weights[first], weights[second] = weights[second], weights[first]
    save_file(weights, path, metadata={"format": "pt"})
    assert weights_digest(load_file(path)) != recorded


def test_a_nan_does_not_pass_the_gate(exported, revision, rows):
    path = revision / "model.safetensors"
    weights = load_file(path)
    weights["gpt_neox.final_layer_norm.bias"][3] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ReproductionError):
        check_agreement(revision, exported.recipe.model, rows)


TEXTS = ("Tree 7: the year was long. <|endoftext|> is text here.\n", "naïve  café\t“frost”")


def samples(tokenizer, texts=TEXTS):
    return [Sample(text, tokenizer.encode([text])[0].tolist()) for text in texts]


def test_the_published_tokenizer_gives_the_trainings_ids(exported, revision):
    trained_with = open_tokenizer(exported.stage("tokens"))
    check_tokenizer(revision, exported.recipe, trained_with, samples(trained_with))


def test_a_tokenizer_that_lower_cases_is_refused(exported, revision):
    edit_json(revision / "tokenizer.json", normalizer={"type": "Lowercase"})
    trained_with = open_tokenizer(exported.stage("tokens"))
    with pytest.raises(ReproductionError, match="other ids"):
        check_tokenizer(revision, exported.recipe, trained_with, samples(trained_with))


def test_another_end_of_document_is_refused(exported, revision):
    edit_json(revision / "tokenizer_config.json", eos_token="<|padding|>")
    trained_with = open_tokenizer(exported.stage("tokens"))
    with pytest.raises(ReproductionError, match="special token"):
        check_tokenizer(revision, exported.recipe, trained_with, samples(trained_with))


def test_a_tokenizer_class_under_which_transformers_ignores_part_of_the_file_is_refused(exported, revision):
    path = revision / "tokenizer.json"
    document = json.loads(path.read_text("utf-8"))
    split = {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": False}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, document["pre_tokenizer"]]}
    path.write_text(json.dumps(document), "utf-8")
    trained_with = load_tokenizer(path)
    texts = ("when the leaves were green the tree grew wider",)
    check_tokenizer(revision, exported.recipe, trained_with, samples(trained_with, texts))
    edit_json(revision / "tokenizer_config.json", tokenizer_class="GPTNeoXTokenizerFast")
    with pytest.raises(ReproductionError, match="other ids"):
        check_tokenizer(revision, exported.recipe, trained_with, samples(trained_with, texts))
