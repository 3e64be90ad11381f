"""One digest for a whole release."""

from collections.abc import Mapping, Sequence
from typing import Any

from treering.config.digests import STAGES, release_digest_of
from treering.config.run_directory import RunDirectory
from treering.provenance.digests import digest_value

STAGES_BELOW = tuple(stage for stage in STAGES if stage != "card")


def release_digest(run: RunDirectory) -> str:
    """Return the digest of a whole release: of every stage's content, the card and its recipe included.

    Raises:
        InputError: When a stage has not been done.
        ManifestError: When a stage's files are not what its manifest says.
    """
    return release_digest_of({stage: run.verified(stage).digest for stage in STAGES})


def digest_of_stages(*files: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of everything below the card, from the file lists of the manifests of `STAGES_BELOW`, in order.

    This is the digest that a card shows: it cannot hold one of itself.
    """
    contents = [digest_value([[entry["path"], entry["size_bytes"], entry["digest"]] for entry in listed]) for listed in files]
    return release_digest_of(dict(zip(STAGES_BELOW, contents, strict=True)))
