"""A repository that is written to: few calls, each repeated as long as the Hub asks to wait."""

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub.constants
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]
from huggingface_hub.hf_api import RepoFile

from treering.errors import EnvironmentMismatch, InputError, TreeringError
from treering.hub.client import Repository, explained, open_repository
from treering.hub.plan import Kind

_Answer = TypeVar("_Answer")
_AGAIN = (408, 409, 429, 500, 502, 503, 504)
_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS = 3600.0, 1.0
_ATTEMPTS = 12
_XET = "xet-write-token"
_MOVED = 412
_DEADLINE = re.compile(r"\bt=(\d+)")


class _MovedError(Exception):
    """A branch's head is not what it was."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the server lists it; SHA-256 where it keeps the file apart from git."""

    size_bytes: int
    git_id: str
    sha256: str | None


@dataclass
class Pace:
    """How many commits an hour a Hub takes: beyond them is waited, without asking in vain.

    `commits_per_hour` None is no limit. `sleep` and `clock` are the machine's, but for tests.
    """

    commits_per_hour: int | None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    made: list[float] = field(default_factory=list)

    def before_commit(self) -> None:
        """Wait until another commit may be made."""
        if self.commits_per_hour is None:
            return
        recent = [when for when in self.made if when > self.clock() - 3600]
        if len(recent) >= self.commits_per_hour:
            self.sleep(max(0.0, recent[-self.commits_per_hour] + 3600 - self.clock()))
        self.made.append(self.clock())

    def expected_seconds(self, commits: int) -> float:
        """Return how long so many commits wait for each other, sending apart."""
        return 0.0 if self.commits_per_hour is None else (commits - 1) // self.commits_per_hour * 3600.0


