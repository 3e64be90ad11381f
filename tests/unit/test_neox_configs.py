"""GPT-NeoX's configurations become recipes, every key accounted for, and come back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from indexed_making import take_data_sets

from treering.config.reading import parse_recipe, read_recipe
from treering.config.run_directory import RunDirectory
from treering.config.schema import TrainedTokenizer
from treering.config.yaml_text import write_yaml
from treering.errors import InputError, RecipeError
from treering.neox.config_writing import to_config
from treering.neox.configs import Surroundings, read_configs, to_recipe
from treering.neox.keys import DEFAULTS, IRRELEVANT
from treering.tokens.samples import SAMPLES
from treering.tokens.tokenizer import train_tokenizer

SECTIONS = ("order", "model", "training", "checkpoints")
CONFIG = """
{
  # a comment, and a comma after the last
  "pipe-parallel-size": 1, "model-parallel-size": 2,
  "num-layers": 2, "hidden-size": 64, "num-attention-heads": 4, "seq-length": 32, "max-position-embeddings": 64,
  "pos-emb": "rotary", "rotary-pct": 0.5, "no-weight-tying": true, "gpt-j-residual": true,
  "attention-config": [[["flash"], 2]], "bias-gelu-fusion": true,
  "init_method": "small_init", "output_layer_init_method": "wang_init",
  "optimizer": {"type": "Adam", "params": {"lr": 0.001, "betas": [0.9, 0.95], "eps": 1.0e-8}},
  "min_lr": 0.0001, "zero_optimization": {"stage": 1},
  "train_micro_batch_size_per_gpu": 4, "gas": 2,
  "gradient_clipping": 1.0, "weight-decay": 0.1, "hidden-dropout": 0, "attention-dropout": 0,
  "fp16": {"enabled": true, "loss_scale": 0},
  "train-iters": 200, "lr-decay-iters": 200, "lr-decay-style": "cosine", "warmup": 0.01,
  "checkpoint-factor": 100, "extra-save-iters": [0, 1, 2], "log-interval": 10,
  "train-data-paths": ["/data/a"], "valid-data-paths": ["/data/a"], "test-data-paths": ["/data/a"],
}
"""


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    (tmp_path / "tokenizer.json").write_bytes(train_tokenizer(iter(SAMPLES.values()), TrainedTokenizer(vocabulary_size=300)))
    return Surroundings(8, tmp_path / "tokenizer.json", Path("corpus"))


def translated(folder: Path, text: str, around: Surroundings) -> dict[str, Any]:
    (folder / "config.yml").write_text(text, encoding="utf-8")
    translation = to_recipe(read_configs([folder / "config.yml"]), "mine", around)
    return parse_recipe(write_yaml(translation.recipe), "mine.yaml").model_dump()


def test_every_field_is_what_the_configuration_says(tmp_path: Path, around: Surroundings) -> None:
    recipe = translated(tmp_path, CONFIG, around)
    model, training = recipe["model"], recipe["training"]
    assert model["vocab_size"] == 512  # 300 tokens, padded to a multiple of 128 × 2
    assert (model["hidden_size"], model["num_hidden_layers"], model["intermediate_size"]) == (64, 2, 256)
    assert (model["hidden_act"], model["rotary_pct"], model["tie_word_embeddings"]) == ("gelu_pytorch_tanh", 0.5, False)
    assert (training["global_batch_size"], training["micro_batch_size"], training["precision"]) == (32, 4, "bf16")
    assert (training["device"], training["attention"]) == ("cuda", "flash")
    assert training["schedule"] == {"name": "neox-v1", "warmup_steps": 2, "minimum_learning_rate": 1e-4}
    assert training["optimizer"]["learning_rate"] == 1e-3
    assert recipe["checkpoints"]["at"] == (0, 1, 2)
    assert recipe["checkpoints"]["every"] == 100
    assert recipe["order"] == {"name": "treering", "seed": 1234, "sequence_length": 32}


def test_what_is_left_out_is_as_gpt_neox_takes_it(tmp_path: Path, around: Surroundings) -> None:
    text = CONFIG
    for key in ('"rotary-pct": 0.5, ', '"no-weight-tying": true, ', '"gpt-j-residual": true,', '"bias-gelu-fusion": true,'):
        assert key in text
        text = text.replace(key, "")
    text = text.replace('"init_method": "small_init", "output_layer_init_method": "wang_init",', "").replace(
        ', "betas": [0.9, 0.95]', ""
    )
    recipe = translated(tmp_path, text, around)
    model = recipe["model"]
    assert (model["rotary_pct"], model["tie_word_embeddings"], model["use_parallel_residual"]) == (1.0, True, False)
    assert (model["hidden_act"], model["initialisation"]["method"]) == ("gelu", "normal")
    assert model["initialisation"]["output_method"] == "scaled_normal"
    assert recipe["training"]["optimizer"]["betas"] == (0.9, 0.999)


def test_every_key_is_accounted_for_and_what_is_otherwise_is_said(tmp_path: Path, around: Surroundings) -> None:
    (tmp_path / "config.yml").write_text(CONFIG, encoding="utf-8")
    given = read_configs([tmp_path / "config.yml"])
    translation = to_recipe(given, "mine", around)
    assert translation.account.keys() == given.keys()
    assert translation.account["zero_optimization"] == IRRELEVANT["zero_optimization"]
    assert not DEFAULTS.keys() & IRRELEVANT.keys()
    told = "\n".join(translation.consequences)
    for word in (
        "first weights",
        "order of the data",
        "fp16 with loss scaling",
        "validation and test data were the training data",
    ):
        assert word in told


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"pos-emb": "rotary"', '"pos-emb": "alibi"', "pos_emb: treering has 'rotary'"),
        ('"pos-emb": "rotary", ', "", "pos_emb: treering has 'rotary', not 'learned'"),
        ('"hidden-dropout": 0', '"hidden-dropout": 0.1', "hidden_dropout"),
        ('[["flash"], 2]', '[["sparse_fixed"], 2]', "attention_config"),
        ('"type": "Adam"', '"type": "sgd"', "optimizer: treering has type Adam"),
        ('"eps": 1.0e-8', '"eps": 1.0e-8, "amsgrad": true', "optimizer.params.amsgrad"),
        ('"lr": 0.001, ', "", "optimizer.params.lr: is needed"),
        ('"lr-decay-style": "cosine"', '"lr-decay-style": "linear"', "lr_decay_style"),
        ('"lr-decay-iters": 200', '"lr-decay-iters": 100', "lr_decay_iters: 100 is not train_iters"),
        ('"warmup": 0.01', '"warmup": 0.011', "no whole number"),
        ('"gas": 2', '"gas": 2, "train_batch_size": 64', "train_batch_size: 64 is not 32"),
        ('"num-layers": 2, ', "", "num_layers: is needed"),
        ('"gas": 2', '"gas": 2, "moe-num-experts": 8', "moe_num_experts: treering does not know this key"),
        ('"model-parallel-size": 2', '"model-parallel-size": 3', "does not divide 8 GPUs"),
    ],
)
def test_what_treering_has_nothing_for_is_refused(tmp_path: Path, around: Surroundings, old: str, new: str, words: str) -> None:
    assert old in CONFIG
    with pytest.raises(RecipeError, match=words):
        translated(tmp_path, CONFIG.replace(old, new), around)


def test_a_missing_comma_and_keys_that_contradict_each_other_are_named_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text('{\n "num-layers": 2\n "hidden-size": 64\n}', encoding="utf-8")
    with pytest.raises(RecipeError, match="line 3"):
        read_configs([tmp_path / "a.yml"])
    (tmp_path / "b.yml").write_text('{"gas": 2}', encoding="utf-8")
    (tmp_path / "c.yml").write_text('{"gradient-accumulation-steps": 4}', encoding="utf-8")
    with pytest.raises(RecipeError, match="a key is given once"):
        read_configs([tmp_path / "b.yml", tmp_path / "c.yml"])
    with pytest.raises(InputError, match="cannot be read"):
        read_configs([tmp_path / "none.yml"])


def test_a_recipe_goes_to_a_configuration_and_back(treering: Any, tmp_path: Path, around: Surroundings) -> None:
    (tmp_path / "first.yml").write_text(CONFIG, encoding="utf-8")
    call = ("--gpus", 8, "--tokenizer", around.tokenizer)
    code, out, err = treering("neox", "recipe", tmp_path / "first.yml", *call)
    assert code == 0, err
    assert "keys translated" in out
    assert "otherwise than under GPT-NeoX: GPT-NeoX computed in fp16" in out
    assert treering("neox", "recipe", tmp_path / "first.yml", *call)[0] == 2
    assert treering("neox", "config", "first.yaml", "--gpus", 4, "--out", "again.yml")[0] == 0
    assert treering("neox", "recipe", "again.yml", "--gpus", 4, "--tokenizer", around.tokenizer)[0] == 0
    first, again = read_recipe(tmp_path / "first.yaml").model_dump(), read_recipe(tmp_path / "again.yaml").model_dump()
    assert {name: again[name] for name in SECTIONS} == {name: first[name] for name in SECTIONS}
    assert treering("neox", "config", "first.yaml", "--gpus", 3)[0] == 2


def gpus_of(path: Path) -> int:
    """How many GPUs a Pythia configuration was for: its comment says so."""
    import re  # noqa: PLC0415

    return int(re.search(r"trained on (\d+) gpus", path.read_text("utf-8"))[1])  # pyright: ignore[reportOptionalSubscript]


def test_pythias_configurations_become_recipes_and_come_back(shared_data: Path, tmp_path: Path) -> None:
    read = 0
    for path in sorted((shared_data / "pythia-configs").glob("*.yml")):
        around = Surroundings(gpus_of(path), shared_data / "20B_tokenizer.json", Path("corpus"))
        if path.stem == "pythia-12b":  # no comma on line 19
            with pytest.raises(RecipeError, match=r"line 21: expected ','"):
                read_configs([path])
            continue
        recipe = write_yaml(to_recipe(read_configs([path]), path.stem, around).recipe)
        if path.stem == "pythia-12b-deduped":  # 40 layers and 36 heads
            with pytest.raises(RecipeError, match="5120 is not a multiple of num_attention_heads, 36"):
                parse_recipe(recipe, path.stem)
            continue
        first = parse_recipe(recipe, path.stem)
        assert first.training.global_batch_size == 1024
        assert first.training.schedule.warmup_steps == 1430
        (tmp_path / "config.yml").write_text(json.dumps(to_config(first, 16, tmp_path)), encoding="utf-8")
        again = to_recipe(read_configs([tmp_path / "config.yml"]), path.stem, Surroundings(16, around.tokenizer, around.corpus))
        second = parse_recipe(write_yaml(again.recipe), path.stem)
        assert {name: getattr(second, name) for name in SECTIONS} == {name: getattr(first, name) for name in SECTIONS}
        preset = read_recipe(Path(__file__).parents[2] / "recipes" / f"{path.stem.removesuffix('-deduped')}.yaml")
        assert first.model == preset.model
        assert first.training.optimizer == preset.training.optimizer
        assert first.training.schedule == preset.training.schedule
        assert (first.training.device, first.training.precision) == (preset.training.device, preset.training.precision)
        read += 1
    assert read == 16


def test_data_sets_go_into_a_recipe_in_gpt_neoxs_order_and_back(
    treering: Any, tmp_path: Path, around: Surroundings, tiny_run: RunDirectory
) -> None:
    folder = take_data_sets(tiny_run, tmp_path / "data")
    blended = CONFIG.replace(
        '"train-data-paths": ["/data/a"]', '"train-data-paths": ["/a", "/b"], "train-data-weights": [3.0, 1]'
    )
    (tmp_path / "one.yml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "two.yml").write_text(blended, encoding="utf-8")
    call = ("--gpus", 8, "--tokenizer", around.tokenizer)
    one = ("--data", folder / "train", "--validation", folder / "validation")
    for suffix in (".bin", ".idx"):
        shutil.copy(folder / f"train{suffix}", folder / f"more{suffix}")
    two = (*one, "--data", folder / "more", "--validation", folder / "validation")
    for name, data in (("one", one), ("two", two)):
        code, out, err = treering("neox", "recipe", f"{name}.yml", *call, *data)
        assert code == 0, err
        assert "order of the data" not in out
        code, out, err = treering("neox", "config", f"{name}.yaml", "--gpus", 8, "--out", f"{name}-again.yml")
        assert code == 0, err
        assert "order of its own" not in out
        assert (f"treering prepare {name}.yaml" in out) == (name == "one")  # GPT-NeoX blends the data sets themselves
        written = json.loads((tmp_path / f"{name}-again.yml").read_text())
        back = ("--data", written["train_data_paths"][0], "--validation", written["valid_data_paths"][0])
        again = data if name == "two" else back
        (tmp_path / f"{name}-again.yml").rename(tmp_path / f"{name}.again.yml")
        code, out, err = treering("neox", "recipe", f"{name}.again.yml", "--name", f"{name}-again", *call, *again)
        assert code == 0, err
    recipe = read_recipe(tmp_path / "two.yaml")
    assert recipe.order.name == "neox-v1"
    assert [(source.neox, source.weight) for source in recipe.corpus.indexed] == [
        (str(folder / "train"), 3.0),
        (str(folder / "more"), 1.0),
    ]
    assert read_recipe(tmp_path / "two-again.yaml").model_dump(exclude={"name"}) == recipe.model_dump(exclude={"name"})
    tokens = tmp_path / "runs" / "one" / "tokens"
    assert read_recipe(tmp_path / "one-again.yaml").corpus.indexed[0].neox == str(tokens / "train")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--validation", "a"), "give --data too"),
        (("--data", "a", "--data", "b", "--validation", "c"), "one for each of 2 --data, or none"),
        (("--data", "a"), "train_data_paths: there are 2, but 1 --data"),
        (("--data", "a", "--data", "b", "--validation", "c", "--validation", "a"), "is trained on too"),
    ],
)
def test_data_sets_that_do_not_fit_are_refused(
    treering: Any, tmp_path: Path, around: Surroundings, more: tuple[str, ...], problem: str
) -> None:
    blended = CONFIG.replace('"train-data-paths": ["/data/a"]', '"train-data-paths": ["/a", "/b"]')
    (tmp_path / "two.yml").write_text(blended, encoding="utf-8")
    code, _, err = treering("neox", "recipe", "two.yml", "--gpus", 8, "--tokenizer", around.tokenizer, *more)
    assert (code, problem in " ".join(err.split())) == (2, True), err


def test_data_that_treering_orders_otherwise_is_said(treering: Any, tmp_path: Path, around: Surroundings) -> None:
    (tmp_path / "one.yml").write_text(CONFIG.replace('"train-data-paths": ["/data/a"]', '"data-path": "/a"'), encoding="utf-8")
    code, out, err = treering("neox", "recipe", "one.yml", "--gpus", 8, "--tokenizer", around.tokenizer, "--data", "a")
    assert code == 0, err
    assert "half a per cent fewer samples" in out
    assert "the last documents are held out" in out
    recipe = json.loads(json.dumps(read_recipe(tmp_path / "one.yaml").model_dump(mode="json")))
    recipe["model"]["seed"] = 5
    (tmp_path / "seeds.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    code, _, err = treering("neox", "config", "seeds.yaml", "--gpus", 8)
    assert (code, "one seed for both" in " ".join(err.split())) == (2, True)


def test_checkpoints_that_are_to_be_imported_go_into_the_recipe(treering: Any, tmp_path: Path, around: Surroundings) -> None:
    (tmp_path / "one.yml").write_text(CONFIG, encoding="utf-8")
    call = ("neox", "recipe", "one.yml", "--gpus", 8, "--tokenizer", around.tokenizer, "--checkpoints", "save")
    code, _, err = treering(*call)
    assert (code, "give --data too" in " ".join(err.split())) == (2, True)
    code, _, err = treering(*call, "--data", "a")
    assert (code, "GPT-NeoX trained on all of a data set" in " ".join(err.split())) == (2, True)
    (tmp_path / "path.yml").write_text(CONFIG.replace('"train-data-paths": ["/data/a"]', '"data-path": "/a"'), encoding="utf-8")
    code, _, err = treering(*call[:2], "path.yml", *call[3:], "--data", "a", "--validation", "b")
    assert (code, "its order is not that of" in " ".join(err.split())) == (2, True)
    code, out, err = treering(*call, "--data", "a", "--validation", "b")
    assert code == 0, err
    assert "first weights" not in out
    assert "bf16" not in out
    training = read_recipe(tmp_path / "one.yaml").training
    assert (training.imported, training.engine.model_dump(), training.precision) == (
        True,
        {"name": "gpt-neox", "checkpoints": "save"},
        "fp16",
    )


@pytest.mark.parametrize(("share", "iterations", "updates"), [(0.07, 10000, 700), (145 / 143000, 143000, 145), (0.01, 200, 2)])
def test_a_share_of_the_updates_is_a_whole_number_but_for_how_decimals_are_written(
    tmp_path: Path, around: Surroundings, share: float, iterations: int, updates: int
) -> None:
    text = CONFIG.replace('"warmup": 0.01', f'"warmup": {share!r}').replace("200", str(iterations))
    assert translated(tmp_path, text, around)["training"]["schedule"]["warmup_steps"] == updates
    with pytest.raises(RecipeError, match="no whole number"):
        translated(tmp_path, CONFIG.replace('"warmup": 0.01', '"warmup": 0.0123'), around)


def test_values_that_gpt_neox_takes_otherwise_are_read(tmp_path: Path, around: Surroundings) -> None:
    text = CONFIG.replace('[[["flash"], 2]]', '["flash", "flash"]').replace(
        '"extra-save-iters": [0, 1, 2]', '"extra-save-iters": null'
    )
    recipe = translated(tmp_path, text, around)
    assert recipe["checkpoints"]["at"] == ()
    assert (
        translated(tmp_path, CONFIG.replace('"model-parallel-size": 2', '"model-parallel-size": 0'), around)["model"][
            "vocab_size"
        ]
        == 384
    )


def test_a_text_for_a_number_is_refused(tmp_path: Path, around: Surroundings) -> None:
    text = CONFIG.replace('"hidden-size": 64', '"hidden-size": "64"').replace('"train-iters": 200', '"train-iters": true')
    with pytest.raises(RecipeError) as refused:
        translated(tmp_path, text, around)
    assert "hidden_size: is a number, not '64'" in str(refused.value)
    assert "train_iters: is a number, not True" in str(refused.value)


def test_what_is_left_out_and_which_version_is_followed_is_said(treering: Any, tmp_path: Path, around: Surroundings) -> None:
    text = CONFIG.replace('"init_method": "small_init", "output_layer_init_method": "wang_init",', "")
    (tmp_path / "one.yml").write_text(text, encoding="utf-8")
    code, out, err = treering("neox", "recipe", "one.yml", "--gpus", 8, "--tokenizer", around.tokenizer)
    assert code == 0, err
    told = " ".join(out.split())
    assert (
        "left out, so GPT-NeoX's own values: init_method normal, output_layer_init_method scaled_normal, init_method_std 0.02"
        in told
    )
    assert "the cosine of GPT-NeoX v1.0, which trained Pythia" in told
    assert "v1.0 computed them in fp16" in told
    code, out, err = treering("neox", "config", "one.yaml", "--gpus", 8)
    assert (code, "that of GPT-NeoX v1.0" in out, "first weights are GPT-NeoX's own" in out) == (0, True, True), err
    written = json.loads((tmp_path / "config.yml").read_text())
    assert "intermediate_size" not in written
    assert written["fp16"] == {"enabled": True, "type": "bfloat16"}
