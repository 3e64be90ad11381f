"""What ranks send and hold, from formulas: `python benchmarks/ranks_on_paper.py` prints the tables of docs/determinism.md.

Nothing is measured. N numbers of 4 bytes, W ranks, n micro-batches a rank (powers of two), L numbers in FSDP2's largest part.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from treering.config.reading import parse_recipe
from treering.config.schema import ModelSection
from treering.model.shapes import parameter_shapes

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
MODELS = ("pythia-1.4b", "pythia-6.9b", "pythia-12b")
MICRO_BATCHES = {8: 16, 64: 2, 512: 1}  # ranks → micro-batches of each; of 1,024 sequences, 8 a micro-batch, or 2 for 512 ranks
ENGINES = ("`moments`", "DDP", "FSDP2", "`weights`")


@dataclass(frozen=True)
class Case:
    """A model on so many ranks."""

    numbers: int
    group: int
    ranks: int
    micro_batches: int

    def sent(self) -> list[float]:
        """Return the bytes a rank sends, and receives, in an update, by engine."""
        whole = 4 * self.numbers * (self.ranks - 1) / self.ranks
        return [2 * whole, 2 * whole, 3 * self.micro_batches * whole, 3 * self.micro_batches * whole]

    def held(self) -> list[float]:
        """Return the bytes of weights, gradients, room to receive and moments on a rank, by engine."""
        whole, shard, group = 4 * self.numbers, 4 * self.numbers / self.ranks, 4 * self.group
        levels = int(math.log2(self.micro_batches))
        received = min(self.ranks - 1, 2 * int(math.log2(self.ranks)) + 1) * shard
        return [
            whole + max(max(1, levels) * whole, whole + received) + 2 * shard,
            4 * whole,
            4 * shard + 4 * group,
            (5 + levels) * shard + 5 * group,
        ]


def case(model: ModelSection, ranks: int) -> Case:
    """Return a model's case: FSDP2's parts are the layers, the embedding and the head."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(model).items()}
    layers = sum(size for name, size in sizes.items() if ".layers." in name)
    largest = max(size for name, size in sizes.items() if ".layers." not in name)
    return Case(sum(sizes.values()), max(largest, layers // model.num_hidden_layers), ranks, MICRO_BATCHES[ranks])


def table() -> list[str]:
    """Return the table's lines: bytes sent / held, in GB of 10⁹ bytes."""
    lines = [f"| model | GPUs | n | {' | '.join(ENGINES)} |", f"|---|---|---|{'---|' * len(ENGINES)}"]
    for name in MODELS:
        path = RECIPES / f"{name}.yaml"
        model = parse_recipe(path.read_text(encoding="utf-8"), path).model
        for ranks, micro_batches in MICRO_BATCHES.items():
            made = case(model, ranks)
            cells = [f"{sent / 1e9:.0f} / {held / 1e9:.0f}" for sent, held in zip(made.sent(), made.held(), strict=True)]
            lines.append(f"| {name} | {ranks} | {micro_batches} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
