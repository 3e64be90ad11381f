"""The network against `transformers`' GPT-NeoX with the same weights, in fp32, bf16 and fp64, forwards and backwards.

In fp32 and bf16 the two round the same sums in different orders. The yardstick is the network in fp64: what treering's own
rounding is off by there says how large rounding errors are for this model, and `transformers` may be off by 8 times as much,
or 8 units in the last place of the largest logit. (So `revisions.agreement` judges a release, and says why 8.) In fp64 the
rotary tables are made equal, for `transformers` rounds their cosines to fp32 in another way, and the rest must agree to
fp64's own rounding.
"""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from training_making import bits, resolve
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from treering.config.schema import ModelSection
from treering.model.network import GPTNeoX, Rotary, empty_network
from treering.model.normal import normal_numbers
from treering.model.shapes import is_decayed, parameter_shapes

LENGTH = 48
MARGIN = 8.0
VARIANTS = [
    dict(
        zip(("rotary_pct", "use_parallel_residual", "tie_word_embeddings", "hidden_act", "attention_bias"), chosen, strict=True)
    )
    for chosen in itertools.product((0.25, 1.0), (True, False), (False, True), ("gelu", "gelu_pytorch_tanh"), (True, False))
]


def named(variant: dict[str, object]) -> str:
    return "-".join(str(value) for value in variant.values())


def architecture(**variant: object) -> ModelSection:
    return resolve(model={"vocab_size": 311, "hidden_size": 64, "num_attention_heads": 4, **variant}).model


def lively_weights(model: ModelSection) -> dict[str, Tensor]:
    """Weights with which every part of the network has a say: biases not 0, LayerNorms not 1, activations of some size."""
    weights = {}
    for name, shape in parameter_shapes(model).items():
        flat = torch.from_numpy(normal_numbers("test/lively", 1, name, int(torch.Size(shape).numel()), 0.2))
        weights[name] = flat.view(shape) + (1.0 if "norm.weight" in name else 0.0)
    return weights


def ours(model: ModelSection, weights: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> GPTNeoX:
    network = empty_network(model)
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    return network


def theirs(model: ModelSection, weights: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> GPTNeoXForCausalLM:
    """The same model of `transformers`, its configuration spelled out field by field."""
    config = GPTNeoXConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        intermediate_size=model.intermediate_size,
        max_position_embeddings=model.max_position_embeddings,
        hidden_act=model.hidden_act,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": model.rotary_emb_base,
            "partial_rotary_factor": model.rotary_pct,
        },
        use_parallel_residual=model.use_parallel_residual,
        attention_bias=model.attention_bias,
        tie_word_embeddings=model.tie_word_embeddings,
        layer_norm_eps=model.layer_norm_eps,
    )
    network = GPTNeoXForCausalLM(config).eval()
    nn.Module.to(network, dtype)
    network.set_attn_implementation("sdpa")
    renamed = {_their_name(name): tensor.to(dtype) for name, tensor in weights.items()}
    if model.tie_word_embeddings:
        renamed["lm_head.weight"] = renamed["gpt_neox.embed_in.weight"]
    network.load_state_dict(renamed)
    return network


def _their_name(name: str) -> str:
    """transformers 5 calls the head `lm_head` in memory, and `embed_out` in files."""
    return name.replace("embed_out.", "lm_head.")


def give_our_tables(network: GPTNeoXForCausalLM, model: ModelSection) -> None:
    """Have `transformers` use treering's cosines and sines."""

    class Tables(nn.Module):
        def forward(self, hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, ...]:
            tables = Rotary(model.rotary_size, model.rotary_emb_base).tables(hidden.shape[1], hidden.device)
            return tuple(table.to(hidden.dtype)[None] for table in tables)

    network.gpt_neox.set_submodule("rotary_emb", Tables())


