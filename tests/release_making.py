"""A whole small release, from recipe to card, made by the stages themselves."""

from pathlib import Path
from typing import Any

from card_making import CARD
from training_making import prepare, write_recipe

from treering.card.stage import write_card
from treering.config.run_directory import RunDirectory
from treering.evaluation.stage import evaluate
from treering.revisions.stage import export
from treering.training.run import train

STEPS = 4


SECTIONS: dict[str, dict[str, Any]] = {
    "model": {"max_position_embeddings": 192},
    "training": {"steps": STEPS},
    "checkpoints": {"at": [0, 1, 2], "every": 4},
    "evaluation": {"tasks": ["heldout_perplexity"], "heldout_tokens": 500, "batch_size": 8},
    "card": {**CARD, "language": ["en"], "research_uses": ["memorization dynamics", "effects of data order"]},
}


def make_release(folder: Path) -> RunDirectory:
    """Walk the whole way with the small recipe, four updates long."""
    return walk(write_recipe(folder, **SECTIONS), folder / "runs")


def walk(recipe: Path, runs: Path) -> RunDirectory:
    """Do every stage of a recipe's run."""
    run = prepare(recipe, runs)
    for stage in (train, export, evaluate, write_card):
        stage(run)
    return run
