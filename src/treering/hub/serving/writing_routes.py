"""What is asked of a Hub by those who push: repositories, branches, tags, commits."""

import base64
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from treering.hub.serving import bodies
from treering.hub.serving.access import Access
from treering.hub.serving.addresses import API, endpoint, page_path, part, repository_key
from treering.hub.serving.arriving import blocks_of, read_body, read_lines
from treering.hub.serving.names import KINDS, MODEL, refuse_path
from treering.hub.serving.objects import Change, Commit, File, large_file
from treering.hub.serving.refusals import Refusal, no_revision
from treering.hub.serving.shelf import commit_at
from treering.hub.serving.store import Store
from treering.hub.serving.stored import Message, StoredRepository
from treering.revisions.branches import MAIN

_USER = "local"
_MOST_JSON_BYTES = 8 << 20
_MOST_CHANGES = 25_000
_MOST_COMMITS_AT_A_TIME = 4
_NO_XET = (
    "there is no Xet here: files this large come over LFS, which Hugging Face's client uses where HF_HUB_DISABLE_XET=1 is set"
)


class Writing:
    """The routes that change a store."""

    def __init__(self, store: Store, access: Access, most_inline_bytes: int) -> None:
        self._store, self._access, self._most_inline_bytes = store, access, most_inline_bytes
        self._threads = anyio.CapacityLimiter(_MOST_COMMITS_AT_A_TIME)  # a line of each may be in memory

    def routes(self) -> list[Route]:
        """Return the routes."""
        route = self._access.route
        return [
            route("GET", "/api/whoami-v2", self._whoami),
            route("POST", "/api/repos/create", self._create),
            route("DELETE", "/api/repos/delete", self._delete),
            route("POST", f"{API}/branch/{{revision}}", self._add_branch),
            route("DELETE", f"{API}/branch/{{revision}}", self._remove_branch),
            route("POST", f"{API}/tag/{{revision}}", self._add_tag),
            route("DELETE", f"{API}/tag/{{revision}}", self._remove_tag),
            route("POST", f"{API}/preupload/{{revision}}", self._plan),
            route("POST", f"{API}/commit/{{revision}}", self._commit),
            route("GET", f"{API}/xet-write-token/{{revision}}", self._xet),
        ]

    async def _whoami(self, request: Request) -> Response:  # noqa: ARG002 (a route's)
        token = {"displayName": _USER, "role": "write"}
        about = {"type": "user", "name": _USER, "fullname": _USER, "orgs": []}
        return JSONResponse({**about, "auth": {"type": "access_token", "accessToken": token}})

    async def _create(self, request: Request) -> Response:
        kind, name = await _named(request)
        url = endpoint(request) + page_path(kind, name)
        if (kind, name) in self._store.repositories:
            raise Refusal(409, "You already created this repository", about={"url": url})
        await run_in_threadpool(lambda: self._store.create(kind, name))
        return JSONResponse({"url": url, "name": name})

    async def _delete(self, request: Request) -> Response:
        kind, name = await _named(request)
        await run_in_threadpool(lambda: self._store.delete(kind, name))
        return Response()

    async def _add_branch(self, request: Request) -> Response:
        start = (await read_body(request, bodies.BranchBody, _MOST_JSON_BYTES)).startingPoint or MAIN
        return await self._change(request, lambda one, name: one.add_branch(name, start))

    async def _remove_branch(self, request: Request) -> Response:
        return await self._change(request, StoredRepository.remove_branch)

    async def _add_tag(self, request: Request) -> Response:
        tag = (await read_body(request, bodies.TagBody, _MOST_JSON_BYTES)).tag
        return await self._change(request, lambda one, revision: one.add_tag(tag, revision))

    async def _remove_tag(self, request: Request) -> Response:
        return await self._change(request, StoredRepository.remove_tag)

    async def _plan(self, request: Request) -> Response:
        """Say of each file of a push whether it is to come within the commit, and what stands under its path now."""
        planned = (await read_body(request, bodies.PlanBody, _MOST_JSON_BYTES)).files
        answers = await run_in_threadpool(
            lambda: self._answers(planned, commit_at(self._found(request), part(request, "revision")))
        )
        return JSONResponse({"files": answers})

    async def _xet(self, request: Request) -> Response:  # noqa: ARG002 (a route's)
        raise Refusal(404, _NO_XET)

    async def _commit(self, request: Request) -> Response:
        if request.query_params.get("create_pr"):
            raise Refusal(400, "there are no pull requests here: push to a branch")
        repository, branch = self._found(request), part(request, "revision")
        if branch not in repository.refs.branches:
            raise no_revision(branch)
        commit = await anyio.to_thread.run_sync(
            lambda: self._push(repository, branch, blocks_of(request)), limiter=self._threads
        )
        url = f"{endpoint(request)}{page_path(repository.kind, repository.name)}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _push(self, repository: StoredRepository, branch: str, blocks: Iterator[bytes]) -> str:
        """Keep each file of a commit as it comes, then move the branch."""
        changes: list[Change] = []
        message = None
        for line in read_lines(blocks, self._most_inline_bytes * 4 // 3 + 65_536):
            if isinstance(line, bodies.HeaderLine):
                message = Message(line.value.summary, line.value.description, line.value.parentCommit)
            else:
                changes.append(self._changed(line))
            if len(changes) > _MOST_CHANGES:
                raise Refusal(413, f"these are too many changes at once: more than {_MOST_CHANGES:,}")
        if message is None:
            raise Refusal(400, "the commit has no header")
        return repository.push(branch, changes, message)

    def _changed(self, line: bodies.SmallFileLine | bodies.LargeFileLine | bodies.DeletedLine) -> Change:
        path = line.value.path.rstrip("/") if isinstance(line, bodies.DeletedLine) else line.value.path
        refuse_path(path)
        if isinstance(line, bodies.SmallFileLine):
            return Change(path, self._store.blobs.add_small(path, self._decoded(line.value.content)))
        if isinstance(line, bodies.LargeFileLine):
            return Change(path, self._uploaded(path, line.value))
        return Change(path, None, folder=line.key == "deletedFolder")

    def _decoded(self, content: str) -> bytes:
        try:
            decoded = base64.b64decode(content, validate=True)
        except ValueError as error:
            raise Refusal(400, f"this content is not base64: {error}") from error
        if len(decoded) > self._most_inline_bytes:
            raise Refusal(413, f"this is too long to come within a commit: more than {self._most_inline_bytes:,} bytes")
        return decoded

    def _uploaded(self, path: str, file: bodies.LargeFile) -> File:
        size_bytes = self._store.blobs.size(file.oid)
        if size_bytes is None or file.size not in (None, size_bytes):
            raise Refusal(400, f"the content of {path} has not been uploaded")
        return large_file(file.oid, size_bytes)

    def _answers(self, planned: list[bodies.PlannedFile], commit: Commit) -> list[dict[str, object]]:
        return [self._answer(file, commit.files.get(file.path)) for file in planned]

    def _answer(self, planned: bodies.PlannedFile, now: File | None) -> dict[str, object]:
        refuse_path(planned.path)
        inline = planned.size <= self._most_inline_bytes
        mode = {"path": planned.path, "uploadMode": "regular" if inline else "lfs", "shouldIgnore": False}
        if now is None or now.size_bytes != planned.size:
            return mode
        # The client compares this with its own digest of the content: git's where the file is to come within the commit.
        return {**mode, "oid": self._store.blobs.content_id(now.sha256) if inline else now.sha256}

    def _found(self, request: Request) -> StoredRepository:
        kinds, name = repository_key(request)
        return self._store.find(KINDS.get(kinds, ""), name)

    async def _change(self, request: Request, change: Callable[[StoredRepository, str], None]) -> Response:
        repository = self._found(request)
        await run_in_threadpool(lambda: change(repository, part(request, "revision")))
        return JSONResponse({})


async def _named(request: Request) -> tuple[str, str]:
    body = await read_body(request, bodies.RepositoryBody, _MOST_JSON_BYTES)
    return body.type or MODEL, f"{body.organization or _USER}/{body.name}"
