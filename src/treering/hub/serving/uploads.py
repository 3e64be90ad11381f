"""Contents of large files, before the commits that name them: git's protocol for large files, in its basic form."""

from urllib.parse import urlencode

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from treering.hub.serving.access import Access
from treering.hub.serving.addresses import PAGES, endpoint, part, repository_key
from treering.hub.serving.arriving import blocks_of, read_body
from treering.hub.serving.bodies import BatchBody, LargeObject
from treering.hub.serving.names import KINDS
from treering.hub.serving.refusals import Refusal
from treering.hub.serving.store import Store

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_MOST_JSON_BYTES = 1 << 20
_MOST_AT_A_TIME = 32
_UPLOAD = "/api/lfs/{sha256}/{size_bytes}"


class Uploads:
    """The routes by which contents come."""

    def __init__(self, store: Store, access: Access, most_bytes: int) -> None:
        self._store, self._access, self._most_bytes = store, access, most_bytes
        self._threads = anyio.CapacityLimiter(_MOST_AT_A_TIME)  # their own, so that slow uploads take none from others

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            *(self._access.route("POST", f"{page}.git/info/lfs/objects/batch", self._batch) for page in PAGES),
            self._access.route("POST", "/api/lfs/verify", self._verify),
            Route(_UPLOAD, self._upload, methods=["PUT"]),  # its own permit
        ]

    async def _batch(self, request: Request) -> Response:
        """Say of each content whether it is here, or where it is to be uploaded to."""
        kinds, name = repository_key(request)
        self._store.find(KINDS.get(kinds, ""), name)
        asked = await read_body(request, BatchBody, _MOST_JSON_BYTES)
        if asked.operation != "upload" or asked.hash_algo != "sha256":
            raise Refusal(422, "expected an upload by SHA-256; to download, ask for the file itself")
        objects = [self._instruction(one, endpoint(request)) for one in asked.objects]
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type=_MEDIA_TYPE)

    def _instruction(self, asked: LargeObject, here: str) -> dict[str, object]:
        about: dict[str, object] = {"oid": asked.oid, "size": asked.size}
        if asked.size > self._most_bytes:
            return {**about, "error": {"code": 422, "message": f"this is too long: more than {self._most_bytes:,} bytes"}}
        if self._store.blobs.size(asked.oid) == asked.size:
            return about
        permit = urlencode({"permit": self._access.permit(asked.oid, asked.size)})
        href = here + _UPLOAD.format(sha256=asked.oid, size_bytes=asked.size)
        return {**about, "actions": {"upload": {"href": f"{href}?{permit}"}, "verify": {"href": f"{here}/api/lfs/verify"}}}

    async def _upload(self, request: Request) -> Response:
        sha256, size = part(request, "sha256"), part(request, "size_bytes")
        size_bytes = int(size) if size.isascii() and size.isdigit() and len(size) < 19 else -1
        self._access.refuse_strangers(request.query_params.get("permit", ""), sha256, size_bytes)
        await anyio.to_thread.run_sync(
            lambda: self._store.blobs.add(blocks_of(request), size_bytes, sha256), limiter=self._threads
        )
        return Response()

    async def _verify(self, request: Request) -> Response:
        asked = await read_body(request, LargeObject, _MOST_JSON_BYTES)
        if self._store.blobs.size(asked.oid) != asked.size:
            raise Refusal(404, "this content has not come")
        return JSONResponse({})