def tokens(model: ModelSection) -> Tensor:
    numbers = torch.arange(3 * LENGTH)
    return ((numbers * numbers * 7 + numbers // 5) % model.vocab_size).view(3, LENGTH)


def farthest(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).abs().max())


@torch.inference_mode()
def bound_and_exact(model: ModelSection, weights: dict[str, Tensor]) -> tuple[float, Tensor]:
    """How far fp32 logits may be from the exact ones, and these."""
    exact = ours(model, weights, torch.float64)(tokens(model))
    own_error = farthest(ours(model, weights)(tokens(model)), exact)
    return MARGIN * max(own_error, torch.finfo(torch.float32).eps * float(exact.abs().max())), exact


@pytest.mark.parametrize("variant", VARIANTS, ids=named)
@torch.inference_mode()
def test_logits_in_fp32_are_those_of_transformers(variant: dict[str, object]) -> None:
    model = architecture(**variant)
    weights = lively_weights(model)
    bound, exact = bound_and_exact(model, weights)
    assert float(exact.std()) > 0.5  # there is something to compare
    assert bound < 1e-3 * float(exact.std())  # and the bound is no free pass
    network = theirs(model, weights)
    for attention in ("sdpa", "eager"):
        network.set_attn_implementation(attention)
        found = network(input_ids=tokens(model), use_cache=False).logits
        assert farthest(found, exact) <= bound, attention


@pytest.mark.parametrize("variant", VARIANTS, ids=named)
def test_logits_and_gradients_in_fp64_are_those_of_transformers(variant: dict[str, object]) -> None:
    model = architecture(**variant)
    weights = lively_weights(model)
    mine, other = ours(model, weights, torch.float64), theirs(model, weights, torch.float64)
    give_our_tables(other, model)
    rows = tokens(model)
    logits = (mine(rows), other(input_ids=rows, use_cache=False).logits)
    largest = float(logits[0].detach().abs().max())
    for own in logits:
        functional.cross_entropy(own[:, :-1].flatten(0, 1), rows[:, 1:].flatten()).backward()
    assert torch.allclose(*logits, rtol=0, atol=1e-12 * largest)
    gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
    assert len(gradients) == len(weights)
    for name, parameter in mine.named_parameters():
        expected, found = gradients[_their_name(name)], parameter.grad
        assert expected is not None and found is not None
        # fp64 carries 16 digits; sums of a few thousand products of both signs keep more than 12 of them.
        assert float((found - expected).norm()) <= 1e-12 * float(expected.norm()), name


@pytest.mark.parametrize("variant", VARIANTS[::5], ids=named)
@torch.inference_mode()
def test_logits_under_bf16_autocast_are_as_near_to_exact_as_those_of_transformers(variant: dict[str, object]) -> None:
    model = architecture(**variant)
    weights = lively_weights(model)
    exact = ours(model, weights, torch.float64)(tokens(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine = ours(model, weights)(tokens(model))
        other = theirs(model, weights)(input_ids=tokens(model), use_cache=False).logits
    floor = torch.finfo(torch.bfloat16).eps * float(exact.abs().max())
    assert mine.dtype == torch.bfloat16
    assert farthest(other, exact) <= MARGIN * max(farthest(mine, exact), floor)
    assert farthest(mine, exact) <= MARGIN * max(farthest(other, exact), floor)
    # Unlike a maximum, a mean does not hide a part that is wrong everywhere.
    assert float((mine.double() - exact).abs().mean()) <= 2 * float((other.double() - exact).abs().mean())
    assert float((mine.double() - exact).abs().mean()) < 0.1 * float(exact.std())


def _other_gelu(model: ModelSection) -> ModelSection:
    return model.model_copy(update={"hidden_act": {"gelu": "gelu_pytorch_tanh", "gelu_pytorch_tanh": "gelu"}[model.hidden_act]})


MISREADINGS = {
    "the other GELU": _other_gelu,
    "another rotary fraction": lambda model: model.model_copy(update={"rotary_pct": 0.5}),
    "another rotary base": lambda model: model.model_copy(update={"rotary_emb_base": 10_100}),
    "the other residual": lambda model: model.model_copy(update={"use_parallel_residual": not model.use_parallel_residual}),
    "another epsilon": lambda model: model.model_copy(update={"layer_norm_eps": 2e-5}),
    "another number of heads": lambda model: model.model_copy(update={"num_attention_heads": 2}),
}


@pytest.mark.parametrize("misreading", MISREADINGS)
@pytest.mark.parametrize("variant", VARIANTS[::4], ids=named)
@torch.inference_mode()
def test_a_misread_configuration_is_seen(variant: dict[str, object], misreading: str) -> None:
    model = architecture(**variant)
    weights = lively_weights(model)
    bound, exact = bound_and_exact(model, weights)
    found = theirs(MISREADINGS[misreading](model), weights)(input_ids=tokens(model), use_cache=False).logits
    assert farthest(found, exact) > 3 * bound


def _blocks_instead_of_heads(name: str, tensor: Tensor) -> Tensor:
    """Query, key and value one after the other instead of side by side inside each head."""
    if "query_key_value" not in name:
        return tensor
    heads = tensor.unflatten(0, (4, 3, 16))
    return heads.transpose(0, 1).reshape(tensor.shape)


def _a_thousandth_off(name: str, tensor: Tensor) -> Tensor:
    return tensor.clone().mul_(1.001) if name.endswith("layers.1.attention.dense.weight") else tensor


@pytest.mark.parametrize("change", [_blocks_instead_of_heads, _a_thousandth_off])
@torch.inference_mode()
def test_weights_in_another_layout_or_a_little_off_are_seen(change) -> None:
    model = architecture()
    weights = lively_weights(model)
    bound, exact = bound_and_exact(model, weights)
    changed = {name: change(name, tensor) for name, tensor in weights.items()}
    found = theirs(model, changed)(input_ids=tokens(model), use_cache=False).logits
    assert farthest(found, exact) > 3 * bound


@pytest.mark.parametrize("variant", VARIANTS, ids=named)
def test_names_and_shapes_are_those_of_transformers_files(variant: dict[str, object]) -> None:
    model = architecture(**variant)
    with torch.device("meta"):
        state = theirs_empty(model).state_dict()
    expected = {name.replace("lm_head.", "embed_out."): tuple(tensor.shape) for name, tensor in state.items()}
    if model.tie_word_embeddings:
        del expected["embed_out.weight"]  # listed twice in memory, written once
    assert parameter_shapes(model) == expected


def theirs_empty(model: ModelSection) -> GPTNeoXForCausalLM:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=model.vocab_size,
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_hidden_layers,
            num_attention_heads=model.num_attention_heads,
            intermediate_size=model.intermediate_size,
            attention_bias=model.attention_bias,
            tie_word_embeddings=model.tie_word_embeddings,
        )
    )


def test_decay_follows_gpt_neoxs_rule_over_transformers_modules() -> None:
    """GPT-NeoX's rule (megatron/model/utils.py): no decay for parameters of a LayerNorm, nor for any named `bias`."""
    model = architecture()
    network = theirs(model, lively_weights(model))

    def undecayed() -> Iterator[str]:
        for path, module in network.named_modules():
            for name, _ in module.named_parameters(recurse=False):
                if isinstance(module, nn.LayerNorm) or name == "bias":
                    yield f"{path}.{name}".replace("lm_head.", "embed_out.")

    expected = set(undecayed())
    assert {name for name in parameter_shapes(model) if not is_decayed(name)} == expected
    assert is_decayed("gpt_neox.embed_in.weight")
    assert is_decayed("embed_out.weight")


def test_loading_changes_no_weight() -> None:
    model = architecture()
    weights = lively_weights(model)
    state = theirs(model, weights).state_dict()
    assert all(bits(state[_their_name(name)]) == bits(tensor) for name, tensor in weights.items())
