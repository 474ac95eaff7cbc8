"""What is done on a collection at once, without a task: ls, stat, mkdir, rename."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from connectors.paths import split
from sandbox.faces.globus.access import Access
from sandbox.faces.globus.documents import file_document
from sandbox.faces.globus.filters import entry_fits, ordered, parts
from sandbox.faces.globus.replies import Denied, flag, result, whole
from sandbox.faces.http import Request, Response, answer
from sandbox.globus.auth import Token
from sandbox.globus.collections import Collection, Entry, entries_in, entry_at
from sandbox.globus.service import GlobusService
from sandbox.globus.troubles import Trouble, told

_LISTING = {
    "FILE_NOT_FOUND": ("ClientError.NotFound", 404),
    "PERMISSION_DENIED": ("ExternalError.DirListingFailed.PermissionDenied", 403),
    "NOT_A_DIRECTORY": ("ExternalError.DirListingFailed.NotDirectory", 502),
    "INVALID_PATH_NAME": ("ClientError.BadRequest", 400),
    "GC_NOT_CONNECTED": ("ExternalError.DirListingFailed.GCDisconnected", 502),
}
_DEAD_LISTING = ("ExternalError.DirListingFailed.ConnectFailed", 502)
_OTHERS = {
    "FILE_NOT_FOUND": ("NotFound", 404),
    "PERMISSION_DENIED": ("EndpointPermissionDenied", 403),
    "INVALID_PATH_NAME": ("ClientError.BadRequest", 400),
    "NOT_A_DIRECTORY": ("NotFound", 404),
    "IS_A_DIRECTORY": ("ExternalError.Exists", 502),
}
_DEAD_OTHERS = ("EndpointError", 502)
_KEYS = ("name", "type", "size", "last_modified", "permissions", "user", "group")


class Operations:
    """Routes below /v0.10/operation/endpoint/ID."""

    def __init__(self, service: GlobusService, access: Access) -> None:
        self._service, self._access = service, access

    def handle(self, request: Request, token: Token, name: str, verb: str) -> Response:
        """Raises Denied."""
        verbs = {
            ("GET", "ls"): self._ls,
            ("GET", "stat"): self._stat,
            ("POST", "mkdir"): self._mkdir,
            ("POST", "rename"): self._rename,
        }
        found = verbs.get((request.method, verb))
        if found is None:
            raise Denied("ClientError.NotFound", f"no such operation: {verb[:50]}", 404)
        [collection] = self._access.collections(request, token, name)
        if collection.paused and verb != "stat":
            raise Denied("OperationPaused", collection.paused, 409)
        return found(request, collection)

    # -- looking ---------------------------------------------------------------------------------------------

    def _ls(self, request: Request, collection: Collection) -> Response:
        path = request.first("path") or collection.default_directory
        limit = whole(request, "limit", self._service.limits.listing, most=self._service.limits.listing)
        offset = whole(request, "offset", 0, most=10**9)
        try:
            inner, entries = self._entries(collection, path)
        except Trouble as trouble:
            raise _denied(trouble, collection, path, _LISTING, _DEAD_LISTING) from trouble
        wanted = parts(request.all("filter"))
        hidden = flag(request, "show_hidden", default=True)
        shown = [one for one in entries if (hidden or not one.name.startswith(".")) and entry_fits(one, wanted)]
        orderby = request.first("orderby") or "type,name"
        documents = ordered([file_document(one) for one in shown], orderby, _KEYS)
        page = documents[offset : offset + limit]
        absolute = f"/{inner}/" if inner else "/"
        return answer(
            {
                "DATA_TYPE": "file_list",
                "endpoint": collection.id,
                "path": path if path.endswith("/") else f"{path}/",
                "absolute_path": absolute,
                "rename_supported": collection.rename_supported,
                "symlink_supported": False,
                "DATA": page,
                "length": len(page),
                "total": len(documents),
            }
        )

    def _entries(self, collection: Collection, path: str) -> tuple[str, list[Entry]]:
        inner = collection.inside(path)
        with collection.tree() as tree, told():
            if not entry_at(tree, inner).is_dir:
                raise Trouble("NOT_A_DIRECTORY", "Not a directory")
            entries = entries_in(tree, inner, most=self._service.limits.listing)
        if entries is None:
            text = f"the directory has more than {self._service.limits.listing} entries"
            raise Denied("ExternalError.DirListingFailed.SizeLimit", text, 502)
        return inner, entries

    def _stat(self, request: Request, collection: Collection) -> Response:
        path = request.first("path") or collection.default_directory
        try:
            inner = collection.inside(path)
            with collection.tree() as tree, told():
                entry = entry_at(tree, inner)
        except Trouble as trouble:
            raise _denied(trouble, collection, path, _OTHERS, _DEAD_OTHERS) from trouble
        return answer(file_document(entry))

    # -- doing -----------------------------------------------------------------------------------------------

    def _mkdir(self, request: Request, collection: Collection) -> Response:
        path = _field(_document(request, "mkdir"), "path")
        try:
            folder, name = split(collection.writable(path))
            with collection.tree() as tree, told(), tree.folder(folder) as at:
                os.mkdir(name or ".", 0o700, dir_fd=at)
        except Trouble as trouble:
            if isinstance(trouble.__cause__, FileExistsError):
                text = f"Path already exists, Error (mkdir)\nEndpoint: {collection.display_name} ({collection.id})"
                raise Denied("ExternalError.MkdirFailed.Exists", text, 502) from trouble
            raise _denied(trouble, collection, path, _OTHERS, _DEAD_OTHERS) from trouble
        text = "The directory was created successfully"
        return result(request, "DirectoryCreated", text, kind="mkdir_result", status=202)

    def _rename(self, request: Request, collection: Collection) -> Response:
        document = _document(request, "rename")
        old, new = _field(document, "old_path"), _field(document, "new_path")
        if not collection.rename_supported:
            raise Denied("NotSupported", "the collection cannot rename", 409)
        try:
            old_folder, old_name = split(collection.writable(old))
            new_folder, new_name = split(collection.writable(new))
            if not old_name or not new_name:
                raise Trouble("PERMISSION_DENIED", "the top of a collection stays")
            with (
                collection.tree() as tree,
                told(),
                tree.folder(old_folder) as here,
                tree.folder(new_folder) as there,
            ):
                _not_over(new_name, there)
                os.rename(old_name, new_name, src_dir_fd=here, dst_dir_fd=there)
        except Trouble as trouble:
            raise _denied(trouble, collection, old, _OTHERS, _DEAD_OTHERS) from trouble
        return result(request, "FileRenamed", "File or directory renamed successfully")


def _not_over(name: str, at: int) -> None:
    """A folder does not go over what is there."""
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise Denied("ExternalError.RenameFailed.Exists", "the new path exists", 502)


def _document(request: Request, kind: str) -> Mapping[str, Any]:
    try:
        document = request.json()
    except (ValueError, RecursionError) as error:
        raise Denied("ClientError.BadRequest", "the body is not JSON", 400) from error
    if not isinstance(document, Mapping) or document.get("DATA_TYPE", kind) != kind:
        raise Denied("ClientError.BadRequest", f"a document of DATA_TYPE {kind} is needed", 400)
    return document


def _field(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise Denied("ClientError.BadRequest", f"{name} is needed", 400)
    return value


def _denied(
    trouble: Trouble,
    collection: Collection,
    path: str,
    codes: Mapping[str, tuple[str, int]],
    otherwise: tuple[str, int],
) -> Denied:
    code, status = codes.get(trouble.code, otherwise)
    text = f"{trouble}, Error\nEndpoint: {collection.display_name} ({collection.id})\nPath: {path[:300]}"
    return Denied(code, text, status)
