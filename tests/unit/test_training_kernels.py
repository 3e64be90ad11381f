"""What computes is pinned: attention's kernel, whoever prefers another; eager or compiled, wherever compiled."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_making import torchrun
from starting import TESTS, start_ranks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from training_making import (
    StopAt,
    Stopped,
    outcome,
    prepare,
    resolve,
    state_digest,
    synthetic_batches,
    trained,
    write_recipe,
)

from treering.checkpoints.state import initial_state
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import EnvironmentMismatch
from treering.training.determinism import describe_arithmetic, keep_compiled_code_apart, set_arithmetic
from treering.training.engine import loss_of
from treering.training.kernels import refuse_kernels, with_kernels
from treering.training.ranks import ALONE
from treering.training.run import train
from treering.verification.rerun import verify_segment
from treering.verification.segments import Segment
from treering.verification.verdicts import Verdict

# torch.compile warns of its own ways while it traces; outside pytest it keeps that to itself.
pytestmark = pytest.mark.filterwarnings("ignore")

FLASH, CPU = "aten::_scaled_dot_product_flash_attention_for_cpu", torch.device("cpu")
COMPILED: dict[str, Any] = {"compiled": True, "steps": 4, "micro_batch_size": 2}


def with_attention(kernel: str, **training: Any) -> Recipe:
    return resolve(training={"attention": kernel, **training})


def operations(recipe: Recipe) -> set[str]:
    """The names of all operations of one update."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trained(recipe, 1)
    return {event.key for event in seen.key_averages()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_attention_kernel_repeats_its_bits_and_no_two_have_the_same(precision: str) -> None:
    flash, math = (with_attention(kernel, precision=precision) for kernel in ("flash", "math"))
    digests = {kernel.training.attention: state_digest(trained(kernel)[0]) for kernel in (flash, math)}
    assert digests["flash"] != digests["math"]
    for recipe in (math, flash):
        assert state_digest(trained(recipe)[0]) == digests[recipe.training.attention]


def test_the_kernel_named_is_the_one_that_computes() -> None:
    assert FLASH in operations(with_attention("flash"))
    assert FLASH not in operations(with_attention("math"))


def test_what_the_process_prefers_neither_reaches_the_loop_nor_is_touched_by_it() -> None:
    digests = {kernel: state_digest(trained(with_attention(kernel), 2)[0]) for kernel in ("flash", "math")}
    for preferred in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel(preferred):
            before = torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()
            for kernel, digest in digests.items():
                assert state_digest(trained(with_attention(kernel), 2)[0]) == digest
            assert (torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()) == before


RECOMPUTED: dict[str, Any] = {"recompute_layers": True}


@pytest.mark.parametrize("change", [{}, {"precision": "bf16"}, {"micro_batch_size": 1}, {"attention": "math"}])
def test_layers_computed_again_going_backward_give_the_same_bits(change: dict[str, Any]) -> None:
    kept, again = (trained(resolve(training=change, observe=observe)) for observe in ({}, RECOMPUTED))
    assert state_digest(again[0]) == state_digest(kept[0])
    assert again[1] == kept[1]


def test_layers_computed_again_keep_their_input_and_no_more() -> None:
    def saved(**observe: Any) -> tuple[int, int]:
        """Attention's forward passes in one update, and the bytes that autograd keeps from forward to backward."""
        recipe, kept = resolve(observe=observe), {}
        network = with_kernels(ALONE.attach(recipe.model, initial_state(recipe.model)), recipe, CPU)
        rows = torch.from_numpy(synthetic_batches(recipe).batch(0))
        weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with profile(activities=[ProfilerActivity.CPU]) as seen:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = loss_of(network, rows, "fp32")
            held = sum(size for place, size in kept.items() if place not in weights)
            loss.backward()
        return sum(event.count for event in seen.key_averages() if event.key == FLASH), held

    kept, again = saved(), saved(**RECOMPUTED)
    recipe = resolve()
    layers, of_hidden = recipe.model.num_hidden_layers, 4 * 8 * recipe.order.sequence_length * recipe.model.hidden_size
    assert (kept[0], again[0]) == (layers, 2 * layers)
    assert kept[1] - again[1] > layers * 15 * of_hidden


def test_a_kernel_that_a_machine_lacks_is_refused_and_no_other_is_taken() -> None:
    recipe = resolve()
    refuse_kernels(recipe, CPU)
    lacking = recipe.model_copy(update={"training": recipe.training.model_copy(update={"attention": "efficient"})})
    with pytest.raises(EnvironmentMismatch, match="kernel `efficient`"):
        refuse_kernels(lacking, CPU)
    with pytest.raises(EnvironmentMismatch, match="kernel `efficient`"):
        trained(lacking, 1)


def test_too_little_memory_is_no_missing_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
    with pytest.raises(torch.OutOfMemoryError):
        refuse_kernels(resolve(), CPU)


def worker(
    cache: Path, training: dict[str, Any], world_size: int = 1, shard: str = "moments", **observe: Any
) -> list[dict[str, Any]]:
    """What other processes make of a training, with compiled code kept in a folder."""
    recipe = {"training": training, "observe": observe}
    result = start_ranks(world_size, "-m", "ranks_worker", shard, json.dumps([recipe]), XDG_CACHE_HOME=str(cache))
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder of compiled code, empty before; and what came of a training that filled it."""
    if shutil.which("g++") is None and "CXX" not in os.environ:
        pytest.skip("there is no C++ compiler on this machine")
    cache = tmp_path_factory.mktemp("cache")
    return cache, worker(cache, COMPILED)


@pytest.fixture
def warm(compiled: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process use the compiled code there is, and set its arithmetic as the worker's is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiled[0]))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    set_arithmetic(1)


def test_compiled_bits_are_the_same_warm_and_cold_and_by_two_processes(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    cache, made = compiled
    assert worker(cache, COMPILED) == made
    for shard in ("moments", "weights"):
        assert worker(cache, COMPILED, 2, shard) == made


def test_compiled_bf16_has_the_same_bits_by_one_process_and_by_two(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    mixed = {**COMPILED, "precision": "bf16"}
    made = worker(compiled[0], mixed)
    assert made != compiled[1]
    assert worker(compiled[0], mixed) == made
    assert worker(compiled[0], mixed, 2, "moments") == worker(compiled[0], mixed, 2, "weights") == made


def test_compiled_in_a_fresh_folder_the_bits_are_the_same(compiled: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    assert worker(tmp_path, COMPILED) == compiled[1]


@pytest.mark.usefixtures("warm")
def test_compiled_and_eager_are_two_trainings_and_so_are_two_kernels(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    """In one process one after the other: what was compiled for one kernel is not taken for another."""
    state, reports = trained(resolve(training=COMPILED))
    assert {"state": list(state_digest(state)), "reports": [vars(report) for report in reports]} == compiled[1][0]
    assert state_digest(state) != state_digest(trained(resolve(training={**COMPILED, "compiled": False}))[0])
    math = with_attention("math", **COMPILED)
    assert FLASH in operations(resolve(training=COMPILED))
    assert FLASH not in operations(math)
    assert state_digest(trained(math)[0]) != state_digest(state)


@pytest.mark.usefixtures("warm")
def test_a_compiled_run_resumes_to_its_bits_and_its_segments_are_reproduced(tmp_path: Path) -> None:
    whole = prepare(write_recipe(tmp_path, training={**COMPILED, "steps": 6}), tmp_path / "whole")
    parts = RunDirectory(tmp_path / "parts" / "tiny", whole.recipe)
    shutil.copytree(whole.path, parts.path)
    train(whole)
    with pytest.raises(Stopped):
        train(parts, StopAt(3))
    train(parts)
    assert outcome(parts) == outcome(whole)
    assert verify_segment(parts, Segment(2, 4)).verdict == Verdict.REPRODUCED


@pytest.mark.usefixtures("warm")
def test_compiled_layers_computed_again_give_the_bits_of_compiled_ones(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    assert worker(compiled[0], COMPILED, 2, "weights", **RECOMPUTED) == compiled[1]
    state, reports = trained(resolve(training=COMPILED, observe=RECOMPUTED))
    assert {"state": list(state_digest(state)), "reports": [vars(report) for report in reports]} == compiled[1][0]


def test_a_model_of_many_blocks_compiles_one_and_the_loss_in_two_parts(warm: None) -> None:
    recipe = resolve(model={"num_hidden_layers": 12}, training=COMPILED)
    counted = torch._dynamo.utils.counters["stats"]
    before = counted["unique_graphs"]
    assert len(trained(recipe, 1)[1]) == 1
    assert counted["unique_graphs"] == before + 3


def test_code_is_kept_apart_by_all_it_was_compiled_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    folders = []
    for change in ({}, {"threads": 2}, {"attention": "math"}, {"precision": "bf16"}, {}):
        keep_compiled_code_apart(resolve(training={"compiled": True, **change}).training)
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folders[0] == folders[-1]
    assert len(set(folders)) == 4
    assert all(Path(folder).is_relative_to(tmp_path) for folder in folders)


def test_without_a_compiler_a_compiled_recipe_is_refused_and_an_eager_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EnvironmentMismatch, match=r"no `no-such-compiler` that runs[\s\S]*install a C\+\+ compiler"):
        trained(resolve(training=COMPILED), 1)
    assert "compiler" not in describe_arithmetic(resolve().training)


@pytest.mark.parametrize("name", ["TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"])
def test_a_compiled_recipe_is_refused_where_compiling_is_switched_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(EnvironmentMismatch, match=r"switches torch\.compile off"):
        trained(resolve(training=COMPILED), 1)


@pytest.mark.parametrize(("world_size", "shard"), [(1, "moments"), (2, "weights")])
def test_a_compiler_that_fails_is_named_as_the_environments_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, world_size: int, shard: str
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo compiler 1.0 && exit 0\nexit 1\n', encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = torchrun(world_size, TESTS / "ranks_worker.py", shard, json.dumps([{"training": COMPILED}]))
    assert result.returncode != 0
    assert "cannot be compiled here" in result.stderr


def test_the_compiler_is_part_of_a_compiled_runs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    training = resolve(training=COMPILED).training
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "anywhere")
    described = describe_arithmetic(training)
    assert described["compiler"]
    assert described["limits"] == describe_arithmetic(resolve().training)["limits"]
    monkeypatch.setenv("TORCHINDUCTOR_FREEZING", "1")
    assert "TORCHINDUCTOR_FREEZING=1" in str(describe_arithmetic(training)["limits"])
    assert "TORCHINDUCTOR_FREEZING" not in str(describe_arithmetic(resolve().training)["limits"])
