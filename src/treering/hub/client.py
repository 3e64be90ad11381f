"""The seam of `huggingface_hub`: what a repository has, and files of it into the local cache or a folder."""

import glob
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_session, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] (of the library it speaks HTTP with, which has had two names)
    XetDownloadError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, tqdm, validate_repo_id

from treering.errors import FormatError, InputError
from treering.hub.documents import parse_object
from treering.hub.guard import COMMIT, guard_answers
from treering.hub.plan import Kind
from treering.hub.problems import ODD_ANSWER, explained
from treering.provenance.files import storage_errors
from treering.provenance.progress import Task

_BYTES_BAR = "huggingface_hub.snapshot_download"
_SHOWN_CHARACTERS = 200
_PATIENCE_SECONDS = 60.0  # for the next part of an answer, and for all of a short one
_SLOWEST_BYTES_PER_SECOND = 100_000
_MOST_REFERENCES_BYTES = 16_000_000
_ASK_AGAIN, _GONE, _NO_FILE = (429, 500, 502, 503, 504), (403, 404, 410, 416), "EntryNotFound"


class Answer(NamedTuple):
    """What a Hub answered: its status (0 where none came), its headers, and no more of its content than was wanted."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Repository:
    """A repository on a Hub, and the local cache that its files are kept in.

    `endpoint` is the Hub's address, None for the one that Hugging Face's client is set to. Only that one gets the user's
    token: an address named by hand may be anyone's.
    """

    name: str
    endpoint: str | None
    cache: Path
    kind: Kind = "model"

    def is_there(self) -> bool:
        """Return whether there is such a repository that may be read.

        Raises:
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
        """
        with self._errors():
            return HfApi(endpoint=self.endpoint, token=self._token).repo_exists(self.name, repo_type=self.kind)

    def branches(self) -> dict[str, str]:
        """Return the commit that each branch points to.

        Raises:
            InputError: When there is no such repository, or it may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
        """
        return self.references()[0]

    def references(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the commit that each branch points to, and the names of the tags.

        Raises:
            InputError: When there is no such repository, or it may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
        """
        answer = self.ask(f"/api/{self.kind}s/{self.name}/refs", _MOST_REFERENCES_BYTES, last_time=True)
        with self._errors():
            return _references_in(answer.content)

    def download(self, commit: str, names: Sequence[str], task: Task) -> Path:
        """Return the cache's folder of a commit, after fetching what is not there of the files by these names in its root.

        Args:
            names: File names; `*` stands for anything in one.

        Raises:
            InputError: When the repository or the commit is gone, or may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
            StorageError: When the cache cannot be written.
        """
        with self._errors(), storage_errors(self.cache):
            folder = snapshot_download(
                self.name,
                revision=commit,
                cache_dir=self.cache,
                endpoint=self.endpoint,
                token=self._token,
                allow_patterns=list(names),
                ignore_patterns="*/*",  # `*` of the patterns stands for slashes too
                tqdm_class=_bar_of(task),
            )
        return Path(folder)

    def download_into(self, folder: Path, commit: str, paths: Sequence[str], task: Task) -> None:
        """Put files of a commit into a folder, by their paths; files that are there whole are not asked for again.

        Raises:
            InputError: When the repository or the commit is gone, or may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
            StorageError: When the folder cannot be written.
        """
        with self._errors(), storage_errors(folder):
            snapshot_download(
                self.name,
                repo_type=self.kind,
                revision=commit,
                local_dir=folder,
                endpoint=self.endpoint,
                token=self._token,
                allow_patterns=[glob.escape(path) for path in paths],
                tqdm_class=_bar_of(task),
            )

    def ask(self, path: str, most_bytes: int, first_byte: int | None = None, *, last_time: bool = False) -> Answer:
        """Return what the Hub answers to a GET of a path under its address.

        Where it is better asked again, or a file that it lists is not there, that is the status alone. One that comes in drops
        is none: it has a minute, and a second more for each 100 kB that came.

        Args:
            path: Quoted, with its query.
            most_bytes: Where more comes, the rest is left unread.
            first_byte: Ask for so many bytes of a file from this one on; a server may send all of it regardless (status 200).
            last_time: An answer for which it would be asked again is an error too.

        Raises:
            InputError: When the repository or the commit is gone, or may not be read.
            EnvironmentMismatch: When the Hub does not answer as one does, or, the last time, cannot be reached or is too busy.
        """
        wanted = {} if first_byte is None else {"Range": f"bytes={first_byte}-{first_byte + most_bytes - 1}"}
        headers = {**build_hf_headers(token=self._token), "Accept-Encoding": "identity", **wanted}
        with self._errors():
            try:
                url = f"{self.endpoint or constants.ENDPOINT}{path}"
                with get_session().stream("GET", url, headers=headers, timeout=_PATIENCE_SECONDS) as response:
                    if response.is_success:
                        return Answer(response.status_code, response.headers, _first_bytes(response, most_bytes))
                again = response.status_code in _ASK_AGAIN and not last_time
                code, gone = response.headers.get("X-Error-Code", _NO_FILE), response.status_code in _GONE
                if not again and not (first_byte is not None and gone and code == _NO_FILE):
                    hf_raise_for_status(response)
                return Answer(response.status_code, response.headers, b"")
            except (HTTPError, TimeoutError) as error:
                if last_time or isinstance(error, HfHubHTTPError):
                    raise
                return Answer(0, {}, b"")

    @property
    def _token(self) -> bool | None:
        return None if self.endpoint is None else False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        guard_answers()
        try:
            yield
        except (HTTPError, OSError, XetDownloadError, *ODD_ANSWER) as error:
            raise explained(error, self.name, self.endpoint) from error


