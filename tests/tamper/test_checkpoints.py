"""A checkpoint that is not what was saved is refused, whoever changed what."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_making import resolve, trained

from treering.checkpoints.state import tensor_digest
from treering.checkpoints.store import load_checkpoint, load_weights, save_checkpoint
from treering.config.run_directory import RunDirectory
from treering.errors import FormatError, IntegrityError, ManifestError
from treering.provenance.manifests import write_manifest
from treering.training.run import finished_checkpoints, train

RUN = "sha256:" + "0" * 64
OTHER = "sha256:" + "1" * 64
FILES = ("manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors")
NAME = "gpt_neox.layers.0.attention.dense.weight"


@pytest.fixture(scope="module")
def _saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(folder, trained(resolve(), 2)[0], RUN, tokens=512)
    return folder


@pytest.fixture
def folder(_saved: Path, tmp_path: Path) -> Path:
    """A checkpoints folder with step 2 in it, to be tampered with."""
    shutil.copytree(_saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def remake_manifest(folder: Path) -> None:
    (folder / "step2" / "manifest.json").unlink()
    write_manifest(folder / "step2", "checkpoint", RUN, {})


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], file: str = "weights") -> None:
    path = folder / "step2" / f"{file}.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    remake_manifest(folder)


def edit_record(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "step2" / "state.json"
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    remake_manifest(folder)


def test_the_untouched_checkpoint_loads(folder: Path) -> None:
    assert load_checkpoint(folder, 2, RUN).step == 2
    edit_record(folder, lambda _: None)  # and still does with its manifest made anew
    assert load_checkpoint(folder, 2, RUN).step == 2


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_a_flipped_bit_in_any_file_is_seen(folder: Path, file: str, place: float) -> None:
    path = folder / "step2" / file
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError if file == "manifest.json" else ManifestError):
        load_checkpoint(folder, 2, RUN)


@pytest.mark.parametrize("file", FILES[1:])
def test_a_missing_or_a_shortened_file_is_seen(folder: Path, file: str) -> None:
    path = folder / "step2" / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ManifestError, match=file):
        load_checkpoint(folder, 2, RUN)
    path.unlink()
    with pytest.raises(ManifestError, match=f"{file} is missing"):
        load_checkpoint(folder, 2, RUN)


def test_a_file_more_is_seen(folder: Path) -> None:
    (folder / "step2" / "notes.txt").write_text("mine")
    with pytest.raises(ManifestError, match=r"notes\.txt is not listed"):
        load_checkpoint(folder, 2, RUN)


def test_a_missing_manifest_is_seen(folder: Path) -> None:
    (folder / "step2" / "manifest.json").unlink()
    with pytest.raises(FormatError):
        load_checkpoint(folder, 2, RUN)


def _one_ulp(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NAME][3, 5] = torch.nextafter(tensors[NAME][3, 5], torch.tensor(9.0))


def _swap(tensors: dict[str, torch.Tensor]) -> None:
    other = NAME.replace("layers.0", "layers.1")
    tensors[NAME], tensors[other] = tensors[other], tensors[NAME]


def _zero_sign(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NAME][0, 0] = -0.0 if not torch.signbit(tensors[NAME][0, 0]) else 0.0


def _reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NAME] = tensors[NAME][:-1]


def _half(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NAME] = tensors[NAME].half()


@pytest.mark.parametrize("change", [_one_ulp, _swap, _zero_sign, _reshape, _half])
def test_a_changed_tensor_is_seen_even_under_a_new_manifest(folder: Path, change: Callable) -> None:
    edit_tensors(folder, change)
    for load in (load_checkpoint, load_weights):
        with pytest.raises(IntegrityError, match="not what was saved") as caught:
            load(folder, 2, RUN)
        assert NAME in str(caught.value)


@pytest.mark.parametrize("change", [lambda t: t.pop(NAME), lambda t: t.update(more=torch.ones(1))])
def test_a_tensor_less_or_more_is_seen_even_under_a_new_manifest(folder: Path, change: Callable) -> None:
    edit_tensors(folder, change)
    for load in (load_checkpoint, load_weights):
        with pytest.raises(IntegrityError, match="on one side only"):
            load(folder, 2, RUN)


def test_changed_moments_are_seen_even_under_a_new_manifest(folder: Path) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        first, second = f"first_moment.{NAME}", f"second_moment.{NAME}"
        tensors[first], tensors[second] = tensors[second], tensors[first]

    edit_tensors(folder, swap, "optimizer")
    with pytest.raises(IntegrityError, match="not what was saved"):
        load_checkpoint(folder, 2, RUN)


def test_tensors_of_another_form_are_a_format_error(folder: Path) -> None:
    (folder / "step2" / "weights.safetensors").write_bytes(b"no tensors")
    remake_manifest(folder)
    with pytest.raises(FormatError, match="not a safetensors file"):
        load_checkpoint(folder, 2, RUN)


def test_another_runs_checkpoint_is_refused(folder: Path) -> None:
    for load in (load_checkpoint, load_weights):
        with pytest.raises(IntegrityError, match="another run") as caught:
            load(folder, 2, OTHER)
        assert RUN in str(caught.value)
        assert OTHER in str(caught.value)


def test_a_checkpoint_under_another_steps_name_is_refused(folder: Path) -> None:
    (folder / "step2").rename(folder / "step4")
    with pytest.raises(IntegrityError, match="another step"):
        load_checkpoint(folder, 4, RUN)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("run_digest"),
        lambda record: record.pop("step"),
        lambda record: record.pop("tensors"),
        lambda record: record.update(step="2"),
        lambda record: record.update(tensors=[]),
        lambda record: record.update(version=2),
    ],
)
def test_a_record_of_another_form_is_refused(folder: Path, change: Callable) -> None:
    edit_record(folder, change)
    with pytest.raises(IntegrityError):
        load_checkpoint(folder, 2, RUN)


def test_weights_without_their_moments_are_refused_even_where_the_record_knows_of_none(folder: Path) -> None:
    def forget(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[f"first_moment.{NAME}"]

    edit_tensors(folder, forget, "optimizer")
    edit_record(folder, lambda record: record["tensors"].pop(f"first_moment.{NAME}"))
    with pytest.raises(IntegrityError):
        load_checkpoint(folder, 2, RUN)


def test_training_does_not_go_on_from_a_changed_checkpoint(tiny_trained: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(tiny_trained.path, tmp_path / "tiny")
    run = RunDirectory(tmp_path / "tiny", tiny_trained.recipe)
    shutil.rmtree(run.stage("checkpoints") / "step12")
    (run.stage("checkpoints") / "manifest.json").unlink()
    path = run.stage("checkpoints") / "step6" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ManifestError):
        train(run)


def test_a_finished_run_tells_of_a_lost_or_changed_checkpoint(tiny_trained: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(tiny_trained.path, tmp_path / "tiny")
    run = RunDirectory(tmp_path / "tiny", tiny_trained.recipe)
    assert list(finished_checkpoints(run)) == [0, 1, 2, 4, 6, 12]
    shutil.rmtree(run.stage("checkpoints") / "step4")
    with pytest.raises(ManifestError, match="step4"):
        finished_checkpoints(run)
    with pytest.raises(ManifestError, match="step4"):
        train(run)
    run.seal(run.stage("checkpoints"), "checkpoints", run.reads("tokens", "order"))
    with pytest.raises(IntegrityError, match="not those planned"):
        finished_checkpoints(run)


def test_the_digest_of_a_tensor_sees_its_last_bit() -> None:
    tensor = torch.ones(1000)
    before = tensor_digest(tensor)
    tensor[999] = torch.nextafter(tensor[999], torch.tensor(2.0))
    assert tensor_digest(tensor) != before
