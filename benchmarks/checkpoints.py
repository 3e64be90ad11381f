"""How long a save holds up training, and what it costs in all, against `torch.save` and `torch.distributed.checkpoint`.

`make bench-checkpoints`, or `python benchmarks/checkpoints.py`. All write the same weights and moments; treering's are digested
tensor by tensor and file by file and brought to the disk before they get their name, the others leave that to the operating
system, unless their line says fsync. *Held up* is the time until the loop may change the state again. *In all* is what the
same matrix products take longer with one save than without: a save beside them shares the processors. Contestants take turns
in one process; the table has medians.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from results import made_on, record, spread

from treering.checkpoints.state import TrainingState, initial_state
from treering.checkpoints.store import load_checkpoint, save_checkpoint
from treering.config.schema import ModelSection
from treering.provenance.files import remove_tree
from treering.training.background import Background

ROUNDS = 5
THREADS = 2
PACKAGES = ("torch", "safetensors")
RUN = "sha256:benchmark"
NOTHING: Callable[[], object] = lambda: None  # noqa: E731

# Saves a state and returns what waits until all is written.
Contestant = Callable[[TrainingState, Path], Callable[[], object]]


def treering(state: TrainingState, folder: Path) -> Callable[[], object]:
    save_checkpoint(folder, state, RUN, tokens=0)
    return NOTHING


class TreeringBeside:
    """As `training.keeper` does it: a copy, into memory that is used again, and a thread."""

    def __init__(self, background: Background) -> None:
        self._background, self._copy = background, None

    def save(self, state: TrainingState, folder: Path) -> Callable[[], object]:
        """Copy the state and have it saved."""
        self._copy = copy = state.copy_into(self._copy)
        self._background.do(lambda: save_checkpoint(folder, copy, RUN, tokens=0))
        return self._background.wait


def named(state: TrainingState) -> dict[str, Any]:
    return {"weights": state.weights, "first": state.first_moments, "second": state.second_moments, "step": state.step}


def torch_save(state: TrainingState, folder: Path) -> Callable[[], object]:
    folder.mkdir()
    torch.save(named(state), folder / "checkpoint.pt")
    return NOTHING


def torch_save_and_sync(state: TrainingState, folder: Path) -> Callable[[], object]:
    torch_save(state, folder)
    with (folder / "checkpoint.pt").open("rb") as file:
        os.fsync(file.fileno())
    return NOTHING


def distributed_async(state: TrainingState, folder: Path) -> Callable[[], object]:
    saving = dcp.async_save(  # pyright: ignore[reportPrivateImportUsage]
        named(state), checkpoint_id=folder
    )
    if not isinstance(saving, Future):
        raise TypeError(f"this torch returns a {type(saving).__name__}")
    return saving.result


def random_state(preset: str) -> TrainingState:
    state = initial_state(ModelSection.model_validate({"preset": preset}))
    generator = torch.Generator().manual_seed(0)
    for group in (state.first_moments, state.second_moments):
        for tensor in group.values():
            tensor.uniform_(generator=generator)
    return state


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def work(products: int) -> float:
    factor = torch.ones(512, 512)
    start = time.perf_counter()
    for _ in range(products):
        torch.mm(factor, factor)
    return time.perf_counter() - start


def products_for(seconds: float) -> int:
    return max(1, int(200 * seconds / statistics.median(work(200) for _ in range(3))))


def compare(
    contestants: dict[str, Contestant], state: TrainingState, folder: Path, rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, int]]:
    """Return for each contestant, round after round, how long it held up the loop and what it cost in all; and its size."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    sizes: dict[str, int] = {}
    start = time.perf_counter()
    treering(state, folder / "saved")
    products = products_for(2 * (time.perf_counter() - start))
    remove_tree(folder / "saved")
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            os.sync()  # nobody writes what another one has left to write
            alone = work(products)
            start = time.perf_counter()
            wait = contestant(state, folder / "saved")
            held = time.perf_counter() - start
            work(products)
            wait()
            if number > 0:  # the first one takes memory that later ones have
                seconds[name].append((held, time.perf_counter() - start - alone))
            sizes[name] = size_bytes(folder / "saved")
            remove_tree(folder / "saved")
    return seconds, sizes


def rows_of(seconds: dict[str, list[tuple[float, float]]], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Return each one's seconds and bytes."""
    return [
        {
            "contestant": name,
            "held_up_seconds": spread([held for held, _ in taken]),
            "in_all_seconds": spread([in_all for _, in_all in taken]),
            "size_bytes": sizes[name],
        }
        for name, taken in seconds.items()
    ]


def print_table(seconds: dict[str, list[tuple[float, float]]], sizes: dict[str, int]) -> None:
    base = statistics.median(held for held, _ in seconds["treering, in the loop"])
    for name, taken in seconds.items():
        held, in_all = ([pair[index] for pair in taken] for index in (0, 1))
        print(
            f"  {name:<26} held up {statistics.median(held):6.3f} s ({min(held):.3f} to {max(held):.3f})"
            f"  × {statistics.median(held) / base:5.2f}   in all {statistics.median(in_all):6.3f} s"
            f" ({min(in_all):.3f} to {max(in_all):.3f})   {sizes[name] / 1e6:9.3f} MB"
        )


def measure(preset: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    state = random_state(preset)
    numbers = 3 * sum(weight.numel() for weight in state.weights.values())
    print(f"\n{preset}, {numbers / 1e6:.1f} million numbers in fp32")
    with Background() as background:
        contestants: dict[str, Contestant] = {
            "treering, in the loop": treering,
            "treering, beside the loop": TreeringBeside(background).save,
            "torch.save": torch_save,
            "torch.save, then fsync": torch_save_and_sync,
            "dcp.async_save": distributed_async,
        }
        seconds, sizes = compare(contestants, state, folder, rounds)
    print_table(seconds, sizes)
    save_checkpoint(folder, state, RUN, tokens=0)
    start = time.perf_counter()
    load_checkpoint(folder, 0, RUN)
    print(f"  {'treering, loading':<26} {time.perf_counter() - start:7.3f} s, every byte and tensor verified")
    return rows_of(seconds, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--presets", nargs="+", default=["sapling", "pythia-14m", "pythia-31m"])
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to be measured")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{made_on(PACKAGES)}, median of {given.rounds}")
    torch.set_num_threads(THREADS)
    # Its own group, which nothing else uses.
    store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    for preset in given.presets:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            rows = measure(preset, Path(name), given.rounds)
        if not given.dry:
            record("checkpoints", {"model": preset, "threads": THREADS, "rounds": given.rounds}, rows, PACKAGES)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
