"""Names that the Hub allows for repositories, branches and files."""

import re

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from treering.hub.serving.refusals import Refusal

MODEL, DATASET = "model", "dataset"
KINDS = {"models": MODEL, "datasets": DATASET}  # as addresses have them
COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"(?!refs/)[A-Za-z0-9_][\w.+=-]*(?:/[A-Za-z0-9_][\w.+=-]*)*", re.ASCII)
_RESERVED = ("api", *KINDS, "spaces", "kernels", "buckets")  # with which other addresses begin
_FORBIDDEN_PARTS = ("", ".", "..", ".git", ".cache")
_LONGEST_NAME, _LONGEST_PATH, _LONGEST_PART, _DEEPEST_PATH = 250, 1000, 240, 24


def refuse_repository_name(name: str) -> None:
    """Do nothing where a name is one that the Hub allows for a repository, organisation and all.

    Raises:
        Refusal: When it is not.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise Refusal(400, f"this is no name of a repository: {error}") from error
    organisation, slash, _ = name.partition("/")
    if not slash or organisation in _RESERVED:
        raise Refusal(400, f"this is no name of a repository: expected ORG/NAME, found {name!r}")


def refuse_revision_name(name: str) -> None:
    """Do nothing where a branch or a tag may have this name.

    Raises:
        Refusal: When it may not.
    """
    odd = ".." in name or name.endswith(".") or any(part.endswith(".lock") for part in name.split("/"))
    if odd or len(name) > _LONGEST_NAME or COMMIT.fullmatch(name) or not _REVISION.fullmatch(name):
        raise Refusal(400, f"this is no name of a branch or a tag: {name[:_LONGEST_NAME]!r}")


def refuse_path(path: str) -> None:
    """Do nothing where a file of a repository may have this path, on any system that it is downloaded to.

    Raises:
        Refusal: When it may not: it is absolute, leads out of the repository, or has characters that are none of a name.
    """
    parts = path.split("/")
    odd = not path.isprintable() or "\\" in path or any(part.lower() in _FORBIDDEN_PARTS for part in parts)
    long = (
        len(path) > _LONGEST_PATH
        or len(parts) > _DEEPEST_PATH
        or any(len(part.encode("utf-8", "replace")) > _LONGEST_PART for part in parts)
    )
    if odd or long:
        raise Refusal(400, f"this is no path of a file in a repository: {path[:_LONGEST_PART]!r}")
