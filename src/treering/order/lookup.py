"""Looking up both ways: what a step trained on, and which steps trained on a sequence or a document."""

from typing import Any

import numpy as np

from treering.config.run_directory import RunDirectory
from treering.errors import InputError, IntegrityError
from treering.order.batches import Batches, positions_of
from treering.order.stage import open_batches
from treering.provenance.digests import digest_bytes
from treering.tokens.documents import Documents, open_documents
from treering.tokens.store import TokenStore, open_tokenizer


def describe_batch(run: RunDirectory, step: int) -> dict[str, Any]:
    """Return what batch `step` holds: each sequence with its text and the documents it was cut from.

    Raises:
        InputError: When the run has no such batch, or its tokens have not been made.
        IntegrityError: When a document shown is not what its id says.
    """
    steps = run.recipe.training.steps
    if not 0 <= step < steps:
        raise InputError("there is no such batch", where=run.path, expected=f"0 to {steps - 1}", found=step)
    run.refuse_undone("corpus", "tokens", "order")
    batches, view = open_batches(run), _View(run)
    rows = zip(positions_of(step, batches.global_batch_size), batches.sequence_ids(step), strict=True)
    sequences = [
        {
            "position": int(position),
            "epoch": batches.epoch(int(position)),
            **view.sequence(batches, int(sequence_id)),
        }
        for position, sequence_id in rows
    ]
    return {"step": step, "sequence_length": batches.sequence_length, "sequences": sequences}


def trace_sequence(run: RunDirectory, sequence_id: int) -> dict[str, Any]:
    """Return the batches that hold a sequence, and what the sequence is.

    Raises:
        InputError: When there is no such sequence, or the run's tokens have not been made.
        IntegrityError: When a document shown is not what its id says.
    """
    run.refuse_undone("corpus", "tokens", "order")
    batches = open_batches(run)
    if not 0 <= sequence_id < batches.sequences:
        raise InputError("there is no such sequence", expected=f"0 to {batches.sequences - 1}", found=sequence_id)
    steps = batches.steps_of_sequences([sequence_id], run.recipe.training.steps)
    return {"steps": steps[0], **_View(run).sequence(batches, sequence_id)}


def trace_document(run: RunDirectory, document: str | int) -> dict[str, Any]:
    """Return the sequences that hold any part of a training document, each with the batches that hold it.

    Args:
        document: Its digest, or its beginning where that is unique, for which all documents are read; or its number among the
            training documents, from 0.

    Raises:
        InputError: When no training document, or more than one, has such an id; when there is none of this number.
        IntegrityError: When a document shown is not what its id says.
    """
    run.refuse_undone("corpus", "tokens", "order")
    batches, view = open_batches(run), _View(run)
    number = document if isinstance(document, int) else _find_document(view.documents, document)
    if not 0 <= number < view.tokens.documents:
        raise InputError("there is no such document", expected=f"0 to {view.tokens.documents - 1}", found=number)
    start, stop = view.tokens.place_of(number)
    sequences = batches.sequences_with_tokens(start, stop) if start < stop else ()
    held = zip(sequences, batches.steps_of_sequences(sequences, run.recipe.training.steps), strict=True)
    found = [{"sequence_id": sequence_id, "steps": steps} for sequence_id, steps in held]
    return {"document": view.document(number), "number": number, "tokens": [start, stop], "sequences": found}


class _View:
    """Tokens, texts and tokenizer of a run, to describe sequences with."""

    def __init__(self, run: RunDirectory) -> None:
        self.tokens = TokenStore(run.stage("tokens"), "train")
        self.documents = open_documents(run.stage("corpus"), run.stage("tokens"), "train")
        self._tokenizer = open_tokenizer(run.stage("tokens"))

    def document(self, number: int) -> dict[str, Any]:
        document = self.documents[number]
        if (found := digest_bytes(document.text.encode())) != document.id:
            raise IntegrityError(
                "a document's text is not what its id says", where=document.source, expected=document.id, found=found
            )
        described = {"id": document.id, "source": document.source, "row": document.row, "domain": document.domain}
        return {**described, "metadata": dict(document.metadata)}

    def sequence(self, batches: Batches, sequence_id: int) -> dict[str, Any]:
        documents, tokens = [], []
        for start, stop in batches.ranges(sequence_id):
            shift = len(tokens) - start
            documents += [
                {"number": number, **self.document(number), "tokens": [first + shift, last + shift]}
                for number, first, last in self.tokens.spans(start, stop)
            ]
            tokens += np.asarray(self.tokens.tokens[start:stop]).tolist()
        return {"sequence_id": sequence_id, "text": self._tokenizer.decode(tokens), "documents": documents}


def _find_document(documents: Documents, wanted: str) -> int:
    wanted = wanted if wanted.startswith("sha256:") else f"sha256:{wanted}"
    found = [number for number, document in enumerate(documents) if document.id.startswith(wanted)]
    if not found:
        raise InputError(
            "no training document has this id", expected="a document's digest, as `treering batch` shows it", found=wanted
        )
    if len(found) > 1:
        numbers = ", ".join(map(str, found[:8])) + (" …" if len(found) > 8 else "")
        raise InputError(
            "more than one training document has such an id",
            expected="a longer beginning of a document's digest, or its number (--number)",
            found=f"{wanted}, of the documents {numbers}",
        )
    return found[0]
