"""What equal bits at any number of ranks cost: `python benchmarks/ranks.py`, seconds per update against torch's DDP.

Seconds of the clock, and of the processor on rank 0, which say more where other work goes on beside it.

Two ranks on this machine, one thread each, gloo. The peer is torch's DDP on the same network, micro-batches and first weights,
gradients summed by all-reduce after the last one (`no_sync` before), clipped by torch, updated by its AdamW one tensor at a
time. The two take turns, a segment each, in the same processes.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from treering.checkpoints.state import initial_state
from treering.config.reading import parse_recipe
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

SIZES: dict[str, dict[str, Any]] = {
    "10M": {"vocab_size": 8192, "hidden_size": 256, "num_hidden_layers": 7, "num_attention_heads": 8},
    "70M": {"preset": "pythia-70m"},
    "160M": {"preset": "pythia-160m"},
}


def recipe_of(size: str, micro_batches: int, tokens: int, stage: int = 0) -> Recipe:
    """Return a recipe for a size: micro-batches of one sequence; through DeepSpeed where a stage is given."""
    sections = {
        "name": "ranks",
        "corpus": {"sources": [{"builtin": "sotu"}]},
        "tokens": {"tokenizer": {"vocabulary_size": 300}},
        "order": {"sequence_length": tokens},
        "model": {"max_position_embeddings": 2048, **SIZES[size]},
        "training": {
            "steps": 10_000,
            "global_batch_size": micro_batches,
            "micro_batch_size": 1,
            "threads": 1,
            "optimizer": {"learning_rate": 1e-4},
            "engine": {"name": "deepspeed", "stage": stage} if stage else {"name": "treering"},
        },
    }
    return parse_recipe(json.dumps(sections), size)


class Peer:
    """DDP, one update at a time."""

    def __init__(self, recipe: Recipe, batches: FlatBatches, rank: int, world_size: int) -> None:
        network = GPTNeoX(recipe.model)
        network.load_state_dict(initial_state(recipe.model).weights)
        self._network, self._batches, self._training = DistributedDataParallel(network), batches, recipe.training
        self._leaves = list(share(recipe.training.micro_batches, world_size, rank))
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, foreach=False)
        self._update = 0

    def advance(self) -> None:
        """Do one update."""
        rows = torch.from_numpy(self._batches.batch(self._update))
        for leaf in self._leaves:
            waits = self._network.no_sync() if leaf != self._leaves[-1] else contextlib.nullcontext()
            with waits:
                loss = loss_of(self._network, rows[leaf : leaf + 1], "fp32")  # pyright: ignore[reportArgumentType]
                (loss / len(self._leaves)).backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._update += 1


def measure(recipe: Recipe, title: str, updates: int, segments: int) -> None:
    """Take turns, and print on rank 0 what each took."""
    set_arithmetic(1)
    numbers = (torch.arange(200_000) * 7919 % 8000).numpy().astype("uint16")
    batches = arrange(recipe, numbers)
    with open_ranks(recipe) as ranks:
        seconds, processor = take_turns(recipe, batches, ranks, updates, segments)
        if ranks.rank == 0:
            print(f"{title}: {compared(seconds)}; processor: {compared(processor)}")


Times = dict[str, list[float]]


def take_turns(recipe: Recipe, batches: FlatBatches, ranks: Ranks, updates: int, segments: int) -> tuple[Times, Times]:
    """Return each one's seconds of an update, of the clock and of the processor.

    A function of its own, so that DDP's reducer goes before its group does: the other way round torch 2.13 can hang.
    """
    state = ranks.place(initial_state(recipe.model) if ranks.rank == 0 else None, torch.device("cpu"))
    loop, peer = steps(state, batches, recipe, ranks), Peer(recipe, batches, ranks.rank, ranks.world_size)
    seconds: Times = {"DDP": [], "treering": []}
    processor: Times = {"DDP": [], "treering": []}
    for segment in range(segments + 1):
        for name, advance in (("DDP", peer.advance), ("treering", loop.__next__)):
            dist.barrier()
            start, worked = time.perf_counter(), time.process_time()
            for _ in range(updates):
                advance()
            dist.barrier()
            if segment:  # the first does not count
                seconds[name].append((time.perf_counter() - start) / updates)
                processor[name].append((time.process_time() - worked) / updates)
    return seconds, processor


def compared(seconds: dict[str, list[float]]) -> str:
    """Return medians, ranges and the ratio of the medians."""
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ranges = ", ".join(f"{name} {medians[name]:.3f} s ({min(t):.3f}–{max(t):.3f})" for name, t in seconds.items())
    return f"{ranges}, ratio {medians['treering'] / medians['DDP']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--micro-batches", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--updates", type=int, default=2, help="updates in a segment")
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--deepspeed", type=int, default=0, metavar="STAGE", help="train through DeepSpeed, at this ZeRO stage")
    given = parser.parse_args()
    if launched_as() is not None:
        recipe = recipe_of(given.sizes[0], given.micro_batches, given.tokens, given.deepspeed)
        title = f"{given.sizes[0]:>5}, {given.micro_batches} × {given.tokens} tokens"
        measure(recipe, title, given.updates, given.segments)
        return
    print(f"{describe_machine()}, {os.cpu_count()} processors, torch {torch.__version__}, 2 ranks of 1 thread", flush=True)
    for size in given.sizes:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
        options = {key: getattr(given, key) for key in ("micro_batches", "tokens", "updates", "segments", "deepspeed")}
        flags = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        subprocess.run([*launch, "--sizes", size, *flags], check=True)


if __name__ == "__main__":
    main()
