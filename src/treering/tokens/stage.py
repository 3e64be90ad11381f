"""The stage: train or load the tokenizer, and write each split's tokens."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from treering.config.consistency import LARGEST_UINT16_VOCABULARY
from treering.config.run_directory import RECIPE, RunDirectory
from treering.config.schema import TrainedTokenizer
from treering.corpus.data_sets import recorded_parts, refuse_changed_data_sets
from treering.corpus.documents import Document, read_corpus_record
from treering.corpus.indexed import write_indexed
from treering.corpus.store import DocumentStore, Split
from treering.errors import RecipeError
from treering.provenance.canonical import write_record
from treering.provenance.files import whole_directory
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress, Task
from treering.tokens.encoding import Encoding, batches_of, encode_in_order
from treering.tokens.round_trip import check_round_trip
from treering.tokens.store import RECORD_FILE, RECORD_FORMAT, TOKENIZER_FILE
from treering.tokens.taking_over import compare_with_encoder, take_over, token_type_of
from treering.tokens.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

BATCH_BYTES = 4 << 20
BYTES_WORTH_A_WORKER = 16 << 20  # encoded about as fast as a process starts

_SPLITS: tuple[Split, ...] = ("train", "validation")


def prepare_tokens(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Make `tokens/` from the run's corpus and return the stage's manifest; a whole one is left as it is.

    Raises:
        InputError: When the corpus has not been prepared, or the tokenizer cannot be read.
        CorpusError: When the training documents are too few for the vocabulary asked for; when a data set has changed, holds a
            token that is none of the tokenizer's, or was made with another tokenizer.
        RecipeError: When the vocabulary does not fit the model or the token type.
        IntegrityError: When the corpus is not what its manifest says, the tokenizer is not the recipe's, or a text does not
            come back from its tokens.
        EnvironmentMismatch: When a worker process was ended from outside.
        StorageError: When the disk is full or the folder cannot be written.
    """
    reads = run.reads("corpus")
    if manifest := run.find("tokens", reads):
        return manifest
    with whole_directory(run.stage("tokens")) as folder:
        tokenizer = _make_tokenizer(run, folder, progress)
        check_round_trip(tokenizer)
        token_type = _choose_token_type(run, tokenizer)
        encoding = Encoding(folder / TOKENIZER_FILE, tokenizer.end_of_document, tokenizer.padding, token_type)
        write = _take_over_split if run.recipe.corpus.indexed else _write_split
        counts = {split: write(run, split, encoding, tokenizer, progress) for split in _SPLITS}
        # After copying: what was copied is what the corpus's record says, unless it was changed and changed back meanwhile.
        refuse_changed_data_sets(run.recipe.corpus, read_corpus_record(run.stage("corpus")), progress)
        write_record(folder / RECORD_FILE, *RECORD_FORMAT, {**_describe(run, tokenizer, token_type), **counts})
        run.seal(folder, "tokens", reads)
    return run.verified("tokens")


def _make_tokenizer(run: RunDirectory, folder: Path, progress: Progress) -> Tokenizer:
    settings, path = run.recipe.tokens.tokenizer, folder / TOKENIZER_FILE
    if isinstance(settings, TrainedTokenizer):
        path.write_bytes(_train(run, settings, progress))
        return load_tokenizer(path, end_of_document=settings.end_of_document, padding=settings.padding)
    tokenizer = load_tokenizer(
        Path(settings.path), end_of_document=settings.end_of_document, padding=settings.padding, digest=settings.digest
    )
    path.write_bytes(tokenizer.content)
    return tokenizer


def _train(run: RunDirectory, settings: TrainedTokenizer, progress: Progress) -> bytes:
    documents = DocumentStore(run.stage("corpus"), "train")
    total = _text_bytes(run, "train") * settings.sample_fraction
    with progress.task("tokens: tokenizer", total, "bytes") as task:
        return train_tokenizer(_sample(documents, settings.sample_fraction, task), settings)


def _sample(documents: Iterable[Document], fraction: float, task: Task) -> Iterator[str]:
    for document in documents:
        if _drawn(document.id, fraction):
            yield document.text
            task.advance(len(document.text.encode()))
    task.note("finding merges")


