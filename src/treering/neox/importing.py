"""A GPT-NeoX run's checkpoints to revisions that `transformers` loads, each past the agreement gate."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import weights_digest
from treering.config.schema import LoadedTokenizer, Recipe
from treering.errors import InputError, IntegrityError
from treering.neox.checkpoints import checkpoint_steps, iteration_of, read_neox_weights
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_file, digest_value
from treering.provenance.files import whole_directory
from treering.provenance.manifests import MANIFEST, verify_manifest, write_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.agreement import check_agreement
from treering.revisions.files import cast_weights, read_weights, write_settings, write_weights
from treering.revisions.round_trip import Sample, check_tokenizer
from treering.tokens.samples import SAMPLES
from treering.tokens.tokenizer import Tokenizer, load_tokenizer
from treering.training.determinism import set_arithmetic

IMPORTED_RECORD = ("imported-revision", 1)
_GATE_TOKENS = 256


def import_checkpoints(save: Path, recipe: Recipe, out: Path, progress: Progress = SILENCE) -> list[dict[str, Any]]:
    """Write a folder `stepN` for each `global_stepN` of a GPT-NeoX run, and return their records in the order of their steps.

    Revisions that an interrupted import finished are kept. A record's `same_weights_as` names an earlier step whose weights
    are equal: GPT-NeoX's first rate may be 0, and in fp16 it skips updates that overflow, mostly among the first.

    Args:
        recipe: Its model is what was trained, its tokenizer, a loaded one, what it was trained with; `revisions.dtype` is the
            number type to publish.

    Raises:
        InputError: When there is no checkpoint, the recipe trains a tokenizer, or a folder to write is there already.
        FormatError: When a checkpoint cannot be read.
        NonFiniteError: When a weight is not finite or does not fit the number type.
        ReproductionError: When `transformers` computes something else from the files.
        IntegrityError: When a checkpoint says it was saved after another update, or what is there is of other inputs.
        StorageError: When the disk is full or the folder cannot be written.
    """
    tokenizer, steps = _tokenizer(recipe), checkpoint_steps(save)
    set_arithmetic(recipe.training.threads)
    records: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    with progress.task("revisions", len(steps), "revisions") as task:
        for step, folder in steps.items():
            record = _import(folder, step, recipe, tokenizer, out / checkpoint_name(step))
            earlier = first.setdefault(record["trained_digest"], record["name"])
            records.append({**record, "same_weights_as": None if earlier == record["name"] else earlier})
            task.advance()
    return records


def _tokenizer(recipe: Recipe) -> Tokenizer:
    settings = recipe.tokens.tokenizer
    if not isinstance(settings, LoadedTokenizer):
        raise InputError(
            "a run of GPT-NeoX had a tokenizer before it began", expected="tokens.tokenizer.path", found="one to train"
        )
    tokenizer = load_tokenizer(
        Path(settings.path), end_of_document=settings.end_of_document, padding=settings.padding, digest=settings.digest
    )
    if tokenizer.vocabulary_size > recipe.model.vocab_size:
        raise InputError(
            "the tokenizer has more tokens than the model",
            where=settings.path,
            expected=f"at most model.vocab_size, {recipe.model.vocab_size}",
            found=tokenizer.vocabulary_size,
        )
    return tokenizer


def _import(source: Path, step: int, recipe: Recipe, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    files = {path.name: digest_file(path) for path in sorted(source.glob("*model_states.pt")) if path.is_file()}
    told = recipe.model_dump(mode="json")
    settings = {name: told[name] for name in ("model", "revisions", "order")}
    inputs = digest_value([files, settings, tokenizer.digest, told["tokens"]["tokenizer"]])
    if folder.exists():
        return _finished(folder, inputs)
    if (said := iteration_of(source)) not in (None, step):
        raise IntegrityError("this checkpoint was saved after another update", where=source, expected=step, found=said)
    trained = read_neox_weights(source, recipe.model)
    with whole_directory(folder) as partial:
        body = {
            "name": folder.name,
            "step": step,
            "iteration": said,
            "trained_digest": weights_digest(trained),
            "source": files,
        }
        body |= _write(partial, cast_weights(trained, recipe.revisions.dtype, source.name), recipe, tokenizer)
        write_record(partial / "revision.json", *IMPORTED_RECORD, body)
        write_manifest(partial, "revision", inputs, {})
    return read_record(folder / "revision.json", *IMPORTED_RECORD)


def _write(partial: Path, weights: dict[str, torch.Tensor], recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """Write a revision's files, pass both gates, and return what they say of it."""
    write_settings(partial, recipe, tokenizer, tokenizer.content)
    write_weights(partial, weights)
    if (written := weights_digest(read_weights(partial))) != weights_digest(weights):
        raise IntegrityError("the weights read back are not those written", where=partial)
    ids, starts = tokenizer.encode(list(SAMPLES.values()))
    length = min(_GATE_TOKENS, recipe.model.max_position_embeddings, len(ids))
    agreement = check_agreement(partial, recipe.model, torch.from_numpy(ids[:length].astype("int64")).view(1, -1))
    places = pairwise(starts.astype("int64").tolist())
    texts = zip(SAMPLES.values(), places, strict=True)
    check_tokenizer(
        partial, recipe, tokenizer, (Sample(tokenizer.normalise(text), ids[a:b].tolist()) for text, (a, b) in texts)
    )
    return {"weights_digest": written, "agreement": agreement.as_record()}


def _finished(folder: Path, inputs: str) -> dict[str, Any]:
    if not (folder / MANIFEST).exists():
        raise InputError(
            "this folder is there already, and not of an import", where=folder, advice="give another --out, or move it away"
        )
    manifest = verify_manifest(folder)
    if manifest.stage_digest != inputs:
        raise IntegrityError(
            "there is a revision here of other checkpoint files, or by another recipe or tokenizer",
            where=folder,
            expected=inputs,
            found=manifest.stage_digest,
            advice="give another --out, or move what is there away",
        )
    return read_record(folder / "revision.json", *IMPORTED_RECORD)
