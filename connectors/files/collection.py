"""Small files through a site's Globus collection, where the site has no file calls of its own.

Contents go over the collection's HTTPS server; listings, folders and renames over Globus Transfer. A file is written
under a draft's name and renamed, so that a reader sees all of it or the one before. Neither way knows a file's mode:
it is as the site makes it. What is renamed is one call of the 20 in a second that Globus takes; data goes by transfers.

Options of a site with `files: collection`: none. Its `collection` and `collection_base` say where, and `globus` in the
site document says as whom.
"""

from __future__ import annotations

import hashlib
import posixpath
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import httpx

from connectors.errors import (
    BadReply,
    CredentialError,
    NotThere,
    RequestRefused,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.ends import End, NoEnd, site_end
from connectors.globus_api.faults import AlreadyThere, NeedsLogin, consent_command
from connectors.globus_api.identity import CollectionAuth
from connectors.globus_api.storage import Storage
from connectors.http import Http, Reply
from connectors.model import FileInfo, SmallFile
from connectors.paths import RESERVED, clean, file_path
from connectors.registry import SiteConfig

LARGEST = 32 << 20
"""Bytes of one write."""
CHUNK = 8 << 20
READABLE = 64 << 20
"""Bytes of a file that is read through to learn its digest."""
MOST = 200_000
"""Entries of a listing with all below it."""
DRAFT = ".crossfade-draft"
MARKER = ".crossfade-site"
SURE_FOR = 30.0
"""Seconds for which a root that was seen counts as there."""
MOST_FOLDERS = 10_000
DELETED_WITHIN = 60.0
"""Seconds that a task which deletes files is waited for."""


class CollectionFiles:
    """The port SiteFiles below one folder of a collection. Keeps no state but connections."""

    def __init__(
        self,
        api: GlobusApi,
        end: End,
        *,
        identity: str = "",
        readable: int = READABLE,
        transport: httpx.BaseTransport | None = None,
        deadline: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`identity`: what `prepare` answered; a root without it is one whose file system is away."""
        self._api, self._end, self._site, self._identity = api, end, end.side, identity
        self._storage = Storage(api, end.collection)
        self._readable, self._transport, self._deadline = readable, transport, deadline
        self._sleep, self._elapsed = sleep, elapsed
        self._lock = threading.Lock()
        self._server: Http | None = None
        self._seen_at: float | None = None
        self._folders: set[str] = set()
        """Some of those that are known to be there."""

    # -- reading -------------------------------------------------------------------------------------------

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        cleaned = file_path(path)
        if limit <= 0:
            self._size(cleaned)
            return b""
        if offset < 0:
            size = self._size(cleaned)
            offset = max(0, size + offset)
        parts: list[bytes] = []
        while limit > 0:
            part = self._range(cleaned, offset, min(limit, CHUNK))
            parts.append(part)
            if len(part) < min(limit, CHUNK):
                break
            offset, limit = offset + len(part), limit - len(part)
        return b"".join(parts)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for path in [path for path in paths if file_path(path)]:
            try:
                found[path] = self.read(path, limit=limit)
            except NotThere:
                continue
        return found

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        found: list[FileInfo] = []
        todo = [clean(path)]
        with _of(self._site):
            while todo:
                below = self._listed(todo.pop())
                found += below
                if len(found) > MOST:
                    raise BadReply(f"{self._site}: more than {MOST} entries", site=self._site)
                todo += [info.path for info in below if info.is_dir] if recursive else ()
        return sorted(found, key=lambda info: info.path)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        """By reading them. Raises RequestRefused for one that is too large for that."""
        found: dict[str, tuple[int, str]] = {}
        for path, cleaned in [(path, file_path(path)) for path in paths]:
            try:
                found[path] = self._digest(cleaned)
            except NotThere:
                continue
        return found

    # -- writing -------------------------------------------------------------------------------------------

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:  # noqa: ARG002 - no way to say it
        cleaned = _writable(path)
        if len(content) > LARGEST:
            raise RequestRefused(f"{self._site}: {path} has {len(content)} bytes; at most {LARGEST}", site=self._site)
        folder, name = posixpath.split(cleaned)
        draft = posixpath.join(folder, f".{name[:120]}.{secrets.token_hex(4)}{DRAFT}")
        with _of(self._site):
            self._put(draft, content)
            self._rename(draft, cleaned)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        for file in files:
            _writable(file.path)
        for file in files:
            self.write(file.path, file.content, mode=file.mode)

    def remove(self, paths: Sequence[str]) -> None:
        by_task: list[str] = []
        with _of(self._site):
            for path in [_writable(path) for path in paths]:
                reply = self._ask("DELETE", path, accept=(404, 405, 501))
                if reply.status in {405, 501}:
                    by_task.append(path)
            if by_task:
                self._delete(by_task)

    # -- beside the port -----------------------------------------------------------------------------------

    def prepare(self) -> str:
        """Mark the root as ours, once; answers its identity. Raises SiteError."""
        try:
            return self._marker()
        except NotThere:
            with _of(self._site):
                draft = f".{secrets.token_hex(4)}{DRAFT}"
                self._put(draft, f"{secrets.token_hex(16)}\n".encode())
                try:
                    self._storage.rename(self._end.at(draft), self._end.at(MARKER))
                except AlreadyThere:  # somebody was quicker
                    self._ask("DELETE", draft, accept=(404, 405, 501))
            return self._marker()

    def _marker(self) -> str:
        reply = self._ask("GET", MARKER, headers={"Accept": "*/*"}, accept=(404,))
        if reply.status == 404:
            raise NotThere(f"{self._site}: no marker", site=self._site)
        return reply.content[:64].decode("ascii", "replace").strip()

    def _absent(self, what: str) -> NotThere:
        """The error to raise, having seen that the root itself is there. Raises SiteUnreachable when it is not."""
        sure = self._seen_at is not None and self._elapsed() - self._seen_at < SURE_FOR
        if self._identity and not sure:
            try:
                found = self._marker()
            except NotThere:
                found = ""
            if found != self._identity:
                told = f"{self._site}: the collection shows another root than ours, or an empty one"
                raise SiteUnreachable(told, site=self._site)
            self._seen_at = self._elapsed()
        return NotThere(f"{self._site}: no {what}", site=self._site)

    # -- one call each -------------------------------------------------------------------------------------

    def _range(self, path: str, offset: int, limit: int) -> bytes:
        headers = {"Range": f"bytes={offset}-{offset + limit - 1}", "Accept": "*/*"}
        reply = self._ask("GET", path, headers=headers, accept=(404, 416))
        if reply.status == 416:
            return b""  # beyond its end
        if reply.status == 404:
            raise self._absent(f"file {path}")
        if reply.status == 206:
            if len(reply.content) > limit:
                raise BadReply(f"{self._site}: more of {path} came than was asked for", site=self._site)
            return reply.content
        return reply.content[offset : offset + limit]  # a server that knows no ranges sends it whole

    def _size(self, path: str) -> int:
        with _of(self._site):
            entry = self._storage.look(self._end.at(path))
        if entry is None or entry.is_dir:
            raise self._absent(f"file {path}")
        return entry.size

    def _listed(self, folder: str) -> Sequence[FileInfo]:
        try:
            entries = self._storage.list(self._end.at(folder))
        except NotThere:
            self._absent(f"folder {folder}")
            return ()
        found = []
        for entry in entries:
            try:
                path = clean(f"{folder}/{entry.name}" if folder else entry.name)
            except UnsafePath:
                continue  # no name that we, or a job of ours, would have given
            if not entry.name.endswith(DRAFT):
                info = FileInfo(path=path, size=entry.size, is_dir=entry.is_dir, modified_at=entry.modified_at)
                found.append(info)
        return found

    def _digest(self, path: str) -> tuple[int, str]:
        size = self._size(path)
        if size > self._readable:
            what = f"{self._site}: {path} has {size} bytes; its digest is not told there, and it is too large to read"
            raise RequestRefused(what, site=self._site)
        computed, read = hashlib.sha256(), 0
        while read < size:
            part = self._range(path, read, min(CHUNK, size - read))
            if not part:
                raise NotThere(f"{self._site}: {path} was replaced while it was read", site=self._site)
            computed.update(part)
            read += len(part)
        return size, computed.hexdigest()

    def _put(self, draft: str, content: bytes) -> None:
        folder = self._end.at(posixpath.dirname(draft))
        if folder not in self._folders:
            self._make_folder(folder)
        reply = self._ask("PUT", draft, body=content, accept=(404, 409))
        if reply.status in {404, 409}:  # somebody has removed it since
            self._make_folder(folder)
            reply = self._ask("PUT", draft, body=content, accept=(404, 409))
        if reply.status in {404, 409}:
            raise RequestRefused(f"{self._site}: {draft} is not taken ({reply.status})", site=self._site)

    def _make_folder(self, folder: str) -> None:
        self._storage.make_folders(folder)
        if len(self._folders) >= MOST_FOLDERS:
            self._folders.clear()
        self._folders.add(folder)

    def _rename(self, draft: str, path: str) -> None:
        """In place of what is there. Where the storage does not replace by itself, the old one steps aside first."""
        old, new = self._end.at(draft), self._end.at(path)
        try:
            self._storage.rename(old, new)
        except AlreadyThere:
            aside = f"{draft.removesuffix(DRAFT)}.old{DRAFT}"
            self._storage.rename(new, self._end.at(aside))
            self._storage.rename(old, new)
            self._ask("DELETE", aside, accept=(404, 405, 501))

    def _delete(self, paths: Sequence[str]) -> None:
        task = self._storage.delete([self._end.at(path) for path in paths], label="crossfade remove", recursive=False)
        until = self._elapsed() + DELETED_WITHIN
        while self._elapsed() < until:
            found = self._api.ask("look at a task", lambda client: client.get_task(task).data)
            if not isinstance(found, dict) or found.get("status") not in {"ACTIVE", "INACTIVE"}:
                return
            self._sleep(1.0)
        raise SiteUnreachable(f"{self._site}: files are not deleted after {DELETED_WITHIN:.0f} s", site=self._site)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: tuple[int, ...] = (),
    ) -> Reply:
        address = quote(self._end.at(path), safe="/")
        try:
            return self._https().ask(
                method, address, headers=headers, content=body, accept=accept, safe=method in {"GET", "PUT", "DELETE"}
            )
        except NeedsLogin:
            raise
        except SiteUnreachable as error:
            # its servers say so of paths, too, that lead through a file: the other service knows better
            if method in {"GET", "DELETE"} and getattr(error, "status", None) is not None and self._is_not_there(path):
                return Reply(status=404, headers={}, content=b"", seconds=0.0, site=self._site)
            raise
        except CredentialError as error:
            command = consent_command([f"scopes/{self._end.collection}/https"])
            raise NeedsLogin(str(error), command=command.replace("--consent", "--https")) from error

    def _is_not_there(self, path: str) -> bool:
        with _of(self._site):
            return self._storage.look(self._end.at(path)) is None

    def _https(self) -> Http:
        with self._lock:
            if self._server is not None:
                return self._server
        address = self._api.collection(self._end.collection).https
        if not address:
            what = f"{self._site}: its collection {self._end.collection} has no HTTPS server"
            raise RequestRefused(what, site=self._site)
        if not address.startswith("https://") and not self._api.at_stand_in:
            what = f"{self._site}: its collection's server is at {address[:80]!r}; a token is sent over https alone"
            raise RequestRefused(what, site=self._site)
        made = Http(
            address,
            site=self._site,
            auth=CollectionAuth(self._api.identity, self._end.collection),
            transport=self._transport,
            deadline=self._deadline,
            limit=max(LARGEST, CHUNK) + (1 << 20),
            sleep=self._sleep,
            elapsed=self._elapsed,
        )
        with self._lock:
            self._server = self._server or made
            return self._server


class _of:  # noqa: N801 - reads as words: with _of(site)
    """What Globus says in the site's name."""

    def __init__(self, site: str) -> None:
        self._site = site

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SiteError):
            error.site = self._site


def collection_files(config: SiteConfig) -> CollectionFiles:
    """From a site's entry; asks nobody yet. Raises ValueError, naming what is missing."""
    if not config.collection:
        raise ValueError(f"site {config.name}: `files: collection` needs `collection`, the UUID of one")
    try:
        end = site_end(config)
    except NoEnd as error:
        raise ValueError(str(error)) from error
    identity = config.options.get("identity", "")
    if not isinstance(identity, str):
        raise ValueError(f"site {config.name}: option identity is {identity!r}; give text")
    return CollectionFiles(GlobusApi(config.globus), end, identity=identity)


def _writable(path: str) -> str:
    """The cleaned path of a file that is not our own. Raises UnsafePath."""
    cleaned = file_path(path)
    if cleaned.split("/", 1)[0] in RESERVED:
        raise UnsafePath(f"path {path!r} belongs to the site's own records; choose another")
    return cleaned
