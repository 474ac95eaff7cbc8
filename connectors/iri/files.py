"""Small files through the filesystem routes of the IRI Facility API.

Each operation is a task: asked for, then looked at until it ends. v1 reads with GET and query parameters, v2 posts
everything as JSON. Several files go up as one archive, which the site unpacks.
"""

from __future__ import annotations

import base64
import binascii
import io
import posixpath
import secrets
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from connectors.errors import BadReply, NotThere, RequestRefused, SiteError, SiteUnreachable, UnsafePath
from connectors.http import Http, Refusal
from connectors.iri.health import moment_of
from connectors.model import FileInfo, SmallFile
from connectors.paths import clean, file_path

WITH_GET = frozenset({"ls", "head", "tail", "view", "stat", "checksum", "file", "download"})
WITH_PUT = frozenset({"chmod", "chown"})
LARGEST = 5 << 20
"""Bytes of a file that the API carries."""
DEADLINE = 120.0
"""Seconds for one operation with all looks at its task."""
_ABSENT = ("not found", "no such file", "does not exist", "not a directory", "is a directory")
_ENDED = ("completed", "failed", "canceled")
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)


class IriFiles:
    """The port SiteFiles below one folder of a file system resource."""

    def __init__(
        self,
        http: Http,
        *,
        site: str,
        resource: str,
        root: str,
        dialect: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http, self._site, self._sleep = http, site, sleep
        self._resource = quote(resource, safe="")
        self._root, self._dialect = root.rstrip("/"), dialect

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        cleaned = file_path(path)
        try:
            content = self._download(cleaned)
        except RequestRefused as error:
            if offset >= 0 or "too large" not in str(error).lower():
                raise
            return self._tail(cleaned, -offset)[:limit]
        begin = max(0, len(content) + offset) if offset < 0 else offset
        return content[begin : begin + limit]

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found = {}
        for path, cleaned in [(path, file_path(path)) for path in paths]:
            try:
                found[path] = self._download(cleaned)[:limit]
            except NotThere:
                continue
        return found

    def _download(self, path: str) -> bytes:
        told = self._do("download", {"path": self._at(path)}, safe=True)
        text = told.get("output", told.get("content"))
        if not isinstance(text, str):
            raise BadReply(f"{self._site}: a download without a content", site=self._site)
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadReply(f"{self._site}: a download that is not base64", site=self._site) from error

    def _tail(self, path: str, size: int) -> bytes:
        """The end of a file that is too large to come down whole: as text, which is what logs are."""
        words = {"path": self._at(path), "bytes": min(size, LARGEST)}
        text = _output(self._do("tail", words, safe=True)).get("content")
        if not isinstance(text, str):
            raise BadReply(f"{self._site}: the end of a file without a content", site=self._site)
        return text.encode()

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        cleaned = clean(path)
        found: list[FileInfo] = []
        todo = [cleaned]
        while todo:
            below = self._listed(todo.pop())
            found += below
            if recursive:
                todo += [info.path for info in below if info.is_dir]
        return sorted(found, key=lambda info: info.path)

    def _listed(self, folder: str) -> Sequence[FileInfo]:
        try:
            told = self._do("ls", {"path": self._at(folder), "showHidden": True}, safe=True)
        except NotThere:
            return []
        output = told.get("output")
        if not isinstance(output, list):
            raise BadReply(f"{self._site}: a folder's listing is no list", site=self._site)
        return [info for item in output if (info := _info(folder, item)) is not None]

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found = {}
        for path, cleaned in [(path, file_path(path)) for path in paths]:
            try:
                size = _output(self._do("stat", {"path": self._at(cleaned)}, safe=True)).get("size")
                digest = _output(self._do("checksum", {"path": self._at(cleaned)}, safe=True)).get("checksum")
            except NotThere:
                continue
            if not isinstance(size, int) or not isinstance(digest, str):
                raise BadReply(f"{self._site}: a file without a size or digest", site=self._site)
            found[path] = (size, digest)
        return found

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        cleaned = file_path(path)
        folder, name = posixpath.split(cleaned)
        draft = posixpath.join(folder, f".{name[:200]}.{secrets.token_hex(4)}")
        self._folder(folder)
        self._upload(draft, content)
        self._do("chmod", {"path": self._at(draft), "mode": f"{mode:03o}"})
        self._do("mv", {"path": self._at(draft), "target_path": self._at(cleaned)})

    def write_many(self, files: Sequence[SmallFile]) -> None:
        cleaned = [(file_path(file.path), file) for file in files]
        for batch in _batches(cleaned):
            self._unpack(batch)

    def _unpack(self, files: Sequence[tuple[str, SmallFile]]) -> None:
        archive = f".crossfade-{secrets.token_hex(8)}.tar"
        self._folder("")
        self._upload(archive, _tar(files))
        words = {"path": self._at(archive), "target_path": self._root}
        try:
            self._do("extract", {**words, "compression": self._compression("none")})
        finally:
            self.remove([archive])

    def _compression(self, word: str) -> str:
        return word if self._dialect == "v1" else f"urn:doe-iri:compression:{word}"

    def _upload(self, path: str, content: bytes) -> None:
        if len(content) > LARGEST:
            raise RequestRefused(f"{path}: more than {LARGEST} bytes do not go through this API", site=self._site)
        upload = {"file": (posixpath.basename(path), content, "application/octet-stream")}
        self._ended(
            self._http.ask(
                "POST", f"filesystem/upload/{self._resource}", params={"path": self._at(path)}, files=upload
            ).mapping(),
            path,
        )

    def _folder(self, folder: str) -> None:
        self._do("mkdir", {"path": self._at(folder), "parent": True})

    def remove(self, paths: Sequence[str]) -> None:
        for cleaned in [file_path(path) for path in paths]:
            try:
                # `rm` takes folders with all that is in them: look first
                if (
                    _output(self._do("stat", {"path": self._at(cleaned)}, safe=True)).get("mode", 0) & 0o170000
                    == 0o040000
                ):
                    raise RequestRefused(f"{cleaned} is a folder; only files are removed", site=self._site)
                self._do("rm", {"path": self._at(cleaned)})
            except NotThere:
                continue

    # -- one operation -------------------------------------------------------------------------------------------

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _do(self, verb: str, words: Mapping[str, Any], *, safe: bool = False) -> Mapping[str, Any]:
        """Ask, and wait for the end. Raises NotThere, SiteError. Answers with the task's result."""
        route = f"filesystem/{verb}/{self._resource}"
        try:
            if self._dialect == "v2":
                reply = self._http.ask("POST", route, json=dict(words), safe=safe)
            elif verb in WITH_GET:
                reply = self._http.get(route, params={name: _plain(value) for name, value in words.items()})
            elif verb == "rm":
                reply = self._http.ask("DELETE", route, params=dict(words))
            else:
                reply = self._http.ask("PUT" if verb in WITH_PUT else "POST", route, json=dict(words))
        except Refusal as error:
            raise self._refused(error.detail, str(words.get("path"))) or error from error
        return self._ended(reply.mapping(), str(words.get("path")))

    def _ended(self, submitted: Mapping[str, Any], path: str) -> Mapping[str, Any]:
        task_id = submitted.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise BadReply(f"{self._site}: a file operation without a task", site=self._site)
        waited, turn = 0.0, 0
        while True:
            task = self._http.get(f"task/{quote(task_id, safe='')}").mapping()
            if task.get("status") in _ENDED:
                break
            pause = _PAUSES[min(turn, len(_PAUSES) - 1)]
            if waited > DEADLINE:
                raise SiteUnreachable(f"{self._site}: a file operation did not end in time", site=self._site)
            self._sleep(pause)
            waited, turn = waited + pause, turn + 1
        result = task.get("result")
        result = result if isinstance(result, dict) else {}
        if task.get("status") == "completed":
            return result
        words = next((result[name] for name in ("error", "detail", "message") if isinstance(result.get(name), str)), "")
        raise self._refused(words, path) or RequestRefused(
            f"{self._site}: {path[:200]}: {words[:200] or task.get('status')}", site=self._site
        )

    def _refused(self, words: str, path: str) -> SiteError | None:
        lower = words.lower()
        if any(word in lower for word in _ABSENT) and not lower.startswith("resource"):
            return NotThere(f"{self._site}: {path[:300]}: {words[:200]}", site=self._site)
        return None


def _info(folder: str, item: object) -> FileInfo | None:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    name = item["name"].rstrip("/").rpartition("/")[2]
    if name in {"", ".", ".."}:
        return None
    try:
        path = clean(f"{folder}/{name}")
    except UnsafePath:
        return None  # not a name that we could ever ask for
    size = item.get("size")
    number = int(size) if isinstance(size, int) or (isinstance(size, str) and size.isdecimal()) else 0
    is_dir = item.get("type") in ("directory", "dir", "d")
    modified = moment_of(item.get("last_modified")) or 0
    return FileInfo(path=path, size=0 if is_dir else number, is_dir=is_dir, modified_at=modified)


def _output(told: Mapping[str, Any]) -> Mapping[str, Any]:
    output = told.get("output")
    return output if isinstance(output, dict) else {}


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _batches(files: Sequence[tuple[str, SmallFile]]) -> list[list[tuple[str, SmallFile]]]:
    """As many files in one archive as may be carried at once."""
    batches: list[list[tuple[str, SmallFile]]] = []
    size = LARGEST
    for path, file in files:
        weight = len(file.content) + 3 * 1024 + len(path)
        if size + weight > LARGEST - 16 * 1024:
            batches.append([])
            size = 0
        batches[-1].append((path, file))
        size += weight
    return batches


def _tar(files: Sequence[tuple[str, SmallFile]]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path, file in files:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
            archive.addfile(entry, io.BytesIO(file.content))
    return content.getvalue()