def open_repository(name: str, endpoint: str | None, cache: Path, kind: Kind = "model") -> Repository:
    """Return a repository, about which nothing has been asked yet.

    Raises:
        InputError: When its name is not of the form that the Hub demands, or the endpoint is no address.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(
            "this is no folder, and no name of a repository", where=name, expected="ORG/NAME", found=error
        ) from error
    if endpoint is not None and not _is_address(endpoint):
        raise InputError("this is no address of a Hub", where=endpoint, expected="such as https://huggingface.co")
    return Repository(name, None if endpoint is None else endpoint.rstrip("/"), cache, kind)


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _references_in(content: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the commits of branches and the names of tags that an answer lists.

    Raises:
        ValueError, KeyError, TypeError: When it is not what a Hub answers.
    """
    try:
        found = parse_object(content, "refs")
    except FormatError as error:
        raise ValueError(str(error)) from error
    branches = [(branch["name"], branch["targetCommit"]) for branch in found["branches"]]
    tags = [tag["name"] for tag in found.get("tags", [])]
    if odd := [name for name in (*(name for name, _ in branches), *tags) if not isinstance(name, str)]:
        raise TypeError(f"{ascii(odd[0])[:_SHOWN_CHARACTERS]} is no name")
    if odd := [commit for _, commit in branches if not COMMIT.fullmatch(commit)]:
        raise ValueError(f"{odd[0][:_SHOWN_CHARACTERS]} is no commit")
    return dict(branches), tuple(tags)


def _first_bytes(response: Any, most_bytes: int) -> bytes:
    """Return the beginning of an answer's content, without reading on beyond it.

    Raises:
        TimeoutError: When it comes slower than any line that is of use.
    """
    content, began = bytearray(), time.monotonic()
    for piece in response.iter_bytes():
        content += piece
        if (seconds := time.monotonic() - began) > _PATIENCE_SECONDS + len(content) / _SLOWEST_BYTES_PER_SECOND:
            raise TimeoutError(f"{len(content):,} bytes in {seconds:.0f} seconds")
        if len(content) > most_bytes:  # one that ends where it should is read to its end, and its connection used again
            break
    return bytes(content[:most_bytes])


def _bar_of(task: Task) -> type[tqdm]:
    """Return a class of bars that show nothing, and tell a task of the bytes that have arrived."""

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            self._counts_bytes = settings.get("name") == _BYTES_BAR
            super().__init__(*arguments, **settings | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts_bytes:
                task.advance(n or 0)
            return super().update(n)

    return Bar
