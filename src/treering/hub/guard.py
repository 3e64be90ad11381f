"""A guard between a Hub and Hugging Face's client, which makes names of files of some headers as they come."""

import functools
import re
from typing import Any

from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r'(?:W/)?"?[A-Za-z0-9_-]+"?')  # whichever the Hub uses


@functools.cache
def guard_answers() -> None:
    """Have the client refuse, from now on in this process, what would make it write outside its cache.

    It takes the place of any client that was set up before with `set_client_factory`.
    """
    set_client_factory(_guarded_client)


def _guarded_client() -> Any:
    client = default_client_factory()
    client.event_hooks = {**client.event_hooks, "response": [_refuse_paths]}
    return client


def _refuse_paths(response: Any) -> None:
    """Do nothing where an answer's headers are what a Hub sends about a file.

    Raises:
        ValueError: When one that the client makes a file's name of is neither a commit nor a digest.
    """
    if response.request.method != "HEAD":  # the client asks so for what it is about to keep
        return
    headers = response.headers
    commit, digest = headers.get("X-Repo-Commit"), headers.get("X-Linked-Etag") or headers.get("ETag")
    if commit is not None and not COMMIT.fullmatch(commit):
        raise ValueError(f"{commit} is no commit")
    # An error's ETag is of its page, and nothing is kept of that.
    if response.status_code < 400 and digest is not None and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest} is no digest")
