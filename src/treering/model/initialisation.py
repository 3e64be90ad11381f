"""First weights: each parameter drawn from a key of its own."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from treering.config.schema import ModelSection
from treering.model.normal import normal_numbers
from treering.model.shapes import Shape, parameter_shapes

_OUTPUT_LAYERS = ("attention.dense.weight", "mlp.dense_4h_to_h.weight")


def initial_weights(model: ModelSection) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter's name and first value, fp32, in the order of the network.

    Exact:
        Bitwise equal on every machine; a parameter's value depends on its name, shape, initialisation and `model.seed`.
    """
    for name, shape in parameter_shapes(model).items():
        yield name, _first_value(model, name, shape)


def standard_deviation(model: ModelSection, name: str) -> float:
    """Return the standard deviation with which a matrix or embedding is drawn.

    Source:
        GPT-NeoX, megatron/model/init_functions.py: small_init after Nguyen and Salazar 2019 (arXiv 1910.05895), wang_init
        after Wang and Komatsuzaki 2021 (mesh-transformer-jax), scaled_normal after Radford et al. 2019.
    """
    own = model.initialisation
    method = own.output_method if name.endswith(_OUTPUT_LAYERS) else own.method
    width, layers = model.hidden_size, model.num_hidden_layers
    return {
        "small_init": math.sqrt(2 / (5 * width)),
        "wang_init": 2 / (layers * math.sqrt(width)),
        "scaled_normal": own.standard_deviation / math.sqrt(2 * layers),
        "normal": own.standard_deviation,
    }[method]


def _first_value(model: ModelSection, name: str, shape: Shape) -> Tensor:
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    numbers = normal_numbers("model/weights", model.seed, name, math.prod(shape), standard_deviation(model, name))
    return torch.from_numpy(numbers).view(shape)
