"""GPT-NeoX's checkpoints come back whole from any layout, as revisions that transformers computes the same logits from."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from neox_making import write_neox_checkpoint
from torch import Tensor
from training_making import resolve, small_recipe

from treering.checkpoints.state import weights_digest
from treering.config.reading import parse_recipe
from treering.config.schema import Recipe, TrainedTokenizer
from treering.errors import FormatError, InputError, IntegrityError, NonFiniteError
from treering.model.shapes import parameter_shapes
from treering.neox.checkpoints import checkpoint_steps, read_neox_weights
from treering.neox.importing import import_checkpoints
from treering.revisions.files import read_weights
from treering.tokens.samples import SAMPLES
from treering.tokens.tokenizer import train_tokenizer

MODEL: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 512}


def weights_of(recipe: Recipe, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Weights, biases and norms of few binary digits, so that parts of a bias sum to it exactly in fp16."""
    generator = torch.Generator().manual_seed(seed)
    shapes = parameter_shapes(recipe.model)
    drawn = {name: torch.randn(shape, generator=generator).mul(64).round() / 512 for name, shape in shapes.items()}
    return {name: (tensor + 1 if "norm.weight" in name else tensor).to(dtype) for name, tensor in drawn.items()}


LAYOUTS = [
    {"ranks": ranks, "pipeline": pipeline, "newer": newer, "buffers": not newer}
    for ranks in (1, 2, 4)
    for pipeline in (True, False)
    for newer in (False, True)
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("parallel_residual", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_come_back_bit_for_bit_from_every_layout(
    tmp_path: Path, layout: dict[str, Any], parallel_residual: bool, dtype: torch.dtype
) -> None:
    recipe = resolve(model={**MODEL, "use_parallel_residual": parallel_residual})
    weights = weights_of(recipe, dtype=dtype)
    folder = write_neox_checkpoint(tmp_path, 7, weights, 2, parallel_residual=parallel_residual, **layout)
    found = read_neox_weights(folder, recipe.model)
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], tensor) and found[name].dtype == dtype for name, tensor in weights.items())


def test_tied_models_and_models_without_attention_biases_come_back(tmp_path: Path) -> None:
    recipe = resolve(model={**MODEL, "tie_word_embeddings": True, "attention_bias": False})
    weights = weights_of(recipe)
    found = read_neox_weights(write_neox_checkpoint(tmp_path, 1, weights, 2, ranks=2), recipe.model)
    assert weights_digest(found) == weights_digest(weights)


def test_norms_that_drifted_apart_are_averaged_and_biases_of_a_sequential_residual_are_not_summed(tmp_path: Path) -> None:
    recipe = resolve(model={**MODEL, "use_parallel_residual": False})
    weights = weights_of(recipe)
    folder = write_neox_checkpoint(tmp_path, 1, weights, 2, ranks=2, parallel_residual=False)
    path = folder / "layer_02-model_01-model_states.pt"
    content = torch.load(path, weights_only=True)
    content["input_layernorm.weight"] += 1.0
    torch.save(content, path)
    found = read_neox_weights(folder, recipe.model)
    name = "gpt_neox.layers.0.input_layernorm.weight"
    assert torch.allclose(found[name], weights[name] + 0.5)
    content["attention.dense.bias"] += 1.0
    torch.save(content, path)
    with pytest.raises(IntegrityError, match="different copies of one bias"):
        read_neox_weights(folder, recipe.model)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


@pytest.mark.parametrize("pipeline", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str], pipeline: bool) -> None:
    recipe = resolve(model=MODEL)
    folder = write_neox_checkpoint(tmp_path, 1, weights_of(recipe), 2, pipeline=pipeline)
    path = folder / ("layer_03-model_00-model_states.pt" if pipeline else "mp_rank_00_model_states.pt")
    content = torch.load(path, weights_only=False)
    torch.save({**content, "extra": _Code()}, path)
    with pytest.raises(FormatError, match=r"found:    \S*print[\s\S]*nothing in it was executed") as refused:
        read_neox_weights(folder, recipe.model)
    assert "weights_only" not in str(refused.value)
    path.write_bytes(pickle.dumps(_Code(), protocol=2))
    with pytest.raises(FormatError, match="holds more than tensors"):
        read_neox_weights(folder, recipe.model)
    assert "executed" not in capsys.readouterr().out


