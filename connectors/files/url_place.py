"""A place that is read over HTTP: an archive's export, a catalogue's downloads. Never written, listed or removed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import httpx

from connectors.errors import BadReply, NotThere, RequestRefused
from connectors.http import Http
from connectors.model import FileInfo
from connectors.paths import clean, file_path
from connectors.registry import PlaceSetup

CHUNK = 8 << 20
"""Bytes asked for at a time; a server that knows no ranges sends the whole file at once, and may send `LARGEST`."""
LARGEST = 64 << 20
READABLE = 1 << 30
"""Bytes of a file that is read through to learn its digest: HTTP tells none."""


class UrlPlace:
    """As much of the port SiteFiles as reading known files takes. Who wants a folder must name its files."""

    def __init__(self, side: str, base: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._side = side
        self._http = Http(base=base, site=side, transport=transport, limit=LARGEST, headers={"Accept": "*/*"})

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        parts: list[bytes] = []
        while limit > 0:
            part = self._part(path, offset, min(limit, CHUNK))
            parts.append(part)
            offset, limit = offset + len(part), limit - len(part)
            if len(part) < CHUNK:
                break
        return b"".join(parts)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for path in paths:
            try:
                found[path] = self.read(path, limit=limit)
            except NotThere:
                continue
        return found

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        """What is beside a file nobody can tell; a whole folder cannot be asked for."""
        clean(path)
        if recursive:
            raise RequestRefused(f"{self._side}: a folder cannot be listed over HTTP; name its files", site=self._side)
        return []

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        """By reading them. Raises RequestRefused for one that is too large for that."""
        found: dict[str, tuple[int, str]] = {}
        for path in paths:
            seen, size = hashlib.sha256(), 0
            try:
                for part in self._parts(path):
                    seen.update(part)
                    size += len(part)
            except NotThere:
                continue
            found[path] = size, seen.hexdigest()
        return found

    def remove(self, paths: Sequence[str]) -> None:
        if paths:
            raise RequestRefused(f"{self._side}: nothing is removed over HTTP", site=self._side)

    # -- one call each -----------------------------------------------------------------------------------------

    def _parts(self, path: str) -> Iterator[bytes]:
        offset = 0
        while True:
            part = self._part(path, offset, CHUNK)
            offset += len(part)
            if offset > READABLE:
                raise RequestRefused(f"{self._side}: {path} is too large to be read over HTTP", site=self._side)
            yield part
            if len(part) < CHUNK:
                return

    def _part(self, path: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from there; fewer: it ends there. Raises NotThere."""
        asked = {"Range": f"bytes={offset}-{offset + size - 1}"}
        reply = self._http.get(f"/{quote(file_path(path))}", headers=asked, accept=(404, 410, 416))
        if reply.status in (404, 410):
            raise NotThere(f"{self._side}: no file {path}", site=self._side)
        if reply.status == 416:
            return b""  # beyond its end
        if reply.status != 206:
            return reply.content[offset : offset + size]
        if len(reply.content) > size:
            raise BadReply(f"{self._side}: more of {path} came than was asked for", site=self._side)
        return reply.content


def make_place(setup: PlaceSetup) -> UrlPlace:
    """From an entry of the site document; asks nobody yet. Raises ValueError for an address that is none."""
    config = setup.config
    below = clean(config.path) if config.path not in ("", "/") else ""
    base = f"{config.url.rstrip('/')}/{quote(below)}".rstrip("/")
    try:
        return UrlPlace(config.side, base)
    except RequestRefused as error:
        raise ValueError(f"place {config.name}: {error}") from error
