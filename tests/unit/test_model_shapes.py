"""Names, shapes and counts, known without building anything."""

import math

import pytest
from training_making import resolve

from treering.config.schema import ModelSection
from treering.model.network import GPTNeoX, empty_network
from treering.model.shapes import count_parameters, is_decayed, is_embedding, operations_per_token, parameter_shapes

# Counted from pythia's models/*/*.yml (github.com/EleutherAI/pythia, a19eecb8): vocabulary padded to 50304, 50432 (6.9B)
# or 50688 (12B), untied head, biases everywhere but in the head.
PYTHIA_PARAMETERS = {
    "pythia-14m": 14_067_712,
    "pythia-31m": 30_494_720,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
}
# Non-embedding parameters as Pythia's paper lists them (Biderman et al. 2023, arXiv 2304.01373, table 1).
PYTHIA_WITHOUT_EMBEDDINGS = {
    "pythia-70m": 18_915_328,
    "pythia-160m": 85_056_000,
    "pythia-410m": 302_311_424,
    "pythia-1b": 805_736_448,
    "pythia-1.4b": 1_208_602_624,
    "pythia-2.8b": 2_517_652_480,
    "pythia-6.9b": 6_444_163_072,
    "pythia-12b": 11_327_027_200,
}


def preset(name: str) -> ModelSection:
    return ModelSection.model_validate({"preset": name})


@pytest.mark.parametrize("name", PYTHIA_PARAMETERS)
def test_a_pythia_preset_has_as_many_parameters_as_pythia(name: str) -> None:
    assert count_parameters(preset(name)).parameters == PYTHIA_PARAMETERS[name]


@pytest.mark.parametrize("name", PYTHIA_WITHOUT_EMBEDDINGS)
def test_a_pythia_preset_has_as_many_parameters_without_embeddings_as_the_paper_says(name: str) -> None:
    assert count_parameters(preset(name)).parameters_without_embeddings == PYTHIA_WITHOUT_EMBEDDINGS[name]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_shapes_are_those_of_the_network_in_its_order(tied: bool, bias: bool, layers: int) -> None:
    model = resolve(model={"tie_word_embeddings": tied, "attention_bias": bias, "num_hidden_layers": layers}).model
    network = empty_network(model)
    built = [(name, tuple(parameter.shape)) for name, parameter in network.named_parameters()]
    assert list(parameter_shapes(model).items()) == built
    assert list(network.state_dict()) == [name for name, _ in built]  # nothing in it that is no parameter
    assert count_parameters(model).parameters == sum(parameter.numel() for parameter in network.parameters())


def test_a_tied_head_is_counted_once() -> None:
    tied, untied = (count_parameters(resolve(model={"tie_word_embeddings": tie}).model) for tie in (True, False))
    assert untied.parameters - tied.parameters == 300 * 32
    assert untied.parameters_without_embeddings == tied.parameters_without_embeddings


def test_embeddings_are_the_first_and_the_last_matrix() -> None:
    assert [name for name in parameter_shapes(resolve().model) if is_embedding(name)] == [
        "gpt_neox.embed_in.weight",
        "embed_out.weight",
    ]


def test_matrices_and_embeddings_decay_and_nothing_else() -> None:
    shapes = parameter_shapes(resolve().model)
    assert {name for name in shapes if is_decayed(name)} == {name for name, shape in shapes.items() if len(shape) == 2}


@pytest.mark.parametrize("tied", [False, True])
def test_operations_are_six_for_each_multiplied_weight_and_the_products_of_attention(tied: bool) -> None:
    model, length = resolve(model={"tie_word_embeddings": tied}).model, 32
    width, inner, layers = 32, 128, 2
    multiplied = layers * (4 * width * width + 2 * width * inner) + 300 * width
    attention = layers * 2 * (2 * length * width)  # scores and mixing, two operations each, over all positions
    assert operations_per_token(model, length) == 6 * multiplied + 3 * attention


def test_a_network_begins_without_memory() -> None:
    network = empty_network(preset("pythia-12b"))
    assert isinstance(network, GPTNeoX)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert math.prod(network.gpt_neox.embed_in.weight.shape) == 50_688 * 5120