def change(path: Path, **changes: Any) -> None:
    content = torch.load(path, weights_only=True)
    for name, value in changes.items():
        content.pop(name.replace("__", "."), None)
        if value is not None:
            content[name.replace("__", ".")] = value
    torch.save(content, path)


def test_what_is_missing_left_over_or_of_another_shape_is_named(tmp_path: Path) -> None:
    recipe = resolve(model=MODEL)
    folder = write_neox_checkpoint(tmp_path, 1, weights_of(recipe), 2, ranks=2)
    path = folder / "layer_02-model_00-model_states.pt"
    whole = path.read_bytes()
    for changes, words in (
        ({"mlp__gate__weight": torch.ones(2)}, "ranks hold different parameters"),
        ({"input_layernorm__bias": "no tensor"}, "something else than tensors"),
    ):
        change(path, **changes)
        with pytest.raises(FormatError, match=words):
            read_neox_weights(folder, recipe.model)
        path.write_bytes(whole)
    for rank in (0, 1):
        change(folder / f"layer_02-model_0{rank}-model_states.pt", mlp__gate__weight=torch.ones(2))
    with pytest.raises(FormatError, match="no such parameter"):
        read_neox_weights(folder, recipe.model)
    for rank in (0, 1):
        change(folder / f"layer_02-model_0{rank}-model_states.pt", mlp__gate__weight=None, input_layernorm__bias=None)
    with pytest.raises(FormatError, match=r"no gpt_neox.layers.0.input_layernorm.bias"):
        read_neox_weights(folder, recipe.model)


@pytest.mark.parametrize("name", ["layer_02-model_00", "layer_02-model_01", "layer_05-model_01", "layer_06-model_00"])
def test_a_rank_of_a_layer_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    recipe = resolve(model=MODEL)
    folder = write_neox_checkpoint(tmp_path, 1, weights_of(recipe), 2, ranks=2)
    (folder / f"{name}-model_states.pt").unlink()
    with pytest.raises(FormatError, match=f"layer {int(name[6:8])}: ranks are missing"):
        read_neox_weights(folder, recipe.model)
    for path in folder.glob("layer_*"):
        path.unlink()
    with pytest.raises(FormatError, match="files of the layers are missing"):
        read_neox_weights(folder, recipe.model)


def test_files_that_are_cut_off_or_changed_and_parts_of_unlike_shapes_are_refused(tmp_path: Path) -> None:
    recipe = resolve(model=MODEL)
    folder = write_neox_checkpoint(tmp_path, 1, weights_of(recipe), 2, ranks=2)
    path = folder / "layer_02-model_00-model_states.pt"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"PK\x03\x04", pickle.dumps({"a": 1}, protocol=2)[:-3], b"\x80\x02J"):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            read_neox_weights(folder, recipe.model)
    path.write_bytes(whole)
    for changes in ({"attention__dense__weight": torch.ones(3)}, {"input_layernorm__weight": torch.ones(5)}):
        change(path, **changes)
        with pytest.raises(FormatError, match="unlike shapes"):
            read_neox_weights(folder, recipe.model)
        path.write_bytes(whole)


