"""A repository that is written to: few calls, each repeated as long as the Hub asks to wait."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import huggingface_hub.constants
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]
from huggingface_hub.hf_api import RepoFile

from treering.errors import InputError, TreeringError
from treering.hub.client import open_repository
from treering.hub.pace import Pace, seconds_asked
from treering.hub.plan import Kind
from treering.hub.problems import explained

_Answer = TypeVar("_Answer")
_AGAIN = (408, 409, 429, 500, 502, 503, 504)
_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS, _SPARE_SECONDS = 3600.0, 1.0, 1.0
_TOO_MANY = 429
_ATTEMPTS, _FIRST_ATTEMPTS = 12, 4
_LONGEST_BUSY_SECONDS = 2 * 3600.0  # a Hub counts commits by the hour
_WORTH_TELLING_SECONDS = 30.0
_XET = "xet-write-token"
_MOVED = 412


class _MovedError(Exception):
    """A branch's head is not what it was."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the server lists it; SHA-256 where it keeps the file apart from git."""

    size_bytes: int
    git_id: str
    sha256: str | None


@dataclass
class Remote:
    """A repository on a Hub, written with the user's own token.

    Args:
        endpoint: The Hub's address; None for the one that Hugging Face's client is set to.
        token: None for the one that the client has; False for none.
        note: Takes where the work stands, `tell` what somebody should know who comes back later: that it waits, for how long.
    """

    name: str
    kind: Kind
    endpoint: str | None
    token: str | Literal[False] | None
    pace: Pace
    private: bool = False
    note: Callable[[str], None] = lambda _: None
    tell: Callable[[str], None] = lambda _: None
    answered: bool = False

    def create(self) -> None:
        """Create the repository where there is none."""
        self._ask(lambda: self._api.create_repo(self.name, repo_type=self.kind, private=self.private, exist_ok=True))

    def branches(self) -> dict[str, str]:
        """Return the commit that each branch points to."""
        refs = self._ask(lambda: self._api.list_repo_refs(self.name, repo_type=self.kind))
        return {branch.name: branch.target_commit for branch in refs.branches}

    def tags(self) -> dict[str, str]:
        """Return the commit that each tag points to."""
        refs = self._ask(lambda: self._api.list_repo_refs(self.name, repo_type=self.kind))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tell_of_waiting(self, commits: int) -> None:
        """Say how long so many commits will wait for each other, if they will."""
        if seconds := self.pace.expected_seconds(commits):
            self.tell(f"{self.name}: {commits} commits at {self.pace.most} an hour, about {seconds / 3600:.0f} h")

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

    def commit(self, branch: str, parent: str, added: Mapping[str, Path | bytes], removed: Sequence[str]) -> bool:
        """Make one commit on a branch whose head is `parent`; return False where its head is another by now."""
        while seconds := self.pace.take():
            self._wait(seconds, "so many commits an hour")
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
        """Have a tag point to a commit, wherever it pointed before."""
        there = self.tags().get(name)
        if there not in (None, commit):
            self._ask(lambda: self._api.delete_tag(self.name, tag=name, repo_type=self.kind))
        if there != commit:
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
        wait, waited, attempt = _FIRST_WAIT_SECONDS, 0.0, 0
        while True:
            try:
                answer = call()
            except (HTTPError, ConnectionError, RuntimeError) as raised:
                error = _cause(raised)
                if _status(error) == _MOVED:
                    raise _MovedError from raised
                if _XET in str(error) and not huggingface_hub.constants.HF_HUB_DISABLE_XET:
                    huggingface_hub.constants.HF_HUB_DISABLE_XET = True  # a Hub without it: plain LFS
                    continue
                attempt += 1
                if not self._goes_on(error, attempt, waited):
                    raise self._refused(error) from raised
                wait = _wait_seconds(error, wait)
                self._wait(wait, "the Hub is busy")
                waited += wait
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            else:
                self.answered = True
                return answer

    def _goes_on(self, error: BaseException, attempt: int, waited: float) -> bool:
        """Say whether to ask again: what has answered before is waited for longer, and commits of an hour that hour out."""
        if not _is_passing(error):
            return False
        if _status(error) == _TOO_MANY:
            return waited < _LONGEST_BUSY_SECONDS
        return attempt < (_ATTEMPTS if self.answered or _status(error) is not None else _FIRST_ATTEMPTS)

    def _wait(self, seconds: float, why: str) -> None:
        self.note(f"{why}: waiting {seconds:.0f} s")
        if seconds >= _WORTH_TELLING_SECONDS:
            self.tell(f"{self.name}: {why}, waiting {seconds:.0f} s")
        self.pace.sleep(seconds)

    def _refused(self, error: BaseException) -> TreeringError:
        if _status(error) in (401, 403):
            own = "log in with a token that may write there: hf auth login"
            advice = own if self.token is None else "give the token of this Hub that may write there: --token-file"
            where = self.name if self.endpoint is None else f"{self.name} at {self.endpoint}"
            return InputError("the Hub does not let you write this", where=where, found=f"HTTP {_status(error)}", advice=advice)
        return explained(error, self.name, self.endpoint)


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
    """Return how long to wait: what the Hub asks for, within reason."""
    asked = None
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        asked = seconds_asked(error.response.headers)
    return otherwise if asked is None else min(asked + _SPARE_SECONDS, _LONGEST_WAIT_SECONDS)


def open_remote(
    name: str, kind: Kind, endpoint: str | None, token_file: Path | None, pace: Pace, *, private: bool = False
) -> Remote:
    """Return a repository to be written to, about which nothing has been asked yet.

    Args:
        token_file: Where the token for the Hub stands; without it, the one that the client has, for its own Hub alone.

    Raises:
        InputError: When the name is not of the form that the Hub demands, the endpoint no address, or there is no such token.
    """
    if token_file is None and endpoint is not None:
        raise InputError(
            "an address named by hand gets no token of another's",
            where=endpoint,
            advice="give its token by --token-file, or set HF_ENDPOINT to it and log in",
        )
    remote = open_to_read(name, kind, endpoint, token_file, pace)
    return replace(remote, private=private)


def open_to_read(name: str, kind: Kind, endpoint: str | None, token_file: Path | None, pace: Pace) -> Remote:
    """Return a repository to be read back; an address named by hand gets no token but the one given for it.

    Raises:
        InputError: As for `open_remote`.
    """
    repository = open_repository(name, endpoint, Path(), kind)
    token = _read_token(token_file) if token_file is not None else None if endpoint is None else False
    return Remote(name, kind, repository.endpoint, token, pace)


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("there is no token", where=path, found=error) from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("this is no token", where=path, expected="one word of ASCII characters")
    return token
