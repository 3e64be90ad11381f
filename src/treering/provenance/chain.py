"""Lines of canonical JSON, each bound to the one before by its digest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treering.errors import IntegrityError
from treering.provenance.canonical import canonical_json
from treering.provenance.digests import digest_bytes


@dataclass(frozen=True)
class Link:
    """One line: what it says, and the digest of its bytes without the newline, which the next line holds as `previous`."""

    body: Mapping[str, Any]
    digest: str

    @property
    def bytes(self) -> bytes:
        """The line as it is written."""
        return canonical_json(self.body) + b"\n"


def make_link(body: Mapping[str, Any], previous: str | None) -> Link:
    """Return the line that says this; the first of a chain has no `previous`."""
    whole = dict(body) if previous is None else {**body, "previous": previous}
    return Link(whole, digest_bytes(canonical_json(whole)))


def read_link(where: str, line: bytes) -> Link:
    """Return what a line says.

    Raises:
        IntegrityError: When it is no JSON object, or another byte string than treering writes for it.
    """
    try:
        body = json.loads(line)
        written = canonical_json(body) + b"\n"
    except (ValueError, RecursionError) as error:
        raise IntegrityError("this is no line of JSON", where=where, found=repr(error)) from error
    if written != line:
        raise IntegrityError("this line is not as treering writes it", where=where, expected=written, found=line)
    if not isinstance(body, dict):
        raise IntegrityError("this is no JSON object", where=where, found=line)
    return Link(body, digest_bytes(line.removesuffix(b"\n")))


def refuse_unbound(where: str, link: Link, previous: str) -> None:
    """Do nothing where a line holds the digest of the one before.

    Raises:
        IntegrityError: When it does not.
    """
    if (found := link.body.get("previous")) != previous:
        raise IntegrityError("this line is not bound to the one before", where=where, expected=previous, found=found)
