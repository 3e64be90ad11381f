"""What is asked of a Hub by those who read: repositories, revisions, trees, files."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from treering.hub.plan import KINDS as RELEASE_KINDS
from treering.hub.serving.addresses import API, PAGES, endpoint, part, repository_key
from treering.hub.serving.answers import commit_json, entries_below, entry_json, refs_json, repository_json
from treering.hub.serving.arriving import read_body, read_paths
from treering.hub.serving.bodies import YamlBody
from treering.hub.serving.card_metadata import metadata_problem, split_card
from treering.hub.serving.names import KINDS, MODEL
from treering.hub.serving.objects import Commit, File
from treering.hub.serving.page import files_page, front_page, page_headers, repository_page
from treering.hub.serving.refusals import Refusal, no_entry, no_repository
from treering.hub.serving.shelf import Repository, Shelf, commit_at
from treering.revisions.branches import MAIN

_MOST_JSON_BYTES = 4 << 20
_MOST_PATHS = 2000
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)
# Shown by browsers, since they can run nothing; all else is something to download.
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}


class Reading:
    """The routes that show what is on a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def routes(self) -> list[Route]:
        """Return the routes; they match addresses as they come, each part still quoted."""
        return [
            Route("/", self._front),
            Route(API, self._repository),
            Route(f"{API}/revision/{{revision}}", self._repository),
            Route(f"{API}/refs", self._refs),
            Route(f"{API}/commits/{{revision}}", self._commits),
            Route(f"{API}/tree/{{revision}}", self._tree),
            Route(f"{API}/tree/{{revision}}/{{path:path}}", self._tree),
            Route(f"{API}/paths-info/{{revision}}", self._paths, methods=["POST"]),
            Route("/api/validate-yaml", self._validate, methods=["POST"]),
            *(Route(f"{page}/resolve/{{revision}}/{{path:path}}", self._file) for page in PAGES),
            *(Route(f"{page}/tree/{{revision}}", self._files) for page in PAGES),
            *(Route(page, self._page) for page in PAGES),
        ]

    def _found(self, request: Request) -> Repository:
        kinds, name = repository_key(request)
        found = self._shelf.repositories.get((KINDS.get(kinds, ""), name))
        if found is None:
            raise no_repository(name)
        return found

    def _found_commit(self, request: Request) -> tuple[Repository, Commit]:
        repository = self._found(request)
        return repository, commit_at(repository, part(request, "revision") or MAIN)

    def _front(self, request: Request) -> Response:
        """Show all repositories, or one where the others are of its release."""
        repositories = sorted(self._shelf.repositories.values(), key=lambda one: (one.name, one.kind))
        for one in repositories:
            beside = self._beside(one)
            if len(beside) == len(repositories) - 1:
                return HTMLResponse(repository_page(one, endpoint(request), beside), headers=page_headers())
        return HTMLResponse(front_page(repositories, endpoint(request)), headers=page_headers())

    def _page(self, request: Request) -> Response:
        found = self._found(request)
        return HTMLResponse(repository_page(found, endpoint(request), self._beside(found)), headers=page_headers())

    def _files(self, request: Request) -> Response:
        repository, commit = self._found_commit(request)
        return HTMLResponse(files_page(repository, part(request, "revision"), commit), headers=page_headers())

    def _beside(self, model: Repository) -> list[Repository]:
        """Return what is published beside a model."""
        there = self._shelf.repositories
        keys = [(kind, f"{model.name}{suffix}") for suffix, kind in RELEASE_KINDS.items() if suffix and model.kind == MODEL]
        return [there[key] for key in keys if key in there]

    def _repository(self, request: Request) -> Response:
        return JSONResponse(repository_json(*self._found_commit(request), with_files="blobs" in request.query_params))

    def _refs(self, request: Request) -> Response:
        return JSONResponse(refs_json(self._found(request).refs))

    def _commits(self, request: Request) -> Response:
        repository, commit = self._found_commit(request)
        history: list[dict[str, Any]] = [commit_json(commit)]
        while commit.parent is not None and (before := repository.commit(commit.parent)) is not None:
            commit = before
            history.append(commit_json(commit))
        return JSONResponse(history)

    def _tree(self, request: Request) -> Response:
        _, commit = self._found_commit(request)
        path = part(request, "path").rstrip("/")
        recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        if path not in commit.trees:
            raise no_entry(path, commit.id)
        return JSONResponse(entries_below(commit, path, recursive=recursive))

    async def _paths(self, request: Request) -> Response:
        asked = await read_paths(request, _MOST_JSON_BYTES)
        if len(asked.paths) > _MOST_PATHS:
            raise Refusal(413, f"these are too many paths: more than {_MOST_PATHS:,}")
        _, commit = await run_in_threadpool(self._found_commit, request)
        found = (entry_json(commit, path.strip("/")) for path in asked.paths)
        return JSONResponse([entry for entry in found if entry is not None])

    async def _validate(self, request: Request) -> Response:
        card = split_card((await read_body(request, YamlBody, _MOST_JSON_BYTES)).content)
        if card.metadata is None:
            return JSONResponse({"errors": [], "warnings": [{"message": "the card has no metadata"}]})
        problem = await run_in_threadpool(lambda: metadata_problem(card.metadata or ""))
        if problem is not None:
            raise Refusal(400, problem, about={"errors": [{"message": problem}], "warnings": []})
        return JSONResponse({"errors": [], "warnings": []})

    def _file(self, request: Request) -> Response:
        repository, commit = self._found_commit(request)
        path = part(request, "path")
        if (file := commit.files.get(path)) is None:
            raise no_entry(path, commit.id)
        place = repository.content(file)
        stat = _unchanged(place, file)
        _refuse_range(request.headers.get("range"), file.size_bytes)
        media_type = _PICTURES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")
        headers = {"X-Repo-Commit": commit.id, **_file_headers(path, file)}
        return FileResponse(place, headers=headers, media_type=media_type, stat_result=stat)


def _file_headers(path: str, file: File) -> dict[str, str]:
    name = quote(PurePosixPath(path).name, safe="")
    headers = {"ETag": f'"{file.etag}"', "Content-Disposition": f"inline; filename*=UTF-8''{name}"}
    return headers | ({"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size_bytes)} if file.large else {})


def _unchanged(place: Path, file: File) -> os.stat_result:
    """Return what the system says of a content.

    Raises:
        Refusal: When it is gone, or has not the size that it should have.
    """
    try:
        stat = place.stat()
    except OSError as error:
        raise Refusal(410, "the content of this file can no longer be read") from error
    if stat.st_size != file.size_bytes:
        raise Refusal(410, "the content of this file is no longer what it was")
    return stat


def _refuse_range(asked: str | None, size_bytes: int) -> None:
    """Do nothing where no part of a file is asked for, or one range of bytes that it has.

    Raises:
        Refusal: When anything else is asked for.
    """
    match = None if asked is None else _RANGE.fullmatch(asked)
    if asked is None or (match and _begins_inside(match, size_bytes)):
        return
    raise Refusal(416, "this is no range of the file", headers={"Content-Range": f"bytes */{size_bytes}"})


def _begins_inside(asked: re.Match[str], size_bytes: int) -> bool:
    start, end, last = asked.groups()
    if start is None:
        return int(last) > 0 and size_bytes > 0
    return int(start) < size_bytes and int(start) <= int(end or size_bytes)
