"""The stage: export every checkpoint, pass both gates, measure what the card states."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import weights_digest
from treering.checkpoints.store import load_weights, read_checkpoint_record
from treering.config.digests import run_digest, stage_digest
from treering.config.run_directory import RunDirectory
from treering.corpus.store import DocumentStore
from treering.errors import IntegrityError
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_file
from treering.provenance.files import remove_tree, whole_directory
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.agreement import check_agreement
from treering.revisions.files import cast_weights, weight_files, write_settings, write_weights
from treering.revisions.loading import load_model
from treering.revisions.records import REVISION_RECORD, REVISIONS_RECORD
from treering.revisions.round_trip import check_tokenizer
from treering.tokens.store import TokenStore, open_tokenizer
from treering.tokens.tokenizer import Tokenizer
from treering.training.determinism import set_arithmetic
from treering.training.run import finished_checkpoints
from treering.training.schedule import learning_rate

_GATE_ROWS = 2
_GATE_TEXTS = 4


def export(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Export every checkpoint of a finished run as a revision, and return the stage's manifest.

    Revisions that an interrupted export finished are kept.

    Raises:
        ReproductionError: When a revision does not pass a gate.
        InputError: When the run has not been trained to the end.
        IntegrityError: When what earlier stages wrote has changed.
        StorageError: When the disk is full or the folder cannot be written.
    """
    checkpoints = finished_checkpoints(run)
    reads = run.reads("corpus", "tokens", "checkpoints")
    if manifest := run.find("revisions", reads, replaceable=True):
        return manifest
    set_arithmetic(run.recipe.training.threads)
    exporter = _Exporter(run, stage_digest(run.recipe, "revisions", reads), _open_gate(run))
    records = []
    with progress.task("revisions", len(checkpoints), "revisions") as task:
        for step, digest in checkpoints.items():
            records.append(exporter.export(step, digest))
            task.advance()
    folder = run.stage("revisions")
    _remove_stale(folder, {str(record["name"]) for record in records})
    write_record(folder / "revisions.json", *REVISIONS_RECORD, _describe(run, records))
    return run.seal(folder, "revisions", reads)


@dataclass(frozen=True)
class _Gate:
    rows: torch.Tensor
    texts: tuple[str, ...]
    tokenizer: Tokenizer


@dataclass(frozen=True)
class _Exporter:
    run: RunDirectory
    stage_digest: str
    gate: _Gate

    def export(self, step: int, checkpoint_digest: str) -> dict[str, Any]:
        """Write one revision unless it is there already, and return its record."""
        folder = self.run.stage("revisions") / checkpoint_name(step)
        if (record := self._finished(folder, checkpoint_digest)) is not None:
            return record
        recipe = self.run.recipe
        weights = load_weights(self.run.stage("checkpoints"), step, run_digest(recipe))
        tokens = read_checkpoint_record(self.run.stage("checkpoints") / folder.name, run_digest(recipe))["tokens"]
        with whole_directory(folder) as partial:
            tokenizer_json = (self.run.stage("tokens") / "tokenizer.json").read_bytes()
            write_settings(partial, recipe, self.gate.tokenizer, tokenizer_json)
            published = cast_weights(weights, recipe.revisions.dtype, folder.name)
            write_weights(partial, published)
            agreement = check_agreement(partial, recipe.model, self.gate.rows)
            check_tokenizer(partial, recipe, self.gate.tokenizer, self.gate.texts)
            files = {path.name: digest_file(path) for path in sorted(partial.iterdir())}
            record = {
                "name": folder.name,
                "step": step,
                "tokens": tokens,
                "run_digest": run_digest(recipe),
                "stage_digest": self.stage_digest,
                "checkpoint_digest": checkpoint_digest,
                "trained_digest": weights_digest(weights),
                "weights_digest": weights_digest(published),
                "agreement": agreement.as_record(),
                "files": files,
            }
            write_record(partial / "revision.json", *REVISION_RECORD, record)
        return record

    def _finished(self, folder: Path, checkpoint_digest: str) -> dict[str, Any] | None:
        if not (folder / "revision.json").exists():
            return None
        record = read_record(folder / "revision.json", *REVISION_RECORD)
        same_inputs = (record["stage_digest"], record["checkpoint_digest"]) == (self.stage_digest, checkpoint_digest)
        return record if same_inputs and _files_hold(folder, record["files"]) else None


def _files_hold(folder: Path, files: dict[str, str]) -> bool:
    return all((folder / name).is_file() and digest_file(folder / name) == digest for name, digest in files.items())


def _open_gate(run: RunDirectory) -> _Gate:
    tokens, length = TokenStore(run.stage("tokens"), "validation").tokens, run.recipe.order.sequence_length
    rows = min(_GATE_ROWS, len(tokens) // length)
    held = torch.from_numpy(tokens[: rows * length].astype("int64")).view(rows, length) if rows else _short(tokens)
    documents = DocumentStore(run.stage("corpus"), "validation")
    texts = tuple(documents[number].text for number in range(min(_GATE_TEXTS, len(documents))))
    return _Gate(held, texts, open_tokenizer(run.stage("tokens")))


def _short(tokens: Any) -> torch.Tensor:
    return torch.from_numpy(tokens[:].astype("int64")).view(1, -1)


def _describe(run: RunDirectory, records: list[dict[str, Any]]) -> dict[str, Any]:
    _name_equals(run, records)
    last = run.stage("revisions") / records[-1]["name"]
    kept = ("name", "step", "tokens", "checkpoint_digest", "weights_digest", "same_weights_as", "agreement")
    return {
        "main": records[-1]["name"],
        "dtype": run.recipe.revisions.dtype,
        "memory_float16_bytes": _memory_bytes(last, torch.float16),
        "float32_disk_bytes": _float32_disk_bytes(run, last),
        "revisions": [{key: record[key] for key in kept} for record in records],
    }


def _name_equals(run: RunDirectory, records: list[dict[str, Any]]) -> None:
    """Say of each revision which earlier one has the same weights, and refuse what no rate or rounding explains.

    Raises:
        IntegrityError: When training should have changed the weights between two steps and did not.
    """
    published: dict[str, str] = {}
    trained: dict[str, int] = {}
    for record in records:
        other = published.setdefault(record["weights_digest"], record["name"])
        record["same_weights_as"] = None if other == record["name"] else other
        earlier = trained.setdefault(record["trained_digest"], record["step"])
        if any(learning_rate(run.recipe.training, update) > 0 for update in range(earlier, record["step"])):
            raise IntegrityError("two checkpoints have the same weights", where=record["name"], found=f"those of step{earlier}")


def _memory_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Return the bytes of all parameters and buffers of the model as `transformers` holds it, tied ones once."""
    model = load_model(folder, dtype)
    storages = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return sum(storages.values())


def _float32_disk_bytes(run: RunDirectory, folder: Path) -> int:
    if run.recipe.revisions.dtype == "float32":
        return sum(file.stat().st_size for file in weight_files(folder))
    step = int(folder.name.removeprefix("step"))
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".float32-", suffix=".partial") as scratch:
        write_weights(Path(scratch), load_weights(run.stage("checkpoints"), step, run_digest(run.recipe)))
        return sum(file.stat().st_size for file in weight_files(Path(scratch)))


def _remove_stale(folder: Path, names: set[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in names:
            remove_tree(path)
