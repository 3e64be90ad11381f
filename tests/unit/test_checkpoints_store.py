"""Checkpoints: what is saved is loaded, whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from starting import start
from torch import Tensor
from training_making import bits, files, resolve, state_digest, trained

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import TrainingState, initial_state, tensor_digest, weights_digest
from treering.checkpoints.store import load_checkpoint, load_weights, read_checkpoint_record, save_checkpoint, saved_steps
from treering.errors import FormatError, NonFiniteError, StorageError
from treering.provenance.digests import digest_bytes

RUN = "sha256:" + "0" * 64


def state_of(step: int, **weights: Tensor) -> TrainingState:
    moments = ({name: weight * factor for name, weight in weights.items()} for factor in (0.5, 0.25))
    return TrainingState(step, weights, *moments)


def odd_numbers() -> Tensor:
    """Zeros of both signs, denormals, the ends of fp32, and numbers that no short text spells."""
    return torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.17549435e-38, 3.4028234e38, -3.4028234e38, 1 / 3, 0.1])


def test_what_is_saved_is_loaded_bit_by_bit(tmp_path: Path) -> None:
    state = state_of(
        7,
        **{
            "odd": odd_numbers(),
            "scalar": torch.tensor(-0.0),
            "empty": torch.zeros(0, 3),
            "many.dimensions": torch.arange(120, dtype=torch.float32).view(2, 3, 4, 5),
            "one": torch.ones(1),
        },
    )
    save_checkpoint(tmp_path, state, RUN, tokens=21)
    loaded = load_checkpoint(tmp_path, 7, RUN)
    assert loaded.step == 7
    for saved, found in (
        (state.weights, loaded.weights),
        (state.first_moments, loaded.first_moments),
        (state.second_moments, loaded.second_moments),
    ):
        assert sorted(saved) == sorted(found)
        for name, tensor in saved.items():
            assert found[name].shape == tensor.shape
            assert found[name].dtype == torch.float32
            assert bits(found[name]) == bits(tensor), name


def test_a_trained_state_comes_back(tmp_path: Path) -> None:
    state, _ = trained(resolve(), 3)
    save_checkpoint(tmp_path, state, RUN, tokens=768)
    assert state_digest(load_checkpoint(tmp_path, 3, RUN)) == state_digest(state)
    assert weights_digest(load_weights(tmp_path, 3, RUN)) == weights_digest(state.weights)


def test_a_tensor_that_lies_otherwise_in_memory_is_saved_by_its_values(tmp_path: Path) -> None:
    square = torch.arange(6, dtype=torch.float32).view(2, 3)
    save_checkpoint(tmp_path, state_of(1, turned=square.T, part=square[:, 1:]), RUN, tokens=0)
    loaded = load_checkpoint(tmp_path, 1, RUN)
    assert torch.equal(loaded.weights["turned"], square.T)
    assert torch.equal(loaded.weights["part"], square[:, 1:])


def test_saving_changes_nothing_and_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    state, _ = trained(resolve(), 2)
    before = state_digest(state)
    for folder in ("first", "second"):
        save_checkpoint(tmp_path / folder, state, RUN, tokens=512)
    assert files(tmp_path / "first") == files(tmp_path / "second")
    save_checkpoint(tmp_path / "first", state, RUN, tokens=512)  # again, over itself
    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert state_digest(state) == before


def test_the_loaded_state_is_not_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, initial_state(resolve().model), RUN, tokens=0)
    before = files(tmp_path)
    for tensor in load_checkpoint(tmp_path, 0, RUN).weights.values():
        tensor.add_(1.0)
    assert files(tmp_path) == before


def test_the_files_are_the_documented_ones(tmp_path: Path) -> None:
    state, _ = trained(resolve(), 1)
    save_checkpoint(tmp_path, state, RUN, tokens=256)
    place = tmp_path / "step1"
    assert sorted(files(place)) == ["manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]
    record = json.loads((place / "state.json").read_bytes())
    assert list(record) == ["format", "version", "ledger_digest", "run_digest", "step", "tensors", "tokens"]
    assert (record["format"], record["step"], record["tokens"]) == ("treering/checkpoint", 1, 256)
    named = {
        **state.weights,
        **{f"first_moment.{name}": tensor for name, tensor in state.first_moments.items()},
        **{f"second_moment.{name}": tensor for name, tensor in state.second_moments.items()},
    }
    assert record["tensors"] == {name: tensor_digest(tensor) for name, tensor in named.items()}
    with safe_open(place / "weights.safetensors", "pt") as weights, safe_open(place / "optimizer.safetensors", "pt") as moments:
        assert weights.metadata() == moments.metadata() == {"format": "pt"}
        assert sorted([*weights.keys(), *moments.keys()]) == sorted(named)


def test_a_digest_is_that_of_the_bytes_in_c_order() -> None:
    tensor = torch.arange(6, dtype=torch.float32).view(2, 3)
    assert tensor_digest(tensor) == digest_bytes(tensor.numpy().tobytes())
    assert tensor_digest(tensor.T) == digest_bytes(tensor.numpy().T.copy().tobytes())
    assert tensor_digest(torch.tensor(0.0)) != tensor_digest(torch.tensor(-0.0))


def test_the_digest_of_weights_depends_on_names_and_bytes_and_not_on_their_order() -> None:
    a, b = torch.ones(2), torch.zeros(2)
    assert weights_digest({"a": a, "b": b}) == weights_digest({"b": b, "a": a})
    assert weights_digest({"a": a, "b": b}) != weights_digest({"a": b, "b": a})


def test_only_whole_checkpoints_are_found(tmp_path: Path) -> None:
    assert saved_steps(tmp_path / "nowhere") == []
    for step in (12, 0, 2):
        save_checkpoint(tmp_path, state_of(step, w=torch.ones(2)), RUN, tokens=0)
    (tmp_path / "step3").mkdir()
    (tmp_path / "step3" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".step4.partial").mkdir()
    (tmp_path / ".step4.partial" / "manifest.json").write_bytes(b"{}")
    (tmp_path / "stepping").mkdir()
    (tmp_path / "stepping" / "manifest.json").write_bytes(b"{}")
    assert saved_steps(tmp_path) == [0, 2, 12]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("group", ["weights", "first_moments", "second_moments"])
def test_a_state_with_a_number_that_is_not_finite_is_not_saved(tmp_path: Path, group: str, wrong: float) -> None:
    state = initial_state(resolve().model)
    save_checkpoint(tmp_path, state, RUN, tokens=0)
    before = files(tmp_path)
    state.step = 5
    name = "gpt_neox.layers.1.mlp.dense_h_to_4h.bias"
    getattr(state, group)[name][3] = wrong
    with pytest.raises(NonFiniteError, match="not finite") as caught:
        save_checkpoint(tmp_path, state, RUN, tokens=0)
    assert "step5" in str(caught.value)
    assert name in str(caught.value)
    assert files(tmp_path) == before


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(StorageError):
        save_checkpoint(tmp_path / "checkpoints", state_of(0, w=torch.ones(2)), RUN, tokens=0)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from treering.checkpoints.state import TrainingState
from treering.checkpoints.store import save_checkpoint
from treering.errors import StorageError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
groups = [{"w": torch.ones(50_000)} for _ in range(3)]
try:
    save_checkpoint(Path(sys.argv[1]), TrainingState(3, *groups), "sha256:run", tokens=0)
except StorageError as error:
    print(error)
"""


