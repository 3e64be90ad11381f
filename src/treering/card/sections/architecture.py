"""What network it is."""

from collections.abc import Iterator

from treering.card.claims import Claims
from treering.card.markdown import code, table
from treering.card.records import TRAINING
from treering.card.sections.introduction import title

_ACTIVATIONS = {
    "gelu": "the exact GELU (with the error function)",
    "gelu_pytorch_tanh": "the tanh approximation of GELU",
}
_METHOD = "recipe.yaml#/model/initialisation"


def architecture(claims: Claims) -> str:
    """Return the architecture in sentences and as a table.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    notes = ["", claims.quote("architecture_notes")] if claims.records.recipe.card.architecture_notes else []
    return "\n".join(
        [
            "## Architecture",
            "",
            _size(claims),
            *_choices(claims),
            _first_weights(claims),
            *notes,
            "",
            "The full architectural specification:",
            "",
            _specification(claims),
        ]
    )


def _size(claims: Claims) -> str:
    config = claims.records.main_config
    layers = claims.amount(f"{config}#/num_hidden_layers", "layer")
    width = claims.cite("count", f"{config}#/hidden_size")
    heads = claims.amount(f"{config}#/num_attention_heads", "attention head")
    total, without = (
        claims.cite("parameters", f"{TRAINING}#/{field}") for field in ("parameters", "parameters_without_embeddings")
    )
    return (
        f"{title(claims)} uses a decoder-only transformer (GPT-NeoX) architecture with {layers}, "
        f"a hidden dimension of {width}, and {heads}, for a total of {total} parameters ({without} without embeddings)."
    )


def _choices(claims: Claims) -> Iterator[str]:
    config, model = claims.records.main_config, claims.records.recipe.model
    eps, share = claims.cite("exact", f"{config}#/layer_norm_eps"), claims.cite("percent", f"{config}#/rotary_pct")
    base, width = claims.cite("count", f"{config}#/rotary_emb_base"), claims.cite("count", f"{config}#/intermediate_size")
    residual = "are computed in parallel from the same residual stream" if model.use_parallel_residual else "follow each other"
    yield f"In each layer, attention and MLP {residual}, each after a LayerNorm of its own (ε {eps})."
    yield f"Positions are encoded by rotating {share} of each head's dimensions (rotary embeddings, base {base})."
    activation, name = _ACTIVATIONS[model.hidden_act], claims.cite("code", f"{config}#/hidden_act")
    yield f"The activation is {activation}, {name} in the configuration; an MLP is {width} wide."
    tied = "share one matrix (tied)" if model.tie_word_embeddings else "are two matrices (untied)"
    biases = "have biases" if model.attention_bias else "have no biases, those of the MLP do"
    yield f"Input and output embeddings {tied}; attention's projections {biases}."


def _first_weights(claims: Claims) -> str:
    method = claims.records.recipe.model.initialisation
    into, out = _deviation(claims, "method"), _deviation(claims, "output_method")
    return (
        f"First weights are normal: {code(method.method)} (standard deviation {into}) for embeddings and for layers that read "
        f"the residual stream, {code(method.output_method)} ({out}) for those that write to it; biases start at zero."
    )


def _deviation(claims: Claims, field: str) -> str:
    config = claims.records.main_config
    sizes = (f"{config}#/num_hidden_layers", f"{config}#/hidden_size")
    return claims.cite("first deviation", f"{_METHOD}/{field}", f"{_METHOD}/standard_deviation", *sizes)


def _specification(claims: Claims) -> str:
    config = claims.records.main_config
    rows = [
        ("Parameters", claims.cite("count", f"{TRAINING}#/parameters")),
        ("Parameters without embeddings", claims.cite("count", f"{TRAINING}#/parameters_without_embeddings")),
        ("Layers", claims.cite("count", f"{config}#/num_hidden_layers")),
        ("Hidden Dimension", claims.cite("count", f"{config}#/hidden_size")),
        ("Attention Heads", claims.cite("count", f"{config}#/num_attention_heads")),
        ("Context Length", claims.amount(f"{config}#/max_position_embeddings", "token")),
        ("Vocabulary Size", claims.cite("count", f"{config}#/vocab_size")),
    ]
    return table(("Hyperparameter", "Value"), rows)
