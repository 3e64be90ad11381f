"""Publishing: every branch in one commit, then all of it read back and compared, file by file."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from treering.errors import PublishError
from treering.hub.plan import PlannedBranch, PlannedRepository
from treering.hub.remote import Remote, RemoteFile
from treering.provenance.digests import digest_file
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.branches import MAIN

_SHOWN_PROBLEMS = 12
HUBS_OWN = (".gitattributes",)  # the Hub writes it when a repository is created


@dataclass(frozen=True)
class Published:
    """What a repository holds, as read back: the commit of each branch, and how many of them this push made."""

    repository: str
    commits: Mapping[str, str]
    pushed: int


def push(planned: PlannedRepository, remote: Remote, tags: Sequence[str] = (), progress: Progress = SILENCE) -> Published:
    """Bring a repository's branches to what is planned, one commit each, read all back, and tag `main`.

    A branch that holds its files is left as it is, and of others only what differs is sent; so it is safe to repeat after any
    interruption. Branches and tags that are not planned are left alone.

    Raises:
        PublishError: When what the Hub serves is not what was planned; names branches and files.
        InputError: When the repository may not be written.
        EnvironmentMismatch: When the Hub cannot be reached, or refuses for longer than is waited for.
    """
    with progress.task(f"publish {planned.name}", len(planned.branches), "branches") as task:
        remote.note, pushed = task.note, 0
        remote.create()
        there = remote.branches()
        for branch in planned.branches:
            task.note(branch.name)
            pushed += _push_branch(branch, remote, there.get(branch.name))
            task.advance()
    commits = read_back(planned, remote, progress)
    for tag in tags:
        remote.tag(tag, commits[MAIN])
    return Published(planned.name, commits, pushed)


def read_back(planned: PlannedRepository, remote: Remote, progress: Progress = SILENCE) -> dict[str, str]:
    """List every planned branch, compare each file's digest on the server with the file here, and return the commits.

    Raises:
        PublishError: When a branch or a file is missing, too many, or another.
    """
    commits, problems = remote.branches(), list[str]()
    with progress.task(f"read back {planned.name}", len(planned.branches), "branches") as task:
        for branch in planned.branches:
            if branch.name not in commits:
                problems.append(f"{branch.name}: there is no such branch")
            else:
                problems += [
                    f"{branch.name}: {problem}" for problem in _differences(branch, remote.files(commits[branch.name]))
                ]
            task.advance()
    refuse_others(planned.name, f"{len(planned.branches)} branches, each file as it is here", problems)
    return {branch.name: commits[branch.name] for branch in planned.branches}


def refuse_others(where: str, expected: str, problems: Sequence[str]) -> None:
    """Do nothing where nothing on a Hub is other than it should be.

    Raises:
        PublishError: When something is; names the first of them.
    """
    if problems:
        more = [f"… and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
        raise PublishError(
            "what the Hub serves is not the release",
            where=where,
            expected=expected,
            found="; ".join([*problems[:_SHOWN_PROBLEMS], *more]),
            advice="publish again from the run: what is right there is left alone",
        )


def branches_to_push(planned: PlannedRepository, remote: Remote) -> list[str]:
    """Return the branches that do not hold their files yet."""
    there = remote.branches()
    return [
        branch.name
        for branch in planned.branches
        if branch.name not in there or any(_differences(branch, remote.files(there[branch.name])))
    ]


def _push_branch(branch: PlannedBranch, remote: Remote, commit: str | None) -> bool:
    """Push one branch where it differs; return whether anything was pushed."""
    there = {} if commit is None else remote.files(commit)
    added = {path: file for path, file in branch.files.items() if path not in there or not _is_file(file, there[path])}
    removed = sorted(there.keys() - branch.files.keys() - set(HUBS_OWN))
    if not added and not removed:
        return False
    if commit is None:
        commit = remote.create_branch(branch.name)
        removed = sorted(remote.files(commit).keys() - branch.files.keys() - set(HUBS_OWN))
    if not remote.commit(branch.name, commit, added, removed):
        _refuse_others(branch, remote)
    return True


def _refuse_others(branch: PlannedBranch, remote: Remote) -> None:
    """Do nothing where a branch moved because its commit was made though the answer was lost.

    Raises:
        PublishError: When somebody else moved it.
    """
    if problem := next(_differences(branch, remote.files(remote.branches()[branch.name])), None):
        raise PublishError(
            "a branch was changed by somebody else while it was pushed",
            where=branch.name,
            found=problem,
            advice="see who writes there, then publish again",
        )


def _differences(branch: PlannedBranch, there: Mapping[str, RemoteFile]) -> Iterator[str]:
    for path in sorted(branch.files.keys() - there.keys()):
        yield f"{path} is missing"
    for path in sorted(there.keys() - branch.files.keys() - set(HUBS_OWN)):
        yield f"{path} is no file of the release"
    for path in sorted(branch.files.keys() & there.keys()):
        if not _is_file(branch.files[path], there[path]):
            yield f"{path} is another file"


@cache
def _digest(path: Path, size_bytes: int, changed: int) -> str:  # noqa: ARG001 (it is read once for each state)
    return digest_file(path)


def _is_file(path: Path, there: RemoteFile) -> bool:
    """Say whether a file of the server's is one of this machine's: by SHA-256, or by git's digest where it keeps no other."""
    stat = path.stat()
    if stat.st_size != there.size_bytes:
        return False
    if there.sha256 is not None:
        return _digest(path, stat.st_size, stat.st_mtime_ns) == f"sha256:{there.sha256}"
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == there.git_id