def test_no_room_for_the_weights_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    result = start("-c", FULL_DISK, tmp_path)
    assert "larg" in result.stdout, result.stderr  # the largest size allowed here
    assert files(tmp_path) == {}


# One process brings torch and then forks, so that each of many kills costs no second start.
KILL = """
import os, signal, sys
from pathlib import Path
import torch
from training_making import resolve
from treering.checkpoints.state import initial_state
from treering.checkpoints.store import save_checkpoint

torch.set_num_threads(1)
base, state = Path(sys.argv[1]), initial_state(resolve().model)

def save(folder, fatal):
    seen = 0
    def kill_at_the_fatal_call(event, arguments):
        nonlocal seen
        if (event == "open" or event.startswith("os.")) and arguments and str(folder) in str(arguments[0]):
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
    sys.addaudithook(kill_at_the_fatal_call)
    save_checkpoint(folder, state, "sha256:" + "0" * 64, tokens=0)

for fatal in range(500):
    child = os.fork()
    if child == 0:
        save(base / str(fatal), fatal)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(fatal)
"""


def test_a_save_killed_at_any_file_operation_leaves_the_whole_checkpoint_or_none(tmp_path: Path) -> None:
    result = start("-c", KILL, tmp_path)
    assert result.returncode == 0, result.stderr
    kills = int(result.stdout)
    assert kills > 10
    whole = 0
    state = initial_state(resolve().model)
    for fatal in range(kills):
        folder = tmp_path / str(fatal)
        if saved_steps(folder):
            whole += 1
            assert state_digest(load_checkpoint(folder, 0, RUN)) == state_digest(state)
        else:
            assert not (folder / "step0").exists()
        save_checkpoint(folder, state, RUN, tokens=0)  # what the killed one left is not in the way
        assert sorted(path.name for path in folder.iterdir()) == ["step0"]
    assert 0 < whole < kills
    assert files(tmp_path / "0") == files(tmp_path / str(kills))


def test_a_record_that_is_missing_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such record"):
        read_checkpoint_record(tmp_path / checkpoint_name(3), RUN)
