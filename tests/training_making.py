"""Small runs for tests: a recipe that trains in a moment, its text, and what to compare runs by."""

import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from treering.checkpoints.state import TrainingState, initial_state, weights_digest
from treering.config.reading import parse_recipe
from treering.config.run_directory import RunDirectory, open_run
from treering.config.schema import CheckpointsSection, ImportedEngine, Recipe
from treering.corpus.stage import prepare_corpus
from treering.order.batches import FlatBatches
from treering.order.stage import arrange, prepare_order
from treering.provenance.progress import Progress
from treering.tokens.stage import prepare_tokens
from treering.training.optimizer import AdamW, Rows, row_squares
from treering.training.steps import StepReport, steps
from treering.training.tree import ordered_sum

STEPS = 12
SENTENCE = "the tree of a year is wide when rain was long and narrow where frost came before its leaves had grown"


def small_recipe(folder: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """A recipe as a JSON value; a section given here changes only the fields it names."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "corpus": {"sources": [{"path": str(folder)}], "validation_fraction": 0.2},
        "tokens": {"tokenizer": {"vocabulary_size": 300}},
        "order": {"seed": 7, "sequence_length": 32},
        "model": {
            "seed": 11,
            "vocab_size": 300,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        },
        "training": {
            "steps": STEPS,
            "global_batch_size": 8,
            "micro_batch_size": 4,
            "threads": 1,
            "optimizer": {"learning_rate": 1e-2},
            "schedule": {"name": "cosine", "warmup_steps": 2, "minimum_learning_rate": 1e-3},
        },
        "checkpoints": {"at": [0, 1, 2, 4], "every": 6},
    }
    for name, changes in sections.items():
        if not isinstance(changes, dict):
            raise TypeError(f"{name} is no section")
        recipe[name] = {**recipe.get(name, {}), **changes}
    return recipe


def resolve(**sections: dict[str, Any]) -> Recipe:
    """The small recipe with these changes, resolved."""
    return parse_recipe(json.dumps(small_recipe(Path("corpus"), **sections)), "tiny.yaml")  # JSON is YAML 1.2


_BASE = resolve()


def scheduled(last: int, *, imported: bool = False, **section: Any) -> Recipe:
    """The small recipe with so many updates and this section of checkpoints, trained by GPT-NeoX or here."""
    engine = ImportedEngine(name="gpt-neox", checkpoints="save") if imported else _BASE.training.engine
    training = _BASE.training.model_copy(update={"steps": last, "engine": engine})
    return _BASE.model_copy(update={"training": training, "checkpoints": CheckpointsSection(**section)})


def documents(count: int = 100) -> list[str]:
    """Texts of a few sentences, no two the same."""
    words = SENTENCE.split()
    sentences = (" ".join(words[(start * step) % len(words)] for step in range(1, 12)) for start in itertools.count(1))
    return [f"Tree {number}: " + ". ".join(itertools.islice(sentences, 5)) + ".\n" for number in range(count)]


def write_recipe(folder: Path, **sections: dict[str, Any]) -> Path:
    """Write the small recipe and its corpus into a folder, and return the recipe's path."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    (corpus / "trees.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents()), encoding="utf-8")
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(small_recipe(corpus, **sections)), encoding="utf-8")  # JSON is YAML 1.2
    return path


def prepare(recipe: Path, runs: Path) -> RunDirectory:
    """Begin a recipe's run and do every stage before training."""
    run = open_run(recipe, runs)
    for stage in (prepare_corpus, prepare_tokens, prepare_order):
        stage(run)
    return run


def synthetic_batches(recipe: Recipe, tokens: int = 3000) -> FlatBatches:
    """The recipe's batches over made-up tokens that have something to be learnt."""
    numbers = np.arange(tokens)
    return arrange(recipe, ((numbers * numbers // 7 + numbers) % (recipe.model.vocab_size - 1)).astype(np.uint16))


def trained(recipe: Recipe, stop: int | None = None) -> tuple[TrainingState, list[StepReport]]:
    """The state after `stop` updates (all of them where it is None) from the beginning, and the reports."""
    state = initial_state(recipe.model)
    return state, list(itertools.islice(steps(state, synthetic_batches(recipe), recipe), stop))


def norm_of(gradients: Mapping[str, torch.Tensor]) -> float:
    """The norm of all gradients together, as the loop takes it."""
    return math.sqrt(ordered_sum(torch.cat([row_squares(gradient) for gradient in gradients.values()])))


def apply(optimizer: AdamW, state: TrainingState, gradients: Mapping[str, torch.Tensor], rate: float, scale: float) -> float:
    """Apply an update to a whole state as the loop does, and return the norm of the change."""
    parts = {
        name: Rows(state.weights[name], gradient, state.first_moments[name], state.second_moments[name])
        for name, gradient in gradients.items()
    }
    changes = optimizer.update(parts, state.step, rate, scale)
    state.step += 1
    return math.sqrt(ordered_sum(torch.cat(list(changes.values()))))


def state_digest(state: TrainingState) -> tuple[int | str, ...]:
    """All that a state is, to compare states by their bits."""
    groups = (state.weights, state.first_moments, state.second_moments)
    return (state.step, *(weights_digest(group) for group in groups))


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, unfinished ones included, by its path there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def outcome(run: RunDirectory) -> dict[str, bytes]:
    """Every file that training has written, `observe/` apart."""
    return {
        f"{stage}/{name}": content for stage in ("checkpoints", "training") for name, content in files(run.stage(stage)).items()
    }


def bits(tensor: torch.Tensor) -> bytes:
    """A tensor's bytes: -0.0 is not 0.0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class Stopped(Exception):
    """A watcher has had enough."""


class StopAt(Progress):
    """Watches and interrupts: raises when so many updates of this process are done."""

    def __init__(self, updates: int) -> None:
        self._left = updates
        self.notes: list[str] = []
        self.amounts: list[float] = []

    def task(self, description: str, total: float | None = None, unit: str = "") -> "StopAt":
        return self

    def __enter__(self) -> "StopAt":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, amount: float = 1) -> None:
        self.amounts.append(amount)
        if len(self.amounts) > self._left + 1:  # the first says where the run stands
            raise Stopped


class SignalAt(StopAt):
    """Sends this process a signal when so many updates are done."""

    def __init__(self, updates: int, number: int) -> None:
        super().__init__(10**6)
        self._at, self._number = updates, number

    def advance(self, amount: float = 1) -> None:
        """Advance, and send it."""
        super().advance(amount)
        if len(self.amounts) == self._at + 1:
            os.kill(os.getpid(), self._number)


def flip_last_byte(path: Path) -> None:
    """Change one bit of a file's last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
