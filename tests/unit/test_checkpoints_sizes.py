"""What checkpoints and revisions will take is what they take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from starting import start
from training_making import prepare, resolve, write_recipe

from treering.checkpoints.sizes import checkpoint_sizes, safetensors_bytes
from treering.config.run_directory import RunDirectory
from treering.model.shapes import parameter_shapes
from treering.revisions.stage import export
from treering.training.run import train

BROAD = {"hidden_size": 128}  # of weights enough that settings of some thousand bytes are no hundredth


def taken(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())


@pytest.fixture(scope="module", params=[1, 4])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("sizes")
    recipe = write_recipe(folder, model=BROAD, checkpoints={"resumable_every": request.param})
    run = prepare(recipe, folder / "runs")
    train(run)
    export(run)
    return run


def shown(target: Path) -> dict[str, Any]:
    return json.loads(start("-m", "treering", "show", target, "--json").stdout)


def test_show_says_within_a_hundredth_what_is_on_the_disk(run: RunDirectory) -> None:
    record, checkpoints = shown(run.path), run.stage("checkpoints")
    moments = taken(checkpoints, "step*/optimizer.safetensors")
    assert moments > 0
    assert record["checkpoint_moments_bytes"] == moments
    assert record["checkpoint_bytes"] == pytest.approx(taken(checkpoints, "**/*"), rel=0.01)
    assert record["checkpoint_weights_bytes"] == pytest.approx(taken(checkpoints, "**/*") - moments, rel=0.01)
    assert record["revision_bytes"] == pytest.approx(taken(run.stage("revisions"), "**/*"), rel=0.01)
    sparse = run.recipe.checkpoints.resumable_every > 1
    assert record["resumable_steps"] == ([0, 4, 12] if sparse else [0, 1, 2, 4, 6, 12])
    assert (record["beside_bytes"] > 0) == sparse


def test_of_a_tokenizer_yet_to_be_trained_no_size_is_made_up(tmp_path: Path) -> None:
    assert shown(write_recipe(tmp_path))["tokenizer_bytes"] is None


def test_moments_kept_at_one_step_in_four_take_less(tmp_path: Path) -> None:
    every, fourth = (checkpoint_sizes(resolve(checkpoints={"resumable_every": n})) for n in (1, 4))
    assert every.weights_bytes == fourth.weights_bytes
    assert every.moments_bytes == fourth.moments_bytes / 2 * 5  # steps 1, 2, 4, 6 and 12, or 4 and 12


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_safetensors_file_has_the_size_foretold(tmp_path: Path, dtype: str) -> None:
    shapes = parameter_shapes(resolve().model)
    tensors = {name: torch.zeros(shape, dtype=getattr(torch, dtype)) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "file", metadata={"format": "pt"})
    assert safetensors_bytes(shapes, dtype) == (tmp_path / "file").stat().st_size