def _drawn(document_id: str, fraction: float) -> bool:
    """Return whether a document is in the sample, by the second eight bytes of its digest: the first eight decide the split."""
    return int(document_id.removeprefix("sha256:")[16:32], 16) < fraction * 2**64


def _choose_token_type(run: RunDirectory, tokenizer: Tokenizer) -> str:
    vocabulary, most, asked = tokenizer.vocabulary_size, run.recipe.model.vocab_size, run.recipe.tokens.token_type
    problems: list[str] = []
    if vocabulary > most:
        problems.append(f"tokens.tokenizer: its vocabulary, {vocabulary}, is above model.vocab_size, {most}")
    if asked == "uint16" and vocabulary > LARGEST_UINT16_VOCABULARY:
        problems.append(
            f"tokens.token_type: uint16 holds vocabularies up to {LARGEST_UINT16_VOCABULARY}; the tokenizer's is {vocabulary}"
        )
    if problems:
        raise RecipeError(run.path / RECIPE, problems)
    if asked != "auto":
        return asked
    if run.recipe.corpus.indexed:
        record = read_corpus_record(run.stage("corpus"))
        return token_type_of([part for split in _SPLITS for part in recorded_parts(record, split)], vocabulary)
    return "uint16" if vocabulary < LARGEST_UINT16_VOCABULARY else "int32"  # GPT-NeoX's own bound


def _write_split(
    run: RunDirectory, split: Split, encoding: Encoding, tokenizer: Tokenizer, progress: Progress
) -> dict[str, int]:
    total, text_bytes = _text_bytes(run, split), 0
    batches = batches_of(_named(DocumentStore(run.stage("corpus"), split)), BATCH_BYTES)
    workers = min(run.recipe.observe.workers, 1 + total // BYTES_WORTH_A_WORKER)
    with (
        progress.task(f"tokens: {split}", total, "bytes") as task,
        write_indexed(encoding.path.with_name(split), encoding.token_type) as writer,
        closing(encode_in_order(encoding, tokenizer, batches, workers)) as encoded,
    ):
        for batch in encoded:
            writer.append(batch.tokens, batch.sizes)
            text_bytes += batch.text_bytes
            task.advance(batch.text_bytes)
    return {"documents": writer.documents, "tokens": writer.tokens, "bytes": text_bytes}


def _take_over_split(
    run: RunDirectory, split: Split, encoding: Encoding, tokenizer: Tokenizer, progress: Progress
) -> dict[str, int]:
    record, path = read_corpus_record(run.stage("corpus")), encoding.path.with_name(split)
    parts, tokens = recorded_parts(record, split), record[split]["tokens"]
    with (
        progress.task(f"tokens: {split}", tokens, "tokens") as task,
        write_indexed(path, encoding.token_type) as writer,
    ):
        taken = take_over(parts, writer, tokenizer, task)
    return {
        "documents": writer.documents,
        "tokens": writer.tokens,
        "bytes": taken.text_bytes,
        "ended": taken.ended_documents,
        **compare_with_encoder(parts, tokenizer),
    }


def _named(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    for document in documents:
        yield f"document {document.id} ({document.source}, row {document.row})", document.text


def _text_bytes(run: RunDirectory, split: Split) -> int:
    return int(read_corpus_record(run.stage("corpus"))[split]["bytes"])


def _describe(run: RunDirectory, tokenizer: Tokenizer, token_type: str) -> dict[str, Any]:
    return {
        "tokenizer": {
            "kind": "trained" if isinstance(run.recipe.tokens.tokenizer, TrainedTokenizer) else "loaded",
            "digest": tokenizer.digest,
            "vocabulary_size": tokenizer.vocabulary_size,
            "end_of_document": tokenizer.end_of_document,
            "end_of_document_id": tokenizer.end_of_document_id,
            "padding": tokenizer.padding,
            "padding_id": tokenizer.padding_id,
        },
        "token_type": token_type,
        "encoder": None
        if run.recipe.corpus.indexed
        else {"name": tokenizer.encoder.name, "version": tokenizer.encoder.version},
    }
