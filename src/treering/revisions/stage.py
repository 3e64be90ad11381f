"""The stage: export every checkpoint, pass both gates, measure what the card states."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import weights_digest
from treering.checkpoints.store import load_weights, read_checkpoint_record
from treering.config.digests import run_digest, stage_digest
from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError, ManifestError, ReproductionError
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_file
from treering.provenance.files import remove_tree, whole_directory
from treering.provenance.manifests import MANIFEST, Manifest, read_manifest, verify_manifest, write_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.agreement import check_agreement
from treering.revisions.files import cast_weights, read_weights, weight_files, write_settings, write_weights
from treering.revisions.loading import load_model
from treering.revisions.records import REVISION_RECORD, REVISIONS_RECORD
from treering.revisions.round_trip import Sample, check_tokenizer
from treering.tokens.documents import DecodedDocuments, Documents, open_documents
from treering.tokens.store import TokenStore, open_tokenizer
from treering.tokens.tokenizer import Tokenizer
from treering.training.determinism import set_arithmetic
from treering.training.run import finished_checkpoints
from treering.training.schedule import learning_rate

LISTED = ("name", "step", "tokens", "checkpoint_digest", "weights_digest", "same_weights_as", "agreement")
MOST_OVERFLOWS = 64  # a loss scale of 2³² comes down to 1 in so many updates, two for each halving
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
    folder = run.stage("revisions")
    # From here on the folder is not what its manifest says, until it is sealed again.
    (folder / MANIFEST).unlink(missing_ok=True)
    exporter = _Exporter(run, stage_digest(run.recipe, "revisions", reads), _open_gate(run))
    records = []
    with progress.task("revisions", len(checkpoints), "revisions") as task:
        for step, digest in checkpoints.items():
            records.append(exporter.export(step, digest))
            task.advance()
    _remove_stale(folder, {str(record["name"]) for record in records})
    write_record(folder / "revisions.json", *REVISIONS_RECORD, _describe(run, records))
    return run.seal(folder, "revisions", reads)


@dataclass(frozen=True)
class _Gate:
    rows: torch.Tensor
    samples: tuple[Sample, ...]
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
        record = self._describe(folder.name, step, checkpoint_digest)
        with whole_directory(folder) as partial:
            record |= self._write(partial, step)
            write_record(partial / "revision.json", *REVISION_RECORD, record)
            write_manifest(partial, "revision", self.stage_digest, {"checkpoint": checkpoint_digest})
        return record

    def _describe(self, name: str, step: int, checkpoint_digest: str) -> dict[str, Any]:
        checkpoint = self.run.stage("checkpoints") / name
        return {
            "name": name,
            "step": step,
            "tokens": read_checkpoint_record(checkpoint, run_digest(self.run.recipe))["tokens"],
            "run_digest": run_digest(self.run.recipe),
            "checkpoint_digest": checkpoint_digest,
        }

    def _write(self, partial: Path, step: int) -> dict[str, Any]:
        """Write a revision's files, pass the gates, and return what they say of it."""
        recipe, gate, name = self.run.recipe, self.gate, checkpoint_name(step)
        write_settings(partial, recipe, gate.tokenizer, gate.tokenizer.content)
        digests = self._write_weights(partial, step)
        try:
            agreement = check_agreement(partial, recipe.model, gate.rows)
            check_tokenizer(partial, recipe, gate.tokenizer, gate.samples)
        except ReproductionError as error:
            raise ReproductionError(f"this revision does not pass its gates: {error}", where=name) from error
        files = {path.name: digest_file(path) for path in sorted(partial.iterdir())}
        return {**digests, "agreement": agreement.as_record(), "files": files}

    def _write_weights(self, partial: Path, step: int) -> dict[str, str]:
        """Write a revision's weights, and return the digests of those trained and, read back, of those published."""
        dtype, name = self.run.recipe.revisions.dtype, checkpoint_name(step)
        trained = load_weights(self.run.stage("checkpoints"), step, run_digest(self.run.recipe))
        published = cast_weights(trained, dtype, name)
        write_weights(partial, published)
        intended, written = weights_digest(published), weights_digest(read_weights(partial))
        if written != intended:
            raise IntegrityError("the weights read back are not those written", where=name, expected=intended, found=written)
        return {"trained_digest": weights_digest(trained), "weights_digest": written}

    def _finished(self, folder: Path, checkpoint_digest: str) -> dict[str, Any] | None:
        """Return the record of a revision that an earlier attempt finished from the same inputs, if its files still hold."""
        if not (folder / MANIFEST).exists():
            return None
        manifest = read_manifest(folder)
        if (manifest.stage_digest, manifest.reads.get("checkpoint")) != (self.stage_digest, checkpoint_digest):
            return None
        try:
            verify_manifest(folder)
        except ManifestError:
            return None  # it is written anew
        return read_record(folder / "revision.json", *REVISION_RECORD)


