"""What can go wrong between Hugging Face's client and a Hub, as a user should read it."""

from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] (of the library it speaks HTTP with, which has had two names)
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from treering.errors import EnvironmentMismatch, InputError, TreeringError

_SHOWN_CHARACTERS = 200
_AGAIN = "run the same command again: what is whole is kept"
ODD_ANSWER = (ValueError, KeyError, TypeError)  # what the client meets in an answer of another form
_NOT_THERE = {
    GatedRepoError: ("this repository is gated", "ask for access on its page, then {login}"),
    RepositoryNotFoundError: (
        "there is no such folder here, and no such repository on the Hub, or it is private",
        "check its name; if it is private, {login}",
    ),
    RevisionNotFoundError: ("the repository no longer has this commit", "run the same command again"),
    DisabledRepoError: ("this repository has been disabled", "choose another release"),
}
_NO_ANSWERS = (
    (OfflineModeIsEnabled, "the Hub may not be asked: its client is set to offline", "unset HF_HUB_OFFLINE, or give a folder"),
    ((HTTPError, TimeoutError), "the Hub cannot be reached", f"check the connection and the endpoint, then {_AGAIN}"),
    (ODD_ANSWER, "the answer is not a Hub's", "check the endpoint"),
)


def explained(error: BaseException, name: str, endpoint: str | None) -> TreeringError:
    """Return what an error of the client means to a user; what a server wrote is not in it as it came.

    Args:
        name: The repository's.
        endpoint: The Hub's address, None for the one that the client is set to.
    """
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return explained(error.__cause__, name, endpoint)  # the cache was looked into because the Hub did not answer
    where = name if endpoint is None else f"{name} at {endpoint}"
    for kind, (problem, advice) in _NOT_THERE.items():
        if isinstance(error, kind):
            return InputError(problem, where=where, advice=advice.format(login=_login(endpoint)))
    if isinstance(error, HfHubHTTPError):
        return _refused(error.response.status_code, where, endpoint)
    for kinds, problem, advice in _NO_ANSWERS:
        if isinstance(error, kinds):
            return EnvironmentMismatch(problem, where=where, found=ascii(error)[:_SHOWN_CHARACTERS], advice=advice)
    return EnvironmentMismatch("the download failed", where=where, found=ascii(error)[:_SHOWN_CHARACTERS], advice=_AGAIN)


def _refused(status: int, where: str, endpoint: str | None) -> TreeringError:
    found = f"HTTP {status}"
    if status in (401, 403):
        return InputError("the Hub does not let you read this", where=where, found=found, advice=_login(endpoint))
    if 400 <= status < 429:
        return EnvironmentMismatch("the answer is not a Hub's", where=where, found=found, advice="check the endpoint")
    problem = "the Hub has had too many requests from here" if status == 429 else "the Hub answers with an error"
    return EnvironmentMismatch(problem, where=where, found=found, advice=f"wait some minutes, then {_AGAIN}")


def _login(endpoint: str | None) -> str:
    if endpoint is None:
        return "log in: hf auth login"
    return "set HF_ENDPOINT to this address and log in: one named by hand gets no token"
