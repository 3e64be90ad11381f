"""How long a checkpoint takes to write and how large it is, against `torch.save`: `python benchmarks/checkpoints.py`.

Both write the same weights and moments; treering's are digested tensor by tensor and file by file and brought to the disk
before they get their name, `torch.save` writes and leaves the rest to the operating system. A third contestant saves and
syncs, which is the least that survives a power cut. They take turns in one process; the table has the medians.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from treering.checkpoints.state import TrainingState, initial_state
from treering.checkpoints.store import load_checkpoint, save_checkpoint
from treering.config.schema import ModelSection
from treering.provenance.environment import describe_machine, describe_software
from treering.provenance.files import remove_tree

ROUNDS = 5
RUN = "sha256:benchmark"

Contestant = Callable[[TrainingState, Path], None]


def treering(state: TrainingState, folder: Path) -> None:
    save_checkpoint(folder, state, RUN, tokens=0)


def torch_save(state: TrainingState, folder: Path) -> None:
    folder.mkdir()
    groups = {"weights": state.weights, "first": state.first_moments, "second": state.second_moments, "step": state.step}
    torch.save(groups, folder / "checkpoint.pt")


def torch_save_and_sync(state: TrainingState, folder: Path) -> None:
    torch_save(state, folder)
    with (folder / "checkpoint.pt").open("rb") as file:
        os.fsync(file.fileno())


CONTESTANTS: dict[str, Contestant] = {
    "torch.save": torch_save,
    "torch.save, then fsync": torch_save_and_sync,
    "treering": treering,
}


def random_state(preset: str) -> TrainingState:
    state = initial_state(ModelSection.model_validate({"preset": preset}))
    generator = torch.Generator().manual_seed(0)
    for group in (state.first_moments, state.second_moments):
        for tensor in group.values():
            tensor.uniform_(generator=generator)
    return state


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(state: TrainingState, folder: Path, rounds: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, contestant in CONTESTANTS.items():
            os.sync()  # nobody writes what another one has left to write
            start = time.perf_counter()
            contestant(state, folder / "saved")
            seconds[name].append(time.perf_counter() - start)
            sizes[name] = size_bytes(folder / "saved")
            remove_tree(folder / "saved")
    return seconds, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--presets", nargs="+", default=["sapling", "pythia-14m", "pythia-31m"])
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to be measured")
    given = parser.parse_args()
    software = {name: describe_software()[name] for name in ("treering", "python", "torch", "safetensors")}
    print(f"{describe_machine()}, {os.cpu_count()} processors, {software}, median of {given.rounds}")
    for preset in given.presets:
        state = random_state(preset)
        numbers = 3 * sum(weight.numel() for weight in state.weights.values())
        print(f"\n{preset}, {numbers / 1e6:.1f} million numbers in fp32")
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            seconds, sizes = compare(state, Path(name), given.rounds)
            base = statistics.median(seconds["torch.save"])
            for contestant, taken in seconds.items():
                median = statistics.median(taken)
                print(
                    f"  {contestant:<24} {median:7.3f} s (from {min(taken):.3f} to {max(taken):.3f})  × {median / base:5.2f}"
                    f"   {sizes[contestant] / 1e6:9.3f} MB   {sizes[contestant] / 1e6 / median:7.0f} MB/s"
                )
            save_checkpoint(Path(name), state, RUN, tokens=0)
            start = time.perf_counter()
            load_checkpoint(Path(name), 0, RUN)
            print(f"  {'treering, loading':<24} {time.perf_counter() - start:7.3f} s, every byte and tensor verified")


if __name__ == "__main__":
    main()
