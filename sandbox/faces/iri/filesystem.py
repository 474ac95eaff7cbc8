"""File operations: `/filesystem/{op}/{resource}`, each of which becomes a task."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import io
import posixpath
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.errors import NotThere, UnsafePath
from connectors.model import FileInfo
from sandbox.faces.http import Request, Response, answer
from sandbox.faces.iri.links import Links, iso
from sandbox.faces.iri.problems import Problem, document, known_parameters
from sandbox.faces.iri.profiles import IriProfile
from sandbox.faces.iri.tasks import Tasks
from sandbox.facility import Facility

LARGEST = 5 << 20
_READS: Mapping[str, tuple[str, ...]] = {
    "ls": ("path", "showHidden", "numericUid", "recursive", "dereference"),
    "head": ("path", "bytes", "lines", "skipTrailing"),
    "tail": ("path", "bytes", "lines", "skipHeading"),
    "view": ("path", "size", "offset"),
    "stat": ("path", "dereference"),
    "checksum": ("path",),
    "file": ("path",),
    "download": ("path",),
}
_WRITES: Mapping[str, tuple[str, ...]] = {
    "chmod": ("mode",),
    "chown": ("owner", "group"),
    "mkdir": ("parent",),
    "symlink": ("link_path",),
    "mv": ("target_path",),
    "cp": ("target_path", "dereference"),
    "compress": ("target_path", "match_pattern", "dereference", "compression"),
    "extract": ("target_path", "compression"),
    "rm": (),
}
_CREATES = frozenset({"mkdir", "symlink", "compress", "extract", "mv", "cp"})
_MODES = {"none": "", "gzip": "gz", "bzip2": "bz2", "xz": "xz"}


class Failed(Exception):
    """The operation failed, and says why."""


class Filesystem:
    """The routes."""

    def __init__(self, facility: Facility, profile: IriProfile, tasks: Tasks) -> None:
        self._facility, self._profile, self._tasks = facility, profile, tasks

    def handle(self, request: Request, words: Sequence[str], user: str, links: Links) -> Response:
        if len(words) != 2 or words[0] not in {*_READS, *_WRITES, "upload"}:
            raise Problem(404, "Not Found")
        verb, resource = words
        if resource not in {item.id for item in self._profile.resources}:
            raise Problem(404, f"Resource {resource[:80]} not found")
        if request.method != self._method(verb):
            raise Problem(405, "Method Not Allowed")
        told = self._told(request, verb)
        task = self._tasks.add(user, verb, {k: v for k, v in told.items() if k != "content"}, self._worker(verb, told))
        return answer({"task_id": task, "task_uri": links.to(f"task/{task}")}, 201 if verb in _CREATES else 200)

    def _method(self, verb: str) -> str:
        if self._profile.version == "v2" or verb in {"upload", *_CREATES}:
            return "POST"
        if verb in _READS:
            return "GET"
        return "DELETE" if verb == "rm" else "PUT"

    def _told(self, request: Request, verb: str) -> dict[str, Any]:
        """What the request says, checked. Raises Problem."""
        if verb == "upload":
            known_parameters(request, ("path",))
            return {"path": _path(request.first("path")), "content": _uploaded(request)}
        if self._profile.version == "v1" and (verb in _READS or verb == "rm"):
            known_parameters(request, _READS.get(verb, ("path",)))
            told: dict[str, Any] = dict(request.query)
        else:
            known_parameters(request, ())
            told = document(request)
            if "source_path" in told:
                told["path"] = told.pop("source_path")
            strange = set(told) - {"path", *_READS.get(verb, ()), *_WRITES.get(verb, ())}
            if strange:
                raise Problem(422, "unknown field", invalid=[(name, "extra field") for name in sorted(strange)])
        told["path"] = _path(told.get("path"))
        if "target_path" in _WRITES.get(verb, ()):
            told["target_path"] = _path(told.get("target_path"))
        return told

    def _worker(self, verb: str, told: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
        def work() -> Mapping[str, Any]:
            try:
                return {"output": getattr(self, f"_{verb}")(told)}
            except (NotThere, UnsafePath, Failed) as error:
                return {"error": str(error)}

        return work

    # -- reading ---------------------------------------------------------------------------------------------------

    def _ls(self, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        files, path = self._facility.files, told["path"]
        if not files.stat(path).is_dir:
            return [_entry(posixpath.basename(path), files.stat(path))]
        hidden = _true(told.get("showHidden"))
        found = files.list(path, recursive=_true(told.get("recursive")))
        return [
            _entry(info.path, info) for info in found if hidden or not posixpath.basename(info.path).startswith(".")
        ]

    def _head(self, told: Mapping[str, Any]) -> dict[str, Any]:
        content = self._content(told["path"])
        count, cut = _slice(content, told, first=True)
        return _part(content[:cut] if not _true(told.get("skipTrailing")) else content[:-count], told, 0)

    def _tail(self, told: Mapping[str, Any]) -> dict[str, Any]:
        content = self._content(told["path"])
        _, cut = _slice(content, told, first=False)
        return _part(content[cut:], told, cut)

    def _view(self, told: Mapping[str, Any]) -> dict[str, Any]:
        offset, size = int(told.get("offset") or 0), int(told.get("size") or LARGEST)
        if offset < 0 or not 0 < size <= LARGEST:
            raise Failed("offset or size is out of range")
        return _part(self._facility.files.read(told["path"], offset=offset, limit=size), {"bytes": size}, offset)

    def _stat(self, told: Mapping[str, Any]) -> dict[str, int]:
        info = self._facility.files.stat(told["path"])
        at = info.modified_at // 1_000_000
        mode = 0o040700 if info.is_dir else 0o100600
        times = {"atime": at, "ctime": at, "mtime": at}
        return {"mode": mode, "ino": 1, "dev": 1, "nlink": 1, "uid": 1000, "gid": 1000, "size": info.size, **times}

    def _checksum(self, told: Mapping[str, Any]) -> dict[str, Any]:
        return {"algorithm": "SHA-256", "checksum": self._facility.files.digest(told["path"])[1]}

    def _file(self, told: Mapping[str, Any]) -> str:
        return "directory" if self._facility.files.stat(told["path"]).is_dir else "data"

    def _download(self, told: Mapping[str, Any]) -> str:
        content = self._content(told["path"])
        if len(content) > LARGEST:
            raise Failed("File to download is too large.")
        return base64.b64encode(content).decode("ascii")

    def _content(self, path: str) -> bytes:
        if self._facility.files.stat(path).is_dir:
            raise Failed(f"{path}: Is a directory")
        return self._facility.files.read(path)

    # -- writing ---------------------------------------------------------------------------------------------------

    def _upload(self, told: Mapping[str, Any]) -> str:
        folder = posixpath.dirname(told["path"])
        if not self._facility.files.stat(folder).is_dir:
            raise Failed(f"{folder}: Not a directory")
        self._facility.files.write(told["path"], told["content"])
        return "File uploaded successfully"

    def _chmod(self, told: Mapping[str, Any]) -> dict[str, Any]:
        mode = str(told.get("mode", ""))
        if not re.fullmatch(r"0?[0-7]{3}", mode):
            raise Failed(f"chmod: invalid mode: {mode[:20]}")
        info = self._facility.files.stat(told["path"])
        if not info.is_dir:
            self._facility.files.write(told["path"], self._facility.files.read(told["path"]), mode=int(mode, 8))
        return _entry(posixpath.basename(told["path"]), info)

    def _chown(self, told: Mapping[str, Any]) -> dict[str, Any]:
        raise Failed(f"chown: changing ownership of {told['path']}: Operation not permitted")

    def _mkdir(self, told: Mapping[str, Any]) -> dict[str, Any]:
        files, path = self._facility.files, told["path"]
        if not _true(told.get("parent")):
            if not files.stat(posixpath.dirname(path)).is_dir:
                raise Failed(f"mkdir: cannot create directory {path}: Not a directory")
            if self._there(path):
                raise Failed(f"mkdir: cannot create directory {path}: File exists")
        files.mkdir(path)
        return _entry(posixpath.basename(path), files.stat(path))

    def _there(self, path: str) -> bool:
        try:
            self._facility.files.stat(path)
        except NotThere:
            return False
        return True

    def _symlink(self, told: Mapping[str, Any]) -> dict[str, Any]:
        raise Failed(f"symlink: {told['path']}: symbolic links are not made here")

    def _rm(self, told: Mapping[str, Any]) -> str:
        self._facility.files.remove(told["path"], recursive=True)
        return "removed"

    def _mv(self, told: Mapping[str, Any]) -> dict[str, Any]:
        self._facility.files.rename(told["path"], told["target_path"])
        return _entry(posixpath.basename(told["target_path"]), self._facility.files.stat(told["target_path"]))

    def _cp(self, told: Mapping[str, Any]) -> dict[str, Any]:
        self._facility.files.write(told["target_path"], self._content(told["path"]))
        return _entry(posixpath.basename(told["target_path"]), self._facility.files.stat(told["target_path"]))

    def _compress(self, told: Mapping[str, Any]) -> dict[str, Any]:
        files, path = self._facility.files, told["path"]
        content = io.BytesIO()
        with _archive(content, "w", told) as archive:
            for info in files.list(path, recursive=True) if files.stat(path).is_dir else [files.stat(path)]:
                name = info.path if files.stat(path).is_dir else posixpath.basename(path)
                if not info.is_dir:
                    member = tarfile.TarInfo(name)
                    whole = files.read(f"{path}/{name}" if files.stat(path).is_dir else path)
                    member.size = len(whole)
                    archive.addfile(member, io.BytesIO(whole))
        files.write(told["target_path"], content.getvalue())
        return _entry(posixpath.basename(told["target_path"]), files.stat(told["target_path"]))

    def _extract(self, told: Mapping[str, Any]) -> dict[str, Any]:
        files, target = self._facility.files, told["target_path"]
        try:
            with _archive(io.BytesIO(self._content(told["path"])), "r", told) as archive:
                for member in archive:
                    inside = archive.extractfile(member) if member.isfile() else None
                    if member.name.startswith("/") or ".." in member.name.split("/"):
                        raise Failed(f"tar: {member.name[:200]}: member name contains '..'")
                    if inside is not None:
                        files.write(f"{target}/{member.name}", inside.read(), mode=member.mode & 0o777)
        except tarfile.TarError as error:
            raise Failed(f"tar: {error}") from error
        return _entry(posixpath.basename(target), files.stat(target))


def _archive(content: io.BytesIO, way: str, told: Mapping[str, Any]) -> tarfile.TarFile:
    word = str(told.get("compression") or "gzip").rpartition(":")[2]
    if word not in _MODES:
        raise Failed(f"no such compression: {word[:40]}")
    return tarfile.open(fileobj=content, mode=f"{way}:{_MODES[word]}")  # type: ignore[call-overload,no-any-return]


def _entry(name: str, info: FileInfo) -> dict[str, Any]:
    return {
        "name": name,
        "type": "directory" if info.is_dir else "file",
        "link_target": None,
        "user": "user",
        "group": "users",
        "permissions": "rwx------" if info.is_dir else "rw-------",
        "last_modified": iso(info.modified_at),
        "size": str(info.size),
    }


def _part(content: bytes, told: Mapping[str, Any], start: int) -> dict[str, Any]:
    return {
        "content": content.decode("utf-8", "replace"),
        "content_type": "bytes" if told.get("bytes") else "lines",
        "start_position": start,
        "end_position": start + len(content),
    }


def _slice(content: bytes, told: Mapping[str, Any], *, first: bool) -> tuple[int, int]:
    """How many bytes the request counts, and where to cut."""
    if told.get("bytes"):
        count = int(told["bytes"])
        return count, min(count, len(content)) if first else max(0, len(content) - count)
    lines = content.splitlines(keepends=True)
    wanted = int(told.get("lines") or 10)
    count = len(b"".join(lines[:wanted] if first else lines[-wanted:]))
    return count, count if first else len(content) - count


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise Problem(422, "path is not absolute", invalid=[("path", "an absolute path is wanted")])
    return value.rstrip("/") or "/"


def _true(value: object) -> bool:
    return value is True or str(value).lower() in {"true", "1"}


def _uploaded(request: Request) -> bytes:
    """The file of a multipart form. Raises Problem."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Problem(422, "a multipart form is wanted")
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    for part in form.iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                if len(content) > LARGEST:
                    raise Problem(413, "File to upload is too large.")
                return content
    raise Problem(422, "the form has no file", invalid=[("file", "required")])
