"""What sharded weights save and cost: `python benchmarks/fsdp.py`, memory and seconds of an update, and FSDP2's own bits.

Each engine has its own processes, by turns: torch's DDP, `--shard moments`, torch's FSDP2 with its own sums, and
`--shard weights`, which is FSDP2 with treering's sums. `held` is resident memory between updates, `peak` the most there was,
both beyond what was there before the state; freed memory that the allocator keeps is in both. gloo, one thread a rank.
With `--bits`, the weights of FSDP2's own sums after three updates are compared with those of one process.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ranks import SIZES, Peer, recipe_of
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from treering.checkpoints.state import initial_state, weights_digest
from treering.config.schema import Recipe
from treering.model.network import GPTNeoX
from treering.order.batches import FlatBatches
from treering.order.stage import arrange
from treering.provenance.environment import describe_machine, launched_as
from treering.training.determinism import set_arithmetic
from treering.training.engine import loss_of
from treering.training.meeting import open_ranks
from treering.training.ranks import Ranks
from treering.training.steps import steps
from treering.training.tree import share

SIZES["tiny"] = {"vocab_size": 8192, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
# Where, as in large models, no part is much of the whole: 24 layers and a small vocabulary, 84M parameters.
SIZES["deep"] = {"vocab_size": 8192, "hidden_size": 512, "num_hidden_layers": 24, "num_attention_heads": 8}
ENGINES = ("DDP", "moments", "FSDP2", "weights")


class Native:
    """FSDP2 with its own sums, one update at a time."""

    def __init__(self, recipe: Recipe, batches: FlatBatches, rank: int, world_size: int) -> None:
        self.network = GPTNeoX(recipe.model)
        self.network.load_state_dict(initial_state(recipe.model).weights)
        mesh = init_device_mesh("cpu", (world_size,))
        head: Any = self.network.embed_out
        for module in (*self.network.gpt_neox.layers, self.network.gpt_neox.embed_in, head, self.network):
            fully_shard(module, mesh=mesh)
        self._batches, self._leaves = batches, share(recipe.training.micro_batches, world_size, rank)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, foreach=False
        )
        self._update = 0

    def advance(self) -> None:
        """Do one update."""
        rows = torch.from_numpy(self._batches.batch(self._update))
        for leaf in self._leaves:
            (loss_of(self.network, rows[leaf : leaf + 1], "fp32") / len(self._leaves)).backward()  # pyright: ignore[reportArgumentType]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._update += 1


def made_up(size: str, micro_batches: int, tokens: int) -> tuple[Recipe, FlatBatches]:
    """Return a recipe and its batches."""
    recipe = recipe_of(size, micro_batches, tokens)
    return recipe, arrange(recipe, (torch.arange(200_000) * 7919 % 8000).numpy().astype("uint16"))


def open_engine(name: str, recipe: Recipe, batches: FlatBatches, ranks: Ranks) -> Callable[[], object]:
    """Return what does an update."""
    if name in ("DDP", "FSDP2"):
        return (Peer if name == "DDP" else Native)(recipe, batches, ranks.rank, ranks.world_size).advance
    state = ranks.place(initial_state(recipe.model) if ranks.rank == 0 else None, torch.device("cpu"))
    return steps(state, batches, recipe, ranks).__next__


def measure(name: str, size: str, updates: int) -> None:
    """Print on rank 0 the seconds of an update, and what the rank with the most holds, in MiB."""
    recipe, batches = made_up(size, 4, 256)
    with open_ranks(recipe, "weights" if name == "weights" else "moments") as ranks:
        found = found_of(name, recipe, batches, ranks, updates)
        if ranks.rank == 0:
            print(*found, flush=True)


def found_of(name: str, recipe: Recipe, batches: FlatBatches, ranks: Ranks, updates: int) -> list[float]:
    """Return an engine's seconds of an update, and what it holds between updates and at most, in MiB.

    A function of its own, so that DDP's reducer goes before its group does: the other way round torch 2.13 can hang.
    """
    dist.barrier()
    before = memory("VmRSS")
    advance = open_engine(name, recipe, batches, ranks)
    advance()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here: loading is another matter
    start = time.perf_counter()
    for _ in range(updates):
        advance()
    found = torch.tensor([(time.perf_counter() - start) / updates, memory("VmRSS") - before, memory("VmHWM") - before])
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def memory(field: str) -> float:
    """Return a line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def compare_bits() -> None:
    """Print on rank 0, for each number of micro-batches, whether FSDP2's own sums give the weights of one process."""
    for micro_batches in (4, 8):
        recipe, batches = made_up("tiny", micro_batches, 32)
        with open_ranks(recipe) as ranks:
            state, engine = initial_state(recipe.model), Native(recipe, batches, ranks.rank, ranks.world_size)
            for _ in zip(range(3), steps(state, batches, recipe), strict=False):
                engine.advance()
            weights = {name: p.full_tensor() for name, p in engine.network.named_parameters() if isinstance(p, DTensor)}
            if ranks.rank == 0:
                equal = weights_digest(weights) == weights_digest(state.weights)
                print(f"{ranks.world_size} ranks, {micro_batches} micro-batches: {'equal' if equal else 'other'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["70M", "deep"], choices=list(SIZES))
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--bits", action="store_true", help="only the bits of FSDP2's own sums")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if launched_as() is not None:
        set_arithmetic(1)
        compare_bits() if given.bits else measure(given.engine, given.sizes[0], given.updates)
        return
    print(f"{describe_machine()}, torch {torch.__version__}", flush=True)
    if given.bits:
        for world_size in (2, 4):
            print(launch(world_size, "--bits"), end="", flush=True)
        return
    for size, world_size in itertools.product(given.sizes, given.ranks):
        found: dict[str, list[list[float]]] = {name: [] for name in ENGINES}
        for _ in range(given.rounds):
            for name in ENGINES:
                words = launch(world_size, "--engine", name, "--sizes", size, "--updates", str(given.updates)).split()
                found[name].append([float(word) for word in words])
        tell(f"{size}, {world_size} ranks", found)


def tell(what: str, found: dict[str, list[list[float]]]) -> None:
    """Print each engine's medians and ranges, and what they are of DDP's."""
    print(what, flush=True)
    of_ddp = [statistics.median(values) for values in zip(*found["DDP"], strict=True)]
    for name, rounds in found.items():
        cells = [
            f"{title} {statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f}), "
            f"× {statistics.median(values) / peer:.2f}"
            for title, digits, values, peer in zip(
                ("s", "held MiB", "peak MiB"), (2, 0, 0), zip(*rounds, strict=True), of_ddp, strict=True
            )
        ]
        print(f"  {name:<8} {'; '.join(cells)}", flush=True)


def launch(world_size: int, *options: str) -> str:
    """Start this file on so many ranks, and return what they print."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    return subprocess.run([*torchrun, __file__, *options], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
