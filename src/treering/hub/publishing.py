"""Publishing: every branch in one commit, then all of it read back and compared, file by file."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from treering.errors import PublishError
from treering.hub.branches import place_of
from treering.hub.plan import PlannedBranch, PlannedFile, PlannedRepository
from treering.hub.remote import Remote, RemoteFile
from treering.hub.strangers import shown
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.branches import MAIN

_SHOWN_PROBLEMS = 12
HUBS_OWN = (".gitattributes",)  # the Hub writes it when a repository is created


@dataclass(frozen=True)
class Pushed:
    """What a repository holds, as read back: the commit of each branch, and how many of them this push made."""

    repository: str
    commits: Mapping[str, str]
    pushed: int


def push(planned: PlannedRepository, remote: Remote, tags: Sequence[str] = (), progress: Progress = SILENCE) -> Pushed:
    """Bring a repository's branches to what is planned, one commit each, read all back, and tag `main`.

    A branch that holds its files is left as it is, and of others only what differs is sent; so it is safe to repeat after any
    interruption. Branches and tags that are not planned are left alone.

    Raises:
        PublishError: When what the Hub serves is not what was planned; names branches and files.
        InputError: When the repository may not be written.
        EnvironmentMismatch: When the Hub cannot be reached, or refuses for longer than is waited for.
    """
    with progress.task(f"publish {planned.name}", len(planned.branches), "branches") as task:
        remote.note = task.note
        remote.create()
        heads, pending = remote.branches(), _branches_to_push(planned, remote)
        task.advance(len(planned.branches) - len(pending))
        remote.tell_of_waiting(len(pending))
        for branch in pending:
            task.note(branch.name)
            _push_branch(branch, remote, heads.get(branch.name))
            task.advance()
    for tag in tags:
        remote.tag(tag, remote.branches()[MAIN])
    return Pushed(planned.name, read_back(planned, remote, tags, progress), len(pending))


def read_back(
    planned: PlannedRepository, remote: Remote, tags: Sequence[str] = (), progress: Progress = SILENCE
) -> dict[str, str]:
    """List every planned branch, compare each file's digest on the server with the one planned, and return the commits.

    Raises:
        PublishError: When a branch of a step, or a file, is missing, too many, or another, or a tag is not that of `main`.
    """
    commits, names = remote.branches(), {branch.name for branch in planned.branches}
    odd = [name for name in sorted(commits.keys() - names) if place_of(name) is not None]
    problems = [f"{shown(name)} is no branch of the release: delete it" for name in odd]
    with progress.task(f"read back {planned.name}", len(planned.branches), "branches") as task:
        for branch in planned.branches:
            if branch.name not in commits:
                problems.append(f"{branch.name}: there is no such branch")
            else:
                problems += [
                    f"{branch.name}: {problem}" for problem in _differences(branch, remote.files(commits[branch.name]))
                ]
            task.advance()
    found = remote.tags() if tags else {}
    problems += [f"the tag {tag} is not that of {MAIN}" for tag in tags if found.get(tag) != commits.get(MAIN)]
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


def _branches_to_push(planned: PlannedRepository, remote: Remote) -> list[PlannedBranch]:
    """Return the branches that do not hold their files yet."""
    there = remote.branches()
    return [
        branch
        for branch in planned.branches
        if branch.name not in there or any(_differences(branch, remote.files(there[branch.name])))
    ]


def _push_branch(branch: PlannedBranch, remote: Remote, commit: str | None) -> None:
    """Push one branch."""
    if commit is None:
        commit = remote.create_branch(branch.name)
    there = remote.files(commit)
    added = {path: file for path, file in branch.files.items() if path not in there or not _is_file(file, there[path])}
    removed = sorted(there.keys() - branch.files.keys() - set(HUBS_OWN))
    if not remote.commit(branch.name, commit, {path: file.content for path, file in added.items()}, removed):
        _refuse_others(branch, remote)


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


def _is_file(file: PlannedFile, there: RemoteFile) -> bool:
    """Say whether a file of the server's is the planned one: by SHA-256, or by git's digest where it keeps no other."""
    if file.size_bytes != there.size_bytes:
        return False
    if there.sha256 is not None:
        return file.digest == f"sha256:{there.sha256}"
    content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == there.git_id
