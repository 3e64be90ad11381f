"""The parts of a request's address, and addresses of what is served."""

from urllib.parse import quote, unquote

from starlette.requests import Request

from treering.hub.serving.names import MODEL

API = "/api/{kinds}/{organisation}/{name}"
PAGES = ("/{organisation}/{name}", "/{kinds}/{organisation}/{name}")


def part(request: Request, name: str) -> str:
    """Return one part of a request's address, unquoted; empty where it has none. It is to be looked up, and is no path."""
    return unquote(request.path_params.get(name, ""))


def repository_key(request: Request) -> tuple[str, str]:
    """Return the kind, as in addresses, and the name of the repository that a request is about."""
    return part(request, "kinds") or "models", f"{part(request, 'organisation')}/{part(request, 'name')}"


def endpoint(request: Request) -> str:
    """Return this server's address, as the client has it."""
    return str(request.base_url).rstrip("/")


def page_path(kind: str, name: str) -> str:
    """Return the path of a repository's page."""
    return f"/{name}" if kind == MODEL else f"/{kind}s/{name}"


def file_path(page: str, commit: str, path: str = "") -> str:
    """Return the path of a commit's file, or what the paths of all its files begin with."""
    return f"{page}/resolve/{commit}/{quote(path)}"


def files_path(page: str, revision: str) -> str:
    """Return the path of the page of a revision's files."""
    return f"{page}/tree/{quote(revision, safe='')}"