@dataclass
class Remote:
    """A repository on a Hub, written with the user's own token.

    Args:
        endpoint: The Hub's address; None for the one that Hugging Face's client is set to.
        token: None for the one that the client has.
    """

    name: str
    kind: Kind
    endpoint: str | None
    token: str | None
    pace: Pace
    private: bool = False
    note: Callable[[str], None] = lambda _: None

    def create(self) -> None:
        """Create the repository where there is none."""
        self._ask(lambda: self._api.create_repo(self.name, repo_type=self.kind, private=self.private, exist_ok=True))

    def branches(self) -> dict[str, str]:
        """Return the commit that each branch points to."""
        refs = self._ask(lambda: self._api.list_repo_refs(self.name, repo_type=self.kind))
        return {branch.name: branch.target_commit for branch in refs.branches}

    def files(self, commit: str) -> dict[str, RemoteFile]:
        """Return the files of a commit, by their paths."""
        listed = self._ask(
            lambda: list(self._api.list_repo_tree(self.name, recursive=True, revision=commit, repo_type=self.kind))
        )
        return {
            entry.path: RemoteFile(entry.size, entry.blob_id, None if entry.lfs is None else entry.lfs.sha256)
            for entry in listed
            if isinstance(entry, RepoFile)
        }

    def create_branch(self, name: str) -> str:
        """Create a branch from the repository's first commit, which holds nothing of a release, and return that commit."""
        commits = self._ask(lambda: self._api.list_repo_commits(self.name, repo_type=self.kind))
        first = commits[-1].commit_id
        self._ask(lambda: self._api.create_branch(self.name, branch=name, revision=first, repo_type=self.kind, exist_ok=True))
        return self.branches()[name]

    def commit(self, branch: str, parent: str, added: Mapping[str, Path], removed: Sequence[str]) -> bool:
        """Make one commit on a branch whose head is `parent`; return False where its head is another by now."""
        self.pace.before_commit()
        operations: list[Any] = [CommitOperationDelete(path) for path in removed]
        operations += [CommitOperationAdd(path, file) for path, file in added.items()]
        try:
            self._ask_quietly(
                lambda: self._api.create_commit(
                    self.name,
                    operations,
                    commit_message=branch,
                    repo_type=self.kind,
                    revision=branch,
                    parent_commit=parent,
                )
            )
        except _MovedError:
            return False
        return True

    def tag(self, name: str, commit: str) -> None:
        """Have a tag point to a commit; one that is there stays where it is."""
        self._ask(lambda: self._api.create_tag(self.name, tag=name, revision=commit, repo_type=self.kind, exist_ok=True))

    @property
    def _api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=self.token)

    def _ask_quietly(self, call: Callable[[], _Answer]) -> _Answer:
        """Return a call's answer, without the client's doubts whether records belong beside a model."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*commit a data file", UserWarning)
            return self._ask(call)

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        """Return a call's answer; repeat it while the Hub is busy, for as long as it says.

        Raises:
            InputError: When the Hub does not let this be done.
            EnvironmentMismatch: When it cannot be reached, or stays busy.
        """
        wait = _FIRST_WAIT_SECONDS
        for attempt in range(_ATTEMPTS):
            try:
                return call()
            except (HTTPError, ConnectionError, RuntimeError) as raised:
                error = _cause(raised)
                if _status(error) == _MOVED:
                    raise _MovedError from raised
                if _XET in str(error) and not huggingface_hub.constants.HF_HUB_DISABLE_XET:
                    huggingface_hub.constants.HF_HUB_DISABLE_XET = True  # a Hub without it: plain LFS
                    continue
                if not _is_passing(error) or attempt == _ATTEMPTS - 1:
                    raise self._refused(error) from raised
                wait = _wait_seconds(error, wait)
                self.note(f"the Hub is busy: waiting {wait:.0f} s")
                self.pace.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        raise EnvironmentMismatch(
            "the Hub answers without an end", where=self.name, advice="publish again: what is whole there is kept"
        )

    def _refused(self, error: BaseException) -> TreeringError:
        if _status(error) in (401, 403):
            return InputError(
                "the Hub does not let you write this",
                where=self.name,
                found=f"HTTP {_status(error)}",
                advice="log in with a token that may write there: hf auth login",
            )
        return explained(error, Repository(self.name, self.endpoint, Path()))


def _cause(error: Exception) -> Exception:
    """Return what went wrong with an upload, which the client wraps.

    Raises:
        RuntimeError: When it is something else than the line or the Hub.
    """
    if not isinstance(error, RuntimeError):
        return error
    if isinstance(error.__cause__, HTTPError | ConnectionError):
        return error.__cause__
    raise error


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None


def _is_passing(error: BaseException) -> bool:
    """Say whether an error may be over soon: the Hub is busy, or the line was cut."""
    return _status(error) in _AGAIN if isinstance(error, HfHubHTTPError) else True


def _wait_seconds(error: BaseException, otherwise: float) -> float:
    """Return how long the Hub asks to wait."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        asked = error.response.headers.get("Retry-After", "")
        deadline = _DEADLINE.search(error.response.headers.get("RateLimit", ""))
        seconds = asked if asked.isdigit() else deadline[1] if deadline else ""
        if seconds:
            return min(float(seconds) + 1, _LONGEST_WAIT_SECONDS)
    return otherwise


def open_remote(
    name: str, kind: Kind, endpoint: str | None, token_file: Path | None, pace: Pace, *, private: bool = False
) -> Remote:
    """Return a repository to be written to, about which nothing has been asked yet.

    Args:
        token_file: Where the token for the Hub stands; without it, the one that the client has, for its own Hub alone.

    Raises:
        InputError: When the name is not of the form that the Hub demands, the endpoint no address, or there is no such file.
    """
    open_repository(name, endpoint, Path())
    try:
        token = None if token_file is None else token_file.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError("there is no token", where=token_file, found=error) from error
    if token is None and endpoint is not None:
        raise InputError(
            "an address named by hand gets no token of another's",
            where=endpoint,
            advice="give its token by --token-file, or set HF_ENDPOINT to it and log in",
        )
    return Remote(name, kind, endpoint, token, pace, private)