def _open_gate(run: RunDirectory) -> _Gate:
    held_out, length = TokenStore(run.stage("tokens"), "validation"), run.recipe.order.sequence_length
    rows = min(_GATE_ROWS, len(held_out.tokens) // length)
    shape = (rows, length) if rows else (1, len(held_out.tokens))
    tokens = torch.from_numpy(held_out.tokens[: math.prod(shape)].astype("int64")).view(shape)
    tokenizer = open_tokenizer(run.stage("tokens"))
    documents = open_documents(run.stage("corpus"), run.stage("tokens"), "validation")
    return _Gate(tokens, tuple(_samples(documents, held_out, tokenizer)), tokenizer)


def _samples(documents: Documents, held_out: TokenStore, tokenizer: Tokenizer) -> Iterator[Sample]:
    for number in range(min(_GATE_TEXTS, len(documents))):
        text = documents[number].text
        # Tokens that were taken over need not be those that their text encodes to.
        taken_over = isinstance(documents, DecodedDocuments)
        ids = tokenizer.encode([text])[0] if taken_over else held_out.document(number)[:-1]  # its EOD is not text
        yield Sample(tokenizer.normalise(text), ids.tolist())


def _describe(run: RunDirectory, records: list[dict[str, Any]]) -> dict[str, Any]:
    name_equals(run, records)
    last = run.stage("revisions") / records[-1]["name"]
    return {
        "main": records[-1]["name"],
        "dtype": run.recipe.revisions.dtype,
        "memory_float16_bytes": _memory_bytes(last, torch.float16),
        "float32_disk_bytes": float32_disk_bytes(run, last),
        "revisions": [{key: record[key] for key in LISTED} for record in records],
    }


def name_equals(run: RunDirectory, records: list[dict[str, Any]]) -> None:
    """Say of each revision which earlier one has the same weights, and refuse what no rate or rounding explains.

    Raises:
        IntegrityError: When training should have changed the weights between two steps and did not (GPT-NeoX's
            first updates in fp16 apart, which it passes over where they overflow).
    """
    published: dict[str, str] = {}
    trained: dict[str, int] = {}
    for record in records:
        other = published.setdefault(record["weights_digest"], record["name"])
        record["same_weights_as"] = None if other == record["name"] else other
        earlier = trained.setdefault(record["trained_digest"], record["step"])
        rates = (learning_rate(run.recipe.training, update) for update in range(earlier, record["step"]))
        if not _passed_over(run, record["step"]) and any(rate > 0 for rate in rates):
            raise IntegrityError("two checkpoints have the same weights", where=record["name"], found=f"those of step{earlier}")


def _passed_over(run: RunDirectory, step: int) -> bool:
    """Return whether all updates up to a step may have been passed over: GPT-NeoX's in fp16 while its loss scale comes down."""
    training = run.recipe.training
    return training.imported and training.precision == "fp16" and step <= MOST_OVERFLOWS


def _memory_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Return the bytes of all parameters and buffers of the model as `transformers` holds it, tied ones once."""
    model = load_model(folder, dtype)
    storages = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return sum(storages.values())


def float32_disk_bytes(run: RunDirectory, folder: Path) -> int:
    """Return the bytes that the last revision's weights take in fp32, on the disk.

    Raises:
        IntegrityError: When the checkpoint is not what was saved.
    """
    if run.recipe.revisions.dtype == "float32":
        return sum(file.stat().st_size for file in weight_files(folder))
    scratch = run.path / ".float32.partial"
    remove_tree(scratch)
    try:
        scratch.mkdir()
        write_weights(scratch, load_weights(run.stage("checkpoints"), run.recipe.training.steps, run_digest(run.recipe)))
        return sum(file.stat().st_size for file in weight_files(scratch))
    finally:
        remove_tree(scratch)


def _remove_stale(folder: Path, names: set[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in names:
            remove_tree(path)
