"""Could FSDP2 be the one engine? `python benchmarks/fsdp.py`: its bits for any number of ranks, and what it costs.

FSDP2 takes a reduce-scatter of one's own; this one sums along treering's tree. Every rank has to take part in every
exchange, so a rank without a micro-batch left computes one that does not count. The weights after three updates are compared
with those of treering's loop in one process; then FSDP2 with its own sums, FSDP2 with the tree, DDP and treering take turns
on two ranks. `ReduceScatter` is a private name of torch.
"""

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from ranks import SIZES, Peer, recipe_of
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter

from treering.checkpoints.state import initial_state, weights_digest
from treering.config.schema import Recipe
from treering.model.network import GPTNeoX
from treering.order.batches import Batches
from treering.order.stage import arrange
from treering.provenance.environment import describe_machine, launched_as
from treering.training.determinism import set_arithmetic
from treering.training.meeting import open_ranks
from treering.training.optimizer import AdamW, Rows, clipping_scale, row_squares
from treering.training.schedule import learning_rate
from treering.training.steps import loss_of, steps
from treering.training.tree import TreeSum, ordered_sum

WORLD_SIZES, MICRO_BATCHES, UPDATES = (1, 2, 3, 4, 8), (4, 6, 7, 8), 3
SIZES["tiny"] = {"vocab_size": 8192, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


class TreeReduceScatter(ReduceScatter):
    """Sums an update's micro-batches along the tree; its last exchange gives the sum, those before give zeros."""

    def __init__(self, leaves: int) -> None:
        self._leaves, self._tree, self._first = leaves, TreeSum(), 0

    def allocate(self, size: Any, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return memory."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False) -> None:  # noqa: ARG002
        """Exchange one leaf of every rank."""
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        for rank, rows in enumerate(received.chunk(group.size())):
            if self._first + rank < self._leaves:
                self._tree.add((0, self._first + rank), [rows])
        self._first += group.size()
        if self._first < self._leaves:
            output_tensor.zero_()
        else:
            output_tensor.copy_(self._tree.total()[0])
            self._first = 0


class Sharded:
    """FSDP2 with treering's AdamW and norms on its shards, which are whole rows."""

    def __init__(self, recipe: Recipe, batches: Batches, *, tree: bool) -> None:
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        self._batches, self._training = batches, recipe.training
        self._network = network = GPTNeoX(recipe.model)
        network.load_state_dict(initial_state(recipe.model).weights)
        mesh = init_device_mesh("cpu", (self._world_size,))
        for module in (*network.gpt_neox.layers, network):
            sharded: Any = fully_shard(module, mesh=mesh)
            if tree:
                sharded.set_custom_reduce_scatter(TreeReduceScatter(recipe.training.micro_batches))
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
        self._parameters: dict[str, Any] = dict(network.named_parameters())
        self._moments = {name: [torch.zeros_like(p.to_local()) for _ in "12"] for name, p in self._parameters.items()}
        self._update = 0

    def advance(self) -> None:
        """Do one update."""
        gradients = {name: gradient for name, gradient in self._differentiate().items() if gradient.shape[0]}
        scale = clipping_scale(self._norm(gradients), self._training.optimizer.gradient_clip)
        parts = {
            name: Rows(self._parameters[name].to_local().detach(), gradient, *self._moments[name])
            for name, gradient in gradients.items()
        }
        rate = learning_rate(self._training, self._update)
        AdamW(self._training.optimizer).update(parts, self._update, rate, scale)
        self._update += 1

    def digest(self) -> str:
        """Return the digest of the whole weights."""
        return weights_digest({name: p.full_tensor() for name, p in self._parameters.items()})

    def _differentiate(self) -> dict[str, Tensor]:
        leaves, rows = self._training.micro_batches, torch.from_numpy(self._batches.batch(self._update))
        alone = TreeSum()
        for first in range(0, leaves, self._world_size):
            leaf = first + self._rank
            loss = loss_of(self._network, rows[leaf % leaves : leaf % leaves + 1], "fp32")
            (loss / leaves if leaf < leaves else loss * 0).backward()
            if self._world_size == 1:  # FSDP2 calls no reduce-scatter then
                alone.add((0, leaf), self._take_gradients())
        return dict(zip(self._parameters, alone.total() if self._world_size == 1 else self._take_gradients(), strict=True))

    def _take_gradients(self) -> list[Tensor]:
        gradients = [p.grad.to_local() for p in self._parameters.values()]
        self._network.zero_grad(set_to_none=True)
        return gradients

    def _norm(self, gradients: dict[str, Tensor]) -> float:
        squares = []
        for name, parameter in self._parameters.items():
            numbers = torch.zeros(parameter.shape[0], dtype=torch.float64)
            if name in gradients:
                start = -(-parameter.shape[0] // self._world_size) * self._rank
                numbers[start : start + gradients[name].shape[0]] = row_squares(gradients[name])
            squares.append(numbers)
        everyones = torch.cat(squares)
        dist.all_reduce(everyones)  # zero on all ranks but one
        return float(ordered_sum(everyones)) ** 0.5


def made_up(size: str, micro_batches: int, tokens: int) -> tuple[Recipe, Batches]:
    """Return a recipe and its batches."""
    recipe = recipe_of(size, micro_batches, tokens)
    return recipe, arrange(recipe, (torch.arange(200_000) * 7919 % 8000).numpy().astype("uint16"))


def compare_bits() -> None:
    """Print on rank 0, for each number of micro-batches, whether FSDP2's weights are those of one process."""
    dist.init_process_group("gloo")
    for micro_batches in MICRO_BATCHES:
        recipe, batches = made_up("tiny", micro_batches, 32)
        state = initial_state(recipe.model)
        for _ in zip(range(UPDATES), steps(state, batches, recipe), strict=False):
            pass
        found = {}
        for name, tree in (("tree", True), ("native", False)):
            engine = Sharded(recipe, batches, tree=tree)
            for _ in range(UPDATES):
                engine.advance()
            found[name] = "equal" if engine.digest() == weights_digest(state.weights) else "other"
        if dist.get_rank() == 0:
            print(f"{dist.get_world_size()} ranks, {micro_batches} micro-batches: {found}", flush=True)
    dist.destroy_process_group()


def measure(size: str, segments: int) -> None:
    """Take turns, and print on rank 0 the seconds of an update."""
    recipe, batches = made_up(size, 4, 256)
    with open_ranks(recipe) as ranks:
        loop = steps(ranks.place(initial_state(recipe.model), torch.device("cpu")), batches, recipe, ranks)
        engines: dict[str, Callable[[], object]] = {
            "DDP": Peer(recipe, batches, ranks.rank, ranks.world_size).advance,
            "treering": functools.partial(next, loop),
            "FSDP2": Sharded(recipe, batches, tree=False).advance,
            "FSDP2, tree": Sharded(recipe, batches, tree=True).advance,
        }
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        processor: dict[str, list[float]] = {name: [] for name in engines}
        for segment in range(segments + 1):
            for name, advance in engines.items():
                dist.barrier()
                start, worked = time.perf_counter(), time.process_time()
                advance()
                dist.barrier()
                if segment:  # the first does not count
                    seconds[name].append(time.perf_counter() - start)
                    processor[name].append(time.process_time() - worked)
        if ranks.rank == 0:
            for name in engines:
                print(f"  {name:<12} {compared(seconds, name)}; processor {compared(processor, name)}", flush=True)


def compared(seconds: dict[str, list[float]], name: str) -> str:
    """Return an engine's median and range, and its median over DDP's."""
    taken, median = seconds[name], statistics.median(seconds[name])
    return f"{median:.3f} s ({min(taken):.3f}–{max(taken):.3f}), × {median / statistics.median(seconds['DDP']):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="70M", choices=list(SIZES))
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--bits", action="store_true", help="only the bits")
    given = parser.parse_args()
    if launched_as() is not None:
        set_arithmetic(1)
        compare_bits() if given.bits else measure(given.size, given.segments)
        return
    print(f"{describe_machine()}, torch {torch.__version__}, gloo, ranks of 1 thread", flush=True)
    for world_size in WORLD_SIZES:
        launch(world_size, "--bits")
    if not given.bits:
        launch(2, "--size", given.size, "--segments", str(given.segments))


def launch(world_size: int, *options: str) -> None:
    """Start this file on so many ranks."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    subprocess.run([*torchrun, __file__, *options], check=True)


if __name__ == "__main__":
    main()
