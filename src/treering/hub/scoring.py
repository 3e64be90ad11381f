"""A release's revisions as what is scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from treering.evaluation.scoring import Subject
from treering.hub.reading import Release, ReleaseRevision
from treering.provenance.digests import digest_file, digest_value
from treering.provenance.progress import SILENCE, Progress


def subjects_of(release: Release, revisions: Sequence[ReleaseRevision], progress: Progress = SILENCE) -> list[Subject]:
    """Return revisions to be scored in fp32; those of a repository are downloaded when their turn comes.

    Raises:
        TreeringError: When a folder's files cannot be used, as `Release.folder_of`.
    """
    return [
        Subject(
            revision.name,
            revision.step,
            torch.float32,
            _origin(release, revision),
            lambda one=revision: release.folder_of(one, progress),
        )
        for revision in revisions
    ]


def _origin(release: Release, revision: ReleaseRevision) -> dict[str, Any]:
    """Return which weights a revision is: a repository's by their commit, a folder's by the digests of its files."""
    if revision.commit is not None:
        return {"commit": revision.commit}
    folder = release.folder_of(revision)
    return {"files_digest": digest_value({path.name: digest_file(path) for path in _files(folder)})}


def _files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
