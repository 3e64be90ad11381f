"""Digests: `sha256:<hex>` of content."""

import hashlib
from pathlib import Path

from treering.provenance.canonical import canonical_json

_BLOCK_BYTES = 1 << 20


def digest_bytes(content: bytes | bytearray | memoryview) -> str:
    """Return the digest of a byte string."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_value(value: object) -> str:
    """Return the digest of a JSON value in its canonical form."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """Return the digest of a file's content, read in blocks."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return "sha256:" + state.hexdigest()


def derive_key(domain: str, seed: int, *counters: int | str) -> int:
    """Return a 64-bit key for one use of a seed: the first 8 bytes of a SHA-256, little-endian.

    Equal arguments give equal keys on every machine; different domains never share a key by arithmetic on seeds.
    """
    content = canonical_json(["treering/key", domain, seed, *counters])
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
