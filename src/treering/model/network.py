"""GPT-NeoX in PyTorch, its parameters named as in Hugging Face's state dicts."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from treering.config.schema import ModelSection
from treering.model.cross_entropy import Fused, linear_cross_entropy

_ACTIVATIONS = {"gelu": "none", "gelu_pytorch_tanh": "tanh"}


class GPTNeoX(nn.Module):
    """A decoder with rotary positions and a language-model head.

    Source:
        Black et al. 2022, GPT-NeoX-20B (arXiv 2204.06745), section 2.

    Exact:
        Against `transformers` with the same weights: equal up to rounding; see `revisions.agreement` for the bound.
    """

    def __init__(self, model: ModelSection) -> None:
        super().__init__()
        self.gpt_neox = _Body(model)
        self._fused: Fused | None = None
        self.embed_out = None if model.tie_word_embeddings else _Head(model.hidden_size, model.vocab_size, bias=False)

    def forward(
        self, tokens: Int[Tensor, "batch seq"], targets: Int[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"] | Float[Tensor, ""]:
        """Return the logits of the token after each one; or, of given targets, the mean cross-entropy in nats."""
        hidden = self.gpt_neox(tokens)
        if self.embed_out is None:
            return _score(hidden, self.gpt_neox.embed_in.weight, targets, self._fused)
        return self.embed_out(hidden, targets, self._fused)

    def compile_parts(self, **how: Any) -> None:
        """Have the layers, and the loss between its products, compiled at their first use, as `torch.compile` is told."""
        for layer in self.gpt_neox.layers:
            layer.compile(**how)
        self._fused = Fused.compiled(**how)

    def recompute_layers(self) -> None:
        """Have layers keep nothing but their input, and compute the rest again going backward.

        Exact:
            Bitwise: the same operations on the same numbers.

        Source:
            Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost (arXiv 1604.06174).
        """
        self.gpt_neox.recomputed = True


class _Body(nn.Module):
    def __init__(self, model: ModelSection) -> None:
        super().__init__()
        self.recomputed = False
        self._rotary = Rotary(model.rotary_size, model.rotary_emb_base)
        self.embed_in = nn.Embedding(model.vocab_size, model.hidden_size)
        self.layers = nn.ModuleList(_Layer(model) for _ in range(model.num_hidden_layers))
        self.final_layer_norm = nn.LayerNorm(model.hidden_size, eps=model.layer_norm_eps)

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq hidden"]:
        hidden = self.embed_in(tokens)
        tables = self._rotary.tables(tokens.shape[1], tokens.device)
        for layer in self.layers:
            hidden = _recomputed(layer, hidden, tables) if self.recomputed else layer(hidden, tables)
        return self.final_layer_norm(hidden)


def _recomputed(layer: nn.Module, hidden: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    output = checkpoint(layer, hidden, tables, use_reentrant=False, preserve_rng_state=False)
    return cast("Tensor", output)


class _Layer(nn.Module):
    def __init__(self, model: ModelSection) -> None:
        super().__init__()
        self._parallel = model.use_parallel_residual
        self.input_layernorm = nn.LayerNorm(model.hidden_size, eps=model.layer_norm_eps)
        self.post_attention_layernorm = nn.LayerNorm(model.hidden_size, eps=model.layer_norm_eps)
        self.attention = _Attention(model)
        self.mlp = _MLP(model)

    def forward(self, hidden: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        attended = self.attention(self.input_layernorm(hidden), tables)
        if self._parallel:
            return self.mlp(self.post_attention_layernorm(hidden)) + attended + hidden
        hidden = attended + hidden
        return self.mlp(self.post_attention_layernorm(hidden)) + hidden


class _Attention(nn.Module):
    def __init__(self, model: ModelSection) -> None:
        super().__init__()
        self._heads, self._head_size = model.num_attention_heads, model.head_size
        self.query_key_value = nn.Linear(model.hidden_size, 3 * model.hidden_size, bias=model.attention_bias)
        self.dense = nn.Linear(model.hidden_size, model.hidden_size, bias=model.attention_bias)

    def forward(self, hidden: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, width = hidden.shape
        # Query, key and value lie side by side inside each head, not one after the other.
        projected = self.query_key_value(hidden).view(batch, length, self._heads, 3 * self._head_size)
        query, key, value = projected.transpose(1, 2).chunk(3, dim=-1)
        query, key = rotate(query, *tables), rotate(key, *tables)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.dense(mixed.transpose(1, 2).reshape(batch, length, width))


class _MLP(nn.Module):
    def __init__(self, model: ModelSection) -> None:
        super().__init__()
        self._approximation = _ACTIVATIONS[model.hidden_act]
        self.dense_h_to_4h = nn.Linear(model.hidden_size, model.intermediate_size)
        self.dense_4h_to_h = nn.Linear(model.intermediate_size, model.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense_4h_to_h(functional.gelu(self.dense_h_to_4h(hidden), approximate=self._approximation))


class _Head(nn.Linear):
    def forward(self, input: Tensor, targets: Tensor | None = None, fused: Fused | None = None) -> Tensor:
        return _score(input, self.weight, targets, fused)


def _score(hidden: Tensor, weight: Tensor, targets: Tensor | None, fused: Fused | None) -> Tensor:
    if targets is None:
        return functional.linear(hidden, weight)
    return linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), fused)


class Rotary:
    """Cosines and sines of the rotary angles, kept for the last length asked for.

    Source:
        Su et al. 2021, RoFormer (arXiv 2104.09864), in GPT-NeoX's half-split layout.
    """

    def __init__(self, size: int, base: int) -> None:
        self._size, self._base = size, base
        self._kept: tuple[Tensor, Tensor] | None = None

    def tables(self, length: int, device: torch.device) -> tuple[Float[Tensor, "seq rotary"], Float[Tensor, "seq rotary"]]:
        """Return cosines and sines in fp32 of fp32 angles, for positions 0 to `length` − 1."""
        if self._kept is None or self._kept[0].shape[0] != length or self._kept[0].device != device:
            self._kept = self._compute(length, device)
        return self._kept

    def _compute(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self._size, 2, dtype=torch.int64).float() / self._size
        frequencies = 1.0 / (self._base**exponents)
        angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies).repeat(1, 2)
        exact = angles.double()  # the angles are fp32; their cosines are rounded once
        return exact.cos().float().to(device), exact.sin().float().to(device)


def rotate(
    vectors: Float[Tensor, "batch heads seq head"],
    cosines: Float[Tensor, "seq rotary"],
    sines: Float[Tensor, "seq rotary"],
) -> Float[Tensor, "batch heads seq head"]:
    """Return the vectors with their first dimensions turned by each position's angles, halves against each other."""
    size = cosines.shape[-1]
    turning, still = vectors[..., :size], vectors[..., size:]
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cosines + torch.cat((-second, first), dim=-1) * sines
    return torch.cat((turned.to(vectors.dtype), still), dim=-1)


def empty_network(model: ModelSection) -> GPTNeoX:
    """Return a network whose parameters have shapes but no values yet; `load_state_dict(..., assign=True)` gives them."""
    with torch.device("meta"):
        return GPTNeoX(model)
