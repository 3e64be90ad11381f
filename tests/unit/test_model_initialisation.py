"""First weights: each drawn by name and seed, whatever else the model has."""

import math

import pytest
import torch
from torch import Tensor
from training_making import bits, resolve

from treering.config.schema import ModelSection
from treering.model.initialisation import initial_weights, standard_deviation
from treering.model.shapes import parameter_shapes

# What pythia's models/*/*.yml and gpt-neox's init_functions.py make: embeddings, query-key-value, MLP-in and head; then
# attention.dense and MLP-out. The two largest leave both unset: normal with 0.02 and scaled_normal.
PYTHIA_DEVIATIONS = {
    "pythia-14m": ("0.05590", "0.02946"),
    "pythia-31m": ("0.03953", "0.02083"),
    "pythia-70m": ("0.02795", "0.01473"),
    "pythia-160m": ("0.02282", "0.006014"),
    "pythia-410m": ("0.01976", "0.002604"),
    "pythia-1b": ("0.01398", "0.002762"),
    "pythia-1.4b": ("0.01398", "0.001841"),
    "pythia-2.8b": ("0.0125", "0.001235"),
    "pythia-6.9b": ("0.02", "0.0025"),
    "pythia-12b": ("0.02", "0.002357"),
}
NORMAL = {"initialisation": {"method": "normal", "output_method": "scaled_normal"}}


def weights(**model: object) -> dict[str, Tensor]:
    return dict(initial_weights(resolve(model=model).model))


@pytest.mark.parametrize("name", PYTHIA_DEVIATIONS)
def test_a_pythia_preset_draws_with_pythias_deviations(name: str) -> None:
    model = ModelSection.model_validate({"preset": name})
    inner, outer = PYTHIA_DEVIATIONS[name]
    for parameter, shape in parameter_shapes(model).items():
        if len(shape) == 2:
            expected = outer if parameter.endswith(("attention.dense.weight", "dense_4h_to_h.weight")) else inner
            shown = len(expected.partition(".")[2])
            assert f"{standard_deviation(model, parameter):.{shown}f}" == expected, parameter


@pytest.mark.parametrize("model", [{}, NORMAL])
def test_matrices_have_the_deviation_they_are_drawn_with(model: dict[str, object]) -> None:
    recipe = resolve(model=model).model
    for name, weight in initial_weights(recipe):
        if weight.ndim == 2:
            # Among 1024 numbers and more the sample's deviation is off by less than 5 of its standard errors, once in 10⁶.
            error = 5 / math.sqrt(2 * weight.numel())
            assert float(weight.double().std()) == pytest.approx(standard_deviation(recipe, name), rel=error), name
            assert abs(float(weight.double().mean())) <= 5 * standard_deviation(recipe, name) / math.sqrt(weight.numel())


def test_biases_begin_at_zero_and_layernorms_at_one() -> None:
    for name, weight in weights().items():
        if name.endswith(".bias"):
            assert torch.equal(weight, torch.zeros_like(weight)), name
        elif weight.ndim == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name


def test_weights_come_in_the_networks_names_shapes_and_order_as_fp32() -> None:
    found = [(name, tuple(weight.shape)) for name, weight in initial_weights(resolve().model)]
    assert found == list(parameter_shapes(resolve().model).items())
    assert {weight.dtype for weight in weights().values()} == {torch.float32}


def test_a_weight_does_not_depend_on_what_else_the_model_has() -> None:
    base, changed = weights(**NORMAL), weights(tie_word_embeddings=True, attention_bias=False, intermediate_size=64, **NORMAL)
    shared = [name for name in base.keys() & changed.keys() if base[name].shape == changed[name].shape]
    assert len(shared) > 8
    assert all(bits(base[name]) == bits(changed[name]) for name in shared)


def test_a_deeper_model_begins_with_the_shallower_ones_weights() -> None:
    two, five = (
        weights(initialisation={"output_method": "normal"}),
        weights(num_hidden_layers=5, initialisation={"output_method": "normal"}),
    )
    assert all(bits(two[name]) == bits(five[name]) for name in two)


def test_a_larger_vocabulary_begins_with_the_smaller_ones_rows() -> None:
    small, large = weights(), weights(vocab_size=1000)
    for name in ("gpt_neox.embed_in.weight", "embed_out.weight"):
        assert bits(large[name][:300]) == bits(small[name])


def test_the_order_of_construction_does_not_matter() -> None:
    model = resolve().model
    forward = dict(initial_weights(model))
    torch.manual_seed(99)  # nor does torch's generator
    torch.rand(10)
    again = dict(sorted(initial_weights(model), reverse=True))
    assert all(bits(forward[name]) == bits(again[name]) for name in forward)


def test_no_two_matrices_begin_alike_and_another_seed_changes_all() -> None:
    base, other = weights(), weights(seed=12)
    matrices = [name for name, weight in base.items() if weight.ndim == 2]
    assert len({bits(base[name].flatten()[:64] / base[name].std()) for name in matrices}) == len(matrices)
    assert not any((base[name] == other[name]).any() for name in matrices)


def test_the_data_seed_changes_no_weight() -> None:
    first, second = (dict(initial_weights(resolve(order={"seed": seed}).model)) for seed in (7, 8))
    assert all(bits(first[name]) == bits(second[name]) for name in first)
