"""Scores of revisions on held-out targets, each kept in a folder as soon as it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from treering.evaluation.heldout import HeldoutTokens, nats_of_targets, score_nats
from treering.evaluation.scoring import Subject, key_of, software
from treering.provenance.canonical import read_record, write_record
from treering.provenance.files import write_atomically
from treering.provenance.progress import Progress

_RECORD = ("heldout", 1)


@dataclass(frozen=True)
class HeldoutScoring:
    """Scoring on held-out targets: the folder in which scores are kept, the targets, and how they are computed.

    Args:
        batch_size: Sequences in one forward pass.
        threads: Threads inside one operation, which can change last bits.
    """

    folder: Path
    heldout: HeldoutTokens
    batch_size: int
    device: torch.device
    threads: int

    def score(self, subjects: Sequence[Subject], progress: Progress) -> None:
        """Write a record for each subject that has none yet, each whole as soon as it is known."""
        waiting = [subject for subject in subjects if not self._record(subject).exists()]
        total = len(waiting) * len(self.heldout.targets)
        with progress.task("held-out text", total, "tokens") as watched:
            for subject in waiting:
                watched.note(subject.name)
                model = subject.open_model(self.device)
                nats = nats_of_targets(model, self.heldout, self.batch_size, watched)
                del model  # before the next is opened
                score, domains = score_nats(nats, self.heldout, subject.name)
                about = {"revision": subject.name, "step": subject.step, "tokens_digest": self.heldout.digest}
                about["domains"] = [{"domain": domain, **own.fields()} for domain, own in domains.items()]
                write_atomically(self._record(subject).with_name("nats.npy"), _array_bytes(nats))
                write_record(self._record(subject), *_RECORD, about | score.fields())

    def copy(self, subjects: Sequence[Subject], folder: Path) -> list[dict[str, Any]]:
        """Copy the subjects' records into a folder and return them.

        Raises:
            FormatError: When one has not been scored.
        """
        records = []
        for subject in subjects:
            records.append(read_record(self._record(subject), *_RECORD))
            write_record(folder / f"{subject.name}.json", *_RECORD, records[-1])
            write_atomically(folder / f"{subject.name}.npy", self._record(subject).with_name("nats.npy").read_bytes())
        return records

    def _record(self, subject: Subject) -> Path:
        """Return where a subject's scores are kept; those made from other inputs lie elsewhere."""
        inputs = {
            "origin": [dict(subject.origin), subject.settings_digest],
            "heldout": [self.heldout.digest, self.heldout.sequence_length, [list(place) for place in self.heldout.domains]],
            "software": [*software(), self.batch_size, self.device.type, self.threads],
        }
        return self.folder / "heldout" / f"{subject.name}.{key_of(inputs)}" / "score.json"


def _array_bytes(array: np.ndarray) -> bytes:
    """Return an array in numpy's format."""
    file = BytesIO()
    np.lib.format.write_array(file, array.astype("<f4", copy=False), version=(1, 0), allow_pickle=False)
    return file.getvalue()
