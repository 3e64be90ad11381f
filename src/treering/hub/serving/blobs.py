"""Contents in a folder, each under its SHA-256, whole or absent."""

import functools
import hashlib
import uuid
from collections.abc import Iterable
from pathlib import Path

from treering.hub.serving.objects import File, describe, git_id
from treering.hub.serving.refusals import Refusal
from treering.provenance.files import remove_tree, sync_tree, written_atomically


class Blobs:
    """The contents of all repositories of a store; which there are is known without asking the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._incoming = folder / "blobs", folder / "incoming"
        found = (path for path in self._folder.glob("*/*") if not path.name.startswith("."))
        self._sizes = {path.name: path.stat().st_size for path in found}
        self.content_id = functools.lru_cache(maxsize=1024)(self._content_id)

    def tidy(self) -> None:
        """Remove what uploads that were cut off have left."""
        remove_tree(self._incoming)

    def size(self, sha256: str) -> int | None:
        """Return a content's size in bytes, or None where it is not here."""
        return self._sizes.get(sha256)

    def path(self, sha256: str) -> Path:
        """Return where the content of a commit's file lies."""
        return self._folder / sha256[:2] / sha256

    def add(self, blocks: Iterable[bytes], most_bytes: int, sha256: str | None = None) -> str:
        """Keep a content that comes in blocks, and return its SHA-256; it is here when all of it is on the disk.

        Args:
            blocks: The content, piece by piece.
            most_bytes: More than this is not taken.
            sha256: What it is said to be, if anything is said.

        Raises:
            Refusal: When it is too long, or not what it is said to be.
            StorageError: When it cannot be written.
        """
        partial = self._incoming / uuid.uuid4().hex
        state, size_bytes = hashlib.sha256(), 0
        with written_atomically(partial) as file:
            for block in blocks:
                size_bytes += len(block)
                if size_bytes > most_bytes:
                    raise Refusal(413, f"this is too long: more than {most_bytes:,} bytes")
                state.update(block)
                file.write(block)
            if sha256 not in (None, state.hexdigest()):
                raise Refusal(400, f"the content that came has not the SHA-256 {sha256}: it was changed on the way")
        self._keep(partial, state.hexdigest(), size_bytes)
        return state.hexdigest()

    def add_small(self, path: str, content: bytes) -> File:
        """Keep a content that is in memory, and return what a commit says of a file with it.

        Raises:
            StorageError: When it cannot be written.
        """
        file = describe(path, content)
        if self.size(file.sha256) is None:
            self.add([content], len(content))
        return file

    def _keep(self, partial: Path, sha256: str, size_bytes: int) -> None:
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_tree(target.parent)
        self._sizes[sha256] = size_bytes

    def _content_id(self, sha256: str) -> str:
        """Return the id that git would give a content if it were no large file."""
        return git_id("blob", self.path(sha256).read_bytes())
