"""What a request is told where it does not get what it asks for, in the words that the Hub's clients understand."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from treering.errors import InputError

_LONGEST_HEADER = 500


class Refusal(InputError):
    """A request is not answered as it wishes; clients go by `code`, and `about` has further entries of the answer."""

    def __init__(
        self,
        status: int,
        problem: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        self.about = dict(about or {})
        super().__init__(problem)

    def answer(self) -> JSONResponse:
        """Return it as an answer over HTTP."""
        return error_answer(self.status, self.problem, self.headers | _code(self.code), self.about)


def error_answer(
    status: int, problem: str, headers: Mapping[str, str] | None = None, about: Mapping[str, Any] | None = None
) -> JSONResponse:
    """Return an answer that says what is wrong both where people look and where the Hub's clients do."""
    message = problem.encode("ascii", "replace").decode()
    shown = "".join(character if character.isprintable() else " " for character in message)[:_LONGEST_HEADER]
    return JSONResponse({**(about or {}), "error": problem}, status, {"X-Error-Message": shown, **(headers or {})})


def no_repository(name: str) -> Refusal:
    """Return what is said where there is no repository of this name."""
    return Refusal(404, f"there is no repository {name} here", code="RepoNotFound")


def no_revision(revision: str) -> Refusal:
    """Return what is said where a repository has no such branch, tag or commit."""
    return Refusal(404, f"there is no revision {revision} here", code="RevisionNotFound")


def no_entry(path: str, commit: str) -> Refusal:
    """Return what is said where a commit has no such file or folder; a client keeps in mind that this commit has not."""
    return Refusal(404, f"there is no {path} here", code="EntryNotFound", headers={"X-Repo-Commit": commit})


def _code(code: str | None) -> dict[str, str]:
    return {} if code is None else {"X-Error-Code": code}
