"""A release's revisions as what is scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from treering.evaluation.scoring import Subject
from treering.hub.reading import Release, ReleaseRevision
from treering.provenance.digests import digest_file, digest_value
from treering.provenance.progress import SILENCE, Progress


def subjects_of(
    release: Release, revisions: Sequence[ReleaseRevision], tokens_per_step: int | None = None, progress: Progress = SILENCE
) -> list[Subject]:
    """Return revisions to be scored in fp32; those of a repository are downloaded when their turn comes.

    Args:
        tokens_per_step: Of an update, for names that say no tokens.
    """
    return [
        Subject(
            name=revision.name,
            step=revision.step,
            dtype=torch.float32,
            open_origin=lambda one=revision: _origin(release, one),
            open_folder=lambda one=revision: release.folder_of(one, progress),
            tokens=_tokens(revision, tokens_per_step),
        )
        for revision in revisions
    ]


def _tokens(revision: ReleaseRevision, tokens_per_step: int | None) -> int | None:
    if revision.tokens is not None or tokens_per_step is None or revision.step is None:
        return revision.tokens
    return revision.step * tokens_per_step


def _origin(release: Release, revision: ReleaseRevision) -> dict[str, Any]:
    """Return which weights a revision is: a repository's by their commit, a folder's by the digests of its files."""
    if revision.commit is not None:
        return {"commit": revision.commit}
    folder = release.folder_of(revision)
    return {"files_digest": digest_value({path.name: digest_file(path) for path in _weights(folder)})}


def _weights(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")])