def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    recipe = resolve(model=MODEL)
    folder = write_neox_checkpoint(tmp_path, 1, weights_of(recipe), 2)
    for changes, words in (
        ({"vocab_size": 640}, "another shape"),
        ({"num_hidden_layers": 1}, "a layer that the model has not"),
        ({"num_hidden_layers": 3}, "a layer that the model has not"),
    ):
        with pytest.raises(FormatError, match=words):
            read_neox_weights(folder, resolve(model={**MODEL, **changes}).model)
    with pytest.raises(FormatError, match="no checkpoint of GPT-NeoX"):
        read_neox_weights(tmp_path, recipe.model)
    with pytest.raises(InputError, match="no checkpoints of GPT-NeoX"):
        checkpoint_steps(tmp_path / "nowhere")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of the model with a tokenizer that was there before."""
    (tmp_path / "tokenizer.json").write_bytes(train_tokenizer(iter(SAMPLES.values()), TrainedTokenizer(vocabulary_size=512)))
    tokens = {"tokenizer": {"path": str(tmp_path / "tokenizer.json")}}
    sections = {**small_recipe(Path("corpus"), model=MODEL), "tokens": tokens}
    (tmp_path / "run.yaml").write_text(json.dumps(sections), encoding="utf-8")
    return tmp_path / "run.yaml"


def test_a_run_becomes_revisions_that_transformers_loads_and_an_interrupted_import_goes_on(
    treering: Any, tmp_path: Path, recipe: Path
) -> None:
    read = parse_recipe(recipe.read_text("utf-8"), "run.yaml")
    first = weights_of(read)
    for step, weights in ((0, first), (1, first), (512, weights_of(read, 1)), (1000, weights_of(read, 2))):
        write_neox_checkpoint(tmp_path / "save", step, weights, 2, ranks=2)
    code, out, err = treering("neox", "import", tmp_path / "save", recipe, "--out", tmp_path / "out")
    assert code == 0, err
    assert "4 revisions, step0 to step1000" in out
    assert "step1 has the weights of step0" in out
    assert weights_digest(read_weights(tmp_path / "out" / "step512")) == weights_digest(weights_of(read, 1))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    records = import_checkpoints(tmp_path / "save", read, tmp_path / "out")
    assert [(record["step"], record["iteration"]) for record in records] == [(0, 0), (1, 1), (512, 512), (1000, 1000)]
    assert [record["same_weights_as"] for record in records] == [None, "step0", None, None]
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}


def test_what_is_not_what_its_folder_says_is_refused_and_nothing_of_others_is_touched(tmp_path: Path, recipe: Path) -> None:
    read = parse_recipe(recipe.read_text("utf-8"), "run.yaml")
    write_neox_checkpoint(tmp_path / "one", 1, weights_of(read), 2)
    import_checkpoints(tmp_path / "one", read, tmp_path / "out")
    write_neox_checkpoint(tmp_path / "other", 1, weights_of(read, 5), 2)
    with pytest.raises(IntegrityError, match="of other checkpoint files"):
        import_checkpoints(tmp_path / "other", read, tmp_path / "out")
    (tmp_path / "mine" / "step1").mkdir(parents=True)
    (tmp_path / "mine" / "step1" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not of an import"):
        import_checkpoints(tmp_path / "one", read, tmp_path / "mine")
    assert (tmp_path / "mine" / "step1" / "notes.txt").read_text() == "mine"
    (tmp_path / "one" / "global_step1").rename(tmp_path / "one" / "global_step2")
    with pytest.raises(IntegrityError, match="saved after another update"):
        import_checkpoints(tmp_path / "one", read, tmp_path / "elsewhere")
    odd = weights_of(read, 6)
    odd["embed_out.weight"][3, 4] = float("nan")
    write_neox_checkpoint(tmp_path / "odd", 1, odd, 2)
    with pytest.raises(NonFiniteError, match=r"embed_out\.weight"):
        import_checkpoints(tmp_path / "odd", read, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="had a tokenizer before"):
        import_checkpoints(tmp_path / "odd", resolve(model=MODEL), tmp_path / "elsewhere")
    small = read.model_copy(update={"model": read.model.model_copy(update={"vocab_size": 300})})
    with pytest.raises(InputError, match="more tokens than the model"):
        import_checkpoints(tmp_path / "one", small, tmp_path / "elsewhere")
