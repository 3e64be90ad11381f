"""Who may write: whoever brings the token, and to one place of a large file whoever was told its address."""

import functools
import hmac
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treering.errors import InputError
from treering.hub.serving.refusals import Refusal

_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 1000
Answer = Callable[[Request], Awaitable[Response]]
# Without these words Hugging Face's client takes a wrong token for a missing repository.
_CLIENTS_WORDS = {"X-Error-Message": "Invalid credentials in Authorization header", "WWW-Authenticate": "Bearer"}


def new_token() -> str:
    """Return a token that nobody can guess."""
    return f"treering_{secrets.token_hex(20)}"


def read_token(path: Path) -> str:
    """Return the token that a file holds, without the spaces and line ends around it.

    Raises:
        InputError: When there is no such file, or what it holds is too short, too long or no word that a header can have.
    """
    try:
        token = path.read_bytes()[: _LONGEST_TOKEN + 1].decode("ascii", "replace").strip()
    except OSError as error:
        raise InputError("the token cannot be read", where=path, found=error.strerror) from error
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        expected = f"{_SHORTEST_TOKEN} to {_LONGEST_TOKEN} ASCII characters without spaces"
        raise InputError("this is no token", where=path, expected=expected, found=f"{len(token)} characters")
    return token


class Access:
    """A token, and permits for single uploads that follow from a secret of this process."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._secret = secrets.token_bytes(32)

    def route(self, method: str, path: str, answer: Answer) -> Route:
        """Return a route that answers those who bring the token."""

        @functools.wraps(answer)
        async def guarded(request: Request) -> Response:
            brought = request.headers.get("authorization", "").encode("utf-8", "replace")
            if not hmac.compare_digest(brought, self._expected):
                problem = "the token is missing" if not brought else "this is not the token"
                raise Refusal(401, f"{problem}: bring the one that `treering serve` printed", headers=_CLIENTS_WORDS)
            return await answer(request)

        return Route(path, guarded, methods=[method])

    def permit(self, sha256: str, size_bytes: int) -> str:
        """Return what makes an address one to upload this content to; clients bring no token there."""
        return hmac.new(self._secret, f"{sha256} {size_bytes}".encode(), "sha256").hexdigest()

    def refuse_strangers(self, permit: str, sha256: str, size_bytes: int) -> None:
        """Do nothing where a permit is that of this content.

        Raises:
            Refusal: When it is not.
        """
        if not hmac.compare_digest(permit.encode("utf-8", "replace"), self.permit(sha256, size_bytes).encode()):
            raise Refusal(403, "this is no address that an upload was told to go to")
