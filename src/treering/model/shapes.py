"""Which parameters a model has, their shapes, and how many numbers and operations that is; known without building it."""

import math
from dataclasses import dataclass

from treering.config.schema import ModelSection

Shape = tuple[int, ...]


def parameter_shapes(model: ModelSection) -> dict[str, Shape]:
    """Return every parameter's shape under Hugging Face's name for it, in the order of the network."""
    width, vocabulary = model.hidden_size, model.vocab_size
    shapes: dict[str, Shape] = {"gpt_neox.embed_in.weight": (vocabulary, width)}
    for layer in range(model.num_hidden_layers):
        prefix = f"gpt_neox.layers.{layer}."
        shapes |= {prefix + name: shape for name, shape in _layer_shapes(model).items()}
    shapes |= _norm("gpt_neox.final_layer_norm", width)
    if not model.tie_word_embeddings:
        shapes["embed_out.weight"] = (vocabulary, width)
    return shapes


def _layer_shapes(model: ModelSection) -> dict[str, Shape]:
    width, inner = model.hidden_size, model.intermediate_size
    return {
        **_norm("input_layernorm", width),
        **_norm("post_attention_layernorm", width),
        **_linear("attention.query_key_value", width, 3 * width, bias=model.attention_bias),
        **_linear("attention.dense", width, width, bias=model.attention_bias),
        **_linear("mlp.dense_h_to_4h", width, inner, bias=True),
        **_linear("mlp.dense_4h_to_h", inner, width, bias=True),
    }


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, inputs: int, outputs: int, *, bias: bool) -> dict[str, Shape]:
    weight: dict[str, Shape] = {f"{name}.weight": (outputs, inputs)}
    return {**weight, f"{name}.bias": (outputs,)} if bias else weight


def is_embedding(name: str) -> bool:
    """Whether a parameter is the input embedding or the output head."""
    return name in ("gpt_neox.embed_in.weight", "embed_out.weight")


def is_decayed(name: str) -> bool:
    """Whether weight decay applies: to everything but biases and LayerNorms, embeddings and head included.

    Source:
        GPT-NeoX, megatron/model/utils.py, get_params_for_weight_decay_optimization.
    """
    return name.endswith(".weight") and "norm" not in name


@dataclass(frozen=True)
class Counts:
    """How many numbers a model has."""

    parameters: int
    parameters_without_embeddings: int


def count_parameters(model: ModelSection) -> Counts:
    """Return the number of parameters with and without input embedding and output head."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(model).items()}
    without = sum(size for name, size in sizes.items() if not is_embedding(name))
    return Counts(sum(sizes.values()), without)


def operations_per_token(model: ModelSection, sequence_length: int) -> int:
    """Return floating-point operations of forward and backward pass per training token.

    Two for each weight of a matrix product and pass (one forward, two backward), and the two products of causal attention
    over full sequences counted dense.

    Source:
        Chowdhery et al. 2022 (arXiv 2204.02311), appendix B: 6N + 12·L·H·Q·T, with N here the weights that are
        multiplied: all matrices, the output head, not the embedding look-up.
    """
    multiplied = sum(math.prod(shape) for name, shape in parameter_shapes(model).items() if len(shape) == 2)
    if not model.tie_word_embeddings:
        multiplied -= model.vocab_size * model.hidden_size
    return 6 * multiplied + 12 * model.num_hidden_layers * model.hidden_size * sequence_length
