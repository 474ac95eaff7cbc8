"""A collection's own web server: single files, read, written and removed by whoever has its `https` scope."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from email.utils import formatdate

from sandbox.faces.http import Request, Response, answer
from sandbox.globus.auth import GlobusAuth
from sandbox.globus.collections import Collection
from sandbox.globus.service import GlobusService
from sandbox.globus.troubles import Trouble, told

BASE = "/collections/"
_BLOCK = 1 << 20
_SPAN = re.compile(r"bytes=(\d*)-(\d*)")
_STATUS = {"FILE_NOT_FOUND": 404, "PERMISSION_DENIED": 403, "INVALID_PATH_NAME": 400, "QUOTA_EXCEEDED": 507}


class HttpsAccess:
    """Below /collections/ID. Thread-safe."""

    def __init__(self, service: GlobusService, auth: GlobusAuth) -> None:
        self._service, self._auth = service, auth

    def handle(self, request: Request) -> Response:
        name, _, path = request.path.removeprefix(BASE).partition("/")
        collection = self._service.collections.get(name)
        if collection is None or not collection.https:
            return _error(404, "no such collection")
        token = self._auth.token(request.bearer)
        if token is None or token.refresh:
            return _error(401, "a token is needed")
        if token.server != collection.id or not token.allows(collection.scope("https")):
            return _error(403, "the token is not for this collection")
        try:
            match request.method:
                case "GET" | "HEAD":
                    return _read(request, collection, path)
                case "PUT":
                    return _write(request, collection, path)
                case "DELETE":
                    return _remove(collection, path)
        except Trouble as trouble:
            return _error(_STATUS.get(trouble.code, 502), str(trouble))
        return _error(405, "no such method")


def _read(request: Request, collection: Collection, path: str) -> Response:
    with collection.tree() as tree, told():
        fd = tree.open(collection.inside(path))
    facts = os.fstat(fd)
    headers = {
        "content-type": "application/octet-stream",
        "accept-ranges": "bytes",
        "last-modified": formatdate(facts.st_mtime, usegmt=True),
        "etag": f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"',
    }
    start, end, status = 0, facts.st_size, 200
    span = _span(request.headers.get("range", ""), facts.st_size)
    if span is not None:
        start, end = span
        if start >= facts.st_size:
            os.close(fd)
            return Response(status=416, headers={**headers, "content-range": f"bytes */{facts.st_size}"})
        headers["content-range"] = f"bytes {start}-{end - 1}/{facts.st_size}"
        status = 206
    headers["content-length"] = str(end - start)
    parts = _Parts(fd, start, end)
    if request.method == "HEAD":
        parts.close()
        return Response(status=status, headers=headers)
    return Response(status=status, headers=headers, parts=parts)


class _Parts:
    """A file, block by block; closed when it is read, or when the server lets go of it."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd, self._at, self._end = fd, start, end

    def __iter__(self) -> Iterator[bytes]:
        while self._fd >= 0 and self._at < self._end:
            block = os.pread(self._fd, min(_BLOCK, self._end - self._at), self._at)
            if not block:
                break
            self._at += len(block)
            yield block
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _span(text: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one behind the last; None: no range, or none that is understood, which means all."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start = int(found[1])
    end = min(size, int(found[2]) + 1) if found[2] else size
    return (start, end) if start < end or start >= size else None


def _write(request: Request, collection: Collection, path: str) -> Response:
    collection.book(len(request.body))
    with collection.tree() as tree, told():
        tree.write(collection.writable(path), request.body)
    return Response(status=200)


def _remove(collection: Collection, path: str) -> Response:
    with collection.tree() as tree, told():
        os.close(tree.open(collection.writable(path)))
        tree.remove(collection.writable(path))
    return Response(status=204)


def _error(status: int, text: str) -> Response:
    return answer({"code": str(status), "message": text}, status)
