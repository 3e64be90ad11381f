"""What it does to a model's predictions to be run otherwise than it was trained: `python benchmarks/neox_fidelity.py RUN`.

A finished run's last weights on its held-out tokens, in fp32: with the other form of GELU (Pythia was trained with tanh's, and
Hugging Face runs the exact one); with rotary angles computed in fp16, as GPT-NeoX v1.0 did; and with weights rounded to fp16
and bf16, to compare these with.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from treering.checkpoints.store import load_weights
from treering.config.digests import run_digest
from treering.config.run_directory import open_run
from treering.config.schema import Recipe
from treering.model.network import GPTNeoX, Rotary, empty_network
from treering.tokens.store import TokenStore

ROWS = 16


class HalfRotary(Rotary):
    """Rotary tables as GPT-NeoX v1.0 computed them under fp16: frequencies, positions and angles in fp16."""

    def _compute(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self._size, 2).float() / self._size
        frequencies = (1.0 / (self._base**exponents)).half()
        angles = torch.outer(torch.arange(length).half(), frequencies).repeat(1, 2)
        return angles.float().cos().to(device), angles.float().sin().to(device)


def network_of(recipe: Recipe, weights: dict[str, Tensor]) -> GPTNeoX:
    network = empty_network(recipe.model)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def with_half_angles(network: GPTNeoX, recipe: Recipe) -> GPTNeoX:
    network.gpt_neox._rotary = HalfRotary(recipe.model.rotary_size, recipe.model.rotary_emb_base)
    return network


def other_gelu(recipe: Recipe) -> Recipe:
    other = "gelu" if recipe.model.hidden_act == "gelu_pytorch_tanh" else "gelu_pytorch_tanh"
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"hidden_act": other})})


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = open_run(parser.parse_args().run)
    recipe, length = run.recipe, run.recipe.order.sequence_length
    weights = load_weights(run.stage("checkpoints"), recipe.training.steps, run_digest(recipe))
    tokens = TokenStore(run.stage("tokens"), "validation").tokens[: ROWS * (length + 1)]
    rows = torch.from_numpy(tokens.astype("int64")).view(-1, length + 1)
    variants: dict[str, Callable[[], GPTNeoX]] = {
        f"the other GELU ({other_gelu(recipe).model.hidden_act})": lambda: network_of(other_gelu(recipe), weights),
        "rotary angles in fp16": lambda: with_half_angles(network_of(recipe, weights), recipe),
        "weights rounded to fp16": lambda: network_of(recipe, {name: w.half().float() for name, w in weights.items()}),
        "weights rounded to bf16": lambda: network_of(recipe, {name: w.bfloat16().float() for name, w in weights.items()}),
    }
    exact = network_of(recipe, weights)(rows[:, :-1])
    loss = functional.cross_entropy(exact.flatten(0, 1), rows[:, 1:].flatten())
    print(f"{run.path}, {recipe.model.hidden_act}, {rows.shape[0]} × {length} held-out tokens, loss {loss:.4f} nats")
    for name, make in variants.items():
        logits = make()(rows[:, :-1])
        log_there, log_here = exact.log_softmax(-1), logits.log_softmax(-1)
        divergence = (log_there.exp() * (log_there - log_here)).sum(-1).mean()
        other = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        moved = (logits.argmax(-1) != exact.argmax(-1)).float().mean()
        print(
            f"{name}: logits {float((logits - exact).abs().max()):.2g} apart at most, KL {float(divergence):.1e} nats a token, "
            f"loss {float(other - loss):+.1e}, another likeliest token at {float(moved):.2%}"
        )


if __name__ == "__main__":
    main()
