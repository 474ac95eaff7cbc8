"""What a collection's storage can be asked for: listing, looking, making folders, renaming, deleting our own."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from globus_sdk import DeleteData

from connectors.errors import NotThere
from connectors.globus_api.api import GlobusApi, document, rows
from connectors.globus_api.faults import AlreadyThere, CollectionAway

MOST = 100_000
"""Entries of one folder that Globus lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in a folder. `modified_at` in µs; 0: not told."""

    name: str
    is_dir: bool
    size: int
    modified_at: int = 0


class Storage:
    """One collection. Paths are absolute there. Every method is one call, but where it says otherwise."""

    def __init__(self, api: GlobusApi, collection: str) -> None:
        self._api, self.collection = api, collection

    def list(self, folder: str, *, limit: int = MOST) -> Sequence[Entry]:
        """Raises NotThere, also where it is a file."""
        found = self._api.ask(
            "list a folder",
            lambda client: document(
                client.operation_ls(self.collection, path=_folder(folder), show_hidden=True, limit=limit)
            ),
            touching=[self.collection],
        )
        return [entry for row in rows(found) if (entry := _entry(row)) is not None]

    def look(self, path: str) -> Entry | None:
        """What is there; None: nothing."""
        try:
            found = self._api.ask(
                "look at a file",
                lambda client: document(client.operation_stat(self.collection, path)),
                touching=[self.collection],
            )
        except NotThere:
            return None
        return _entry({**found, "name": found.get("name") or posixpath.basename(path) or "/"})

    def make_folder(self, path: str) -> None:
        """One level. One that is there already is fine. Raises NotThere where the folder above is not."""
        try:
            self._api.ask(
                "make a folder",
                lambda client: client.operation_mkdir(self.collection, path),
                touching=[self.collection],
            )
        except AlreadyThere:
            return

    def make_folders(self, path: str) -> None:
        """All levels that are missing, from below: as few calls as that takes."""
        missing: list[str] = []
        while path.strip("/"):
            try:
                self.make_folder(path)
                break
            except NotThere:
                missing.append(path)
                path = posixpath.dirname(path.rstrip("/"))
        for one in reversed(missing):
            self.make_folder(one)

    def rename(self, old: str, new: str) -> None:
        """Raises NotThere (the old one, or the new one's folder), AlreadyThere, CannotRename.

        Which codes a storage has for what is wrong with a rename nobody tells: where one could mean anything, two more
        calls look at both names.
        """
        try:
            self._api.ask(
                "rename",
                lambda client: client.operation_rename(self.collection, old, new),
                touching=[self.collection],
            )
        except CollectionAway as error:
            left, there = self.look(old), self.look(new)
            if left is not None and there is not None:
                raise AlreadyThere(str(error), status=0, code="Exists") from error
            if left is not None or there is None:
                raise

    def delete(self, paths: Sequence[str], *, label: str, recursive: bool) -> str:
        """Begin to delete these; absent ones are fine. The task's id. Two calls (the SDK fetches a submission id)."""
        data = DeleteData(
            self.collection,
            label=label,
            recursive=recursive,
            ignore_missing=True,
            interpret_globs=False,
            notify_on_succeeded=False,
            notify_on_failed=False,
            notify_on_inactive=False,
        )
        for path in paths:
            data.add_item(path)
        found = self._api.ask(
            "begin to delete", lambda client: document(client.submit_delete(data)), touching=[self.collection]
        )
        return str(found.get("task_id") or "")

    def can_rename(self, folder: str) -> bool:
        """Does the storage behind it rename? What Globus does not tell counts as yes."""
        found = self._api.ask(
            "list a folder",
            lambda client: document(client.operation_ls(self.collection, path=_folder(folder), limit=1)),
            touching=[self.collection],
        )
        return found.get("rename_supported") is not False


def _folder(path: str) -> str:
    return f"{path.rstrip('/')}/"


def _entry(row: Mapping[str, Any]) -> Entry | None:
    """None: no plain file or folder, or no plain name."""
    name, kind, size = row.get("name"), row.get("type"), row.get("size")
    if not isinstance(name, str) or not name or (name != "/" and "/" in name) or name in {".", ".."}:
        return None
    if kind not in {"file", "dir"}:
        return None
    plain = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 and kind == "file" else 0
    told = row.get("last_modified")
    moment = _moment(told) if isinstance(told, str) else 0
    return Entry(name=name, is_dir=kind == "dir", size=plain, modified_at=moment)


def _moment(text: str) -> int:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6)
    except (ValueError, OverflowError):
        return 0
