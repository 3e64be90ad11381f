"""What a Hub answers about repositories, in the form that its clients read."""

from collections.abc import Iterator
from typing import Any

from treering.hub.serving.card_metadata import card_metadata
from treering.hub.serving.names import MODEL
from treering.hub.serving.objects import Commit, File, pointer
from treering.hub.serving.shelf import Refs, Repository

_NO_DATE = "1970-01-01T00:00:00.000Z"  # a commit has no clock in it


def repository_json(repository: Repository, commit: Commit, *, with_files: bool) -> dict[str, Any]:
    """Return what is said of a repository at a commit; sizes and ids of files on demand."""
    card = card_metadata(repository, commit)
    return {
        "_id": commit.id[:24],
        "id": repository.name,
        **({"modelId": repository.name} if repository.kind == MODEL else {}),
        "author": repository.name.partition("/")[0],
        "sha": commit.id,
        "lastModified": _NO_DATE,
        "createdAt": _NO_DATE,
        **{"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0},
        "tags": [tag for tag in _items(card.get("tags")) if isinstance(tag, str)],
        **{name: card[name] for name in ("pipeline_tag", "library_name") if isinstance(card.get(name), str)},
        **({"cardData": card} if card else {}),
        "siblings": [_sibling(path, file, with_files) for path, file in sorted(commit.files.items())],
    }


def refs_json(refs: Refs) -> dict[str, Any]:
    """Return all branches and tags."""
    branches, tags = (
        [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in sorted(commits.items())]
        for kind, commits in (("heads", refs.branches), ("tags", refs.tags))
    )
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


def commit_json(commit: Commit) -> dict[str, Any]:
    """Return what is said of a commit in a branch's history."""
    return {
        "id": commit.id,
        "title": commit.title,
        "message": commit.description,
        "authors": [{"user": "treering"}],
        "date": _NO_DATE,
    }


def entries_below(commit: Commit, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return the entries of a commit's folder, or of it and all folders in it; the empty path is the whole."""
    beginning = f"{folder}/" if folder else ""
    paths = sorted(path for path in {**commit.files, **commit.trees} if path and path.startswith(beginning))
    return [
        entry
        for path in paths
        if (recursive or "/" not in path[len(beginning) :]) and (entry := entry_json(commit, path)) is not None
    ]


def entry_json(commit: Commit, path: str) -> dict[str, Any] | None:
    """Return what is said of a file or a folder of a commit, or None where there is no such path."""
    if (file := commit.files.get(path)) is not None:
        return {"type": "file", "path": path, "oid": file.git_id, "size": file.size_bytes, **dict(_large(file, "oid"))}
    if path and (tree := commit.trees.get(path)) is not None:
        return {"type": "directory", "path": path, "oid": tree, "size": 0}
    return None


def _sibling(path: str, file: File, with_files: bool) -> dict[str, Any]:
    about = {"size": file.size_bytes, "blobId": file.git_id, **dict(_large(file, "sha256"))} if with_files else {}
    return {"rfilename": path, **about}


def _large(file: File, name: str) -> Iterator[tuple[str, Any]]:
    if file.large:
        size_bytes = file.size_bytes
        yield "lfs", {name: file.sha256, "size": size_bytes, "pointerSize": len(pointer(file.sha256, size_bytes))}


def _items(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
