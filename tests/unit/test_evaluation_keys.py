"""What was scored stands for nothing else: another weight, setting, task, order or software is scored or looked for anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_making import COLOURS, make_run, tiny_model, with_evaluation, write_revision, write_task, write_training
from harness_items import write_items
from safetensors.torch import load_file, save_file
from transformers import MistralConfig, MistralForCausalLM

from treering.config.run_directory import RunDirectory
from treering.errors import InputError, IntegrityError, NonFiniteError
from treering.evaluation.likelihoods import way_of_reading
from treering.evaluation.stage import evaluate
from treering.hub.reading import open_release
from treering.revisions.loading import load_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run evaluated on one task; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    made = make_run(folder, steps=(0, 4), tasks=(str(write_task(folder / "tasks", COLOURS)),), heldout_tokens=500)
    evaluate(made)
    return made


@pytest.fixture
def run(whole: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole.path, tmp_path / "small")
    return RunDirectory(tmp_path / "small", whole.recipe)


def kept(run: RunDirectory, part: str) -> set[Path]:
    return {path for path in (run.path / ".evaluation.working" / part).rglob("*") if path.is_file()}


def reseal(run: RunDirectory) -> None:
    (run.stage("revisions") / "manifest.json").unlink()
    run.seal(run.stage("revisions"), "revisions", run.reads("tokens"))


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("config.json", "hidden_act", "relu"),
        ("config.json", "layer_norm_eps", 0.5),
        ("tokenizer_config.json", "model_max_length", 50),
        ("tokenizer.json", "truncation", None),  # other bytes
    ],
)
def test_another_setting_of_a_revision_is_scored_anew(run: RunDirectory, file: str, field: str, value: Any) -> None:
    before = {part: kept(run, part) for part in ("harness", "heldout")}
    path = run.stage("revisions") / "step0" / file
    path.write_text(json.dumps({**json.loads(path.read_bytes()), field: value}), encoding="utf-8")
    reseal(run)
    evaluate(run)
    for part, files in before.items():
        new = {path.parent.name.partition(".")[0] for path in kept(run, part) - files}
        assert new == {"step0"}  # and step4 is not


@pytest.mark.parametrize("name", ["torch.__version__", "transformers.__version__", "treering.evaluation.scoring.__version__"])
def test_other_software_scores_anew(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = kept(run, "harness")
    shutil.rmtree(run.stage("evaluation"))
    monkeypatch.setattr(name, "9.9.9")
    evaluate(run)
    assert len(kept(run, "harness")) == 2 * len(before)


def test_a_longer_training_looks_for_items_anew(run: RunDirectory) -> None:
    before = kept(run, "overlap")
    training = run.recipe.training.model_copy(update={"steps": 9})
    longer = RunDirectory(run.path, run.recipe.model_copy(update={"training": training}))
    write_training(longer)
    shutil.rmtree(run.stage("evaluation"))
    evaluate(longer)
    assert len(kept(run, "overlap")) == 2 * len(before)
    evaluate(with_evaluation(longer, overlap_words=9))
    assert len(kept(run, "overlap")) == 3 * len(before)


def test_with_no_number_of_words_nobody_looks(run: RunDirectory) -> None:
    evaluate(with_evaluation(run, overlap_words=None))
    assert not (run.stage("evaluation") / "overlap").exists()


def test_a_model_that_lacks_weights_is_refused_rather_than_given_others(whole: RunDirectory, tmp_path: Path) -> None:
    folder = tmp_path / "step1"
    write_revision(folder, tiny_model(1), whole.stage("tokens") / "tokenizer.json")
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if "embed_out" not in name}, path, {"format": "pt"})
    with pytest.raises(IntegrityError, match=r"not all weights[\s\S]*is missing"):
        load_model(folder, torch.float32)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(IntegrityError, match="damaged"):
        load_model(folder, torch.float32)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"attn_implementation": "somebody/kernel"}, "choose how it is computed"),
        ({"_attn_implementation": "somebody/kernel"}, "choose how it is computed"),
        ({"quantization_config": {"quant_method": "gptq"}}, "choose how it is computed"),
    ],
)
def test_a_releases_settings_choose_no_kernel(whole: RunDirectory, tmp_path: Path, settings: Any, problem: str) -> None:
    folder = tmp_path / "step1"
    write_revision(folder, tiny_model(1), whole.stage("tokens") / "tokenizer.json")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **settings}), encoding="utf-8")
    opened = open_release(str(tmp_path))
    with pytest.raises(InputError, match=problem):
        opened.folder_of(opened.revisions[0])


def test_a_model_that_transformers_lacks_is_named(whole: RunDirectory, tmp_path: Path) -> None:
    folder = tmp_path / "step1"
    write_revision(folder, tiny_model(1), whole.stage("tokens") / "tokenizer.json")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "model_type": "gpt_novel"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot load this revision[\s\S]*gpt_novel"):
        load_model(folder, torch.float32)


def test_a_model_that_looks_through_windows_is_read_one_answer_at_a_time() -> None:
    sizes = {"vocab_size": 700, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    for window, reading in ((64, "contexts apart"), (None, "contexts shared")):
        config = MistralConfig(**sizes, intermediate_size=64, max_position_embeddings=192, sliding_window=window)
        assert way_of_reading(MistralForCausalLM(config).eval()) == reading


def test_stages_and_tokens_of_names_are_kept(whole: RunDirectory, tmp_path: Path) -> None:
    for name in ("stage2-step10-tokens9M", "stage1-step10-tokens2M", "stage1-step900-tokens3M"):
        write_revision(tmp_path / name, tiny_model(1), whole.stage("tokens") / "tokenizer.json")
    found = [(revision.stage, revision.step, revision.tokens) for revision in open_release(str(tmp_path)).revisions]
    assert found == [(1, 10, 2_000_000), (1, 900, 3_000_000), (2, 10, 9_000_000)]


def test_scores_without_items_that_were_trained_on_print_nothing(
    run: RunDirectory, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_items(tmp_path / "lambada_openai.jsonl", "lambada_openai", 8)
    monkeypatch.setattr("treering.evaluation.stage.write_overlap", lambda *_: {"lambada_openai": [0, 2, 3, 5]})
    evaluate(with_evaluation(run, tasks=("lambada_openai",), data={"lambada_openai": str(rows)}))
    assert capfd.readouterr() == ("", "")
    [task] = json.loads((run.stage("evaluation") / "harness" / "step4.json").read_bytes())["tasks"]
    without = {metric["metric"]: metric for metric in task["without_overlap"]["metrics"]}
    low, high = without["perplexity"]["interval"]
    assert 0 < low < without["perplexity"]["value"] < high


def test_a_metric_that_overflows_is_named(run: RunDirectory, tmp_path: Path) -> None:
    path = write_task(
        tmp_path / "long",
        [{"text": "x" * 3000}],
        task="long",
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_choice=None,
        doc_to_target="text",
        metric_list=[{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}],
    )
    with pytest.raises(NonFiniteError, match="`long`"):
        evaluate(with_evaluation(run, tasks=(str(path),)))
