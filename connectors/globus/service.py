"""The calls about tasks. One call each, but where it says otherwise; all raise SiteError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from globus_sdk import TransferClient, TransferData

from connectors.errors import BadReply, NotThere
from connectors.globus.causes import LIFECYCLE
from connectors.globus.plan import has_mark
from connectors.globus.task import Task, task_from
from connectors.globus.verifying import Arrived, arrived_from
from connectors.globus_api.api import GlobusApi, document, rows
from connectors.globus_api.ends import UUID
from connectors.globus_api.faults import GLOBUS, told

PAGE = 1000
BY_ID = 100
"""Ids in one question: an address may have some thousand characters."""
PAGES = 1000
"""Pages of one listing, beyond which it is taken to have no end."""
FAR_BACK = 20
"""Pages that are searched for a label, newest tasks first."""


class TaskService:
    """Tasks of our identity."""

    def __init__(self, api: GlobusApi) -> None:
        self._api = api

    def submission_id(self) -> str:
        """A new one. Nothing is begun by it."""
        found = self._api.ask("get a submission id", lambda client: document(client.get_submission_id()))
        value = found.get("value")
        if not isinstance(value, str) or not UUID.fullmatch(value):
            raise BadReply("globus: a submission id that is none", site=GLOBUS)
        return value

    def submit(self, data: TransferData, collections: Sequence[str]) -> str:
        """The task's id. The submission id in it makes that repeating leads to the same task."""
        found = self._api.ask(
            "submit a transfer", lambda client: document(client.submit_transfer(data)), touching=collections
        )
        return _id(found)

    def tasks(self, ids: Sequence[str]) -> Mapping[str, Task]:
        """How these stand; who is not in the answer is not known (any more).

        One question for up to BY_ID ids. For more: one for all that are open (at most some hundred per identity), and
        then those that were not among them.
        """
        if len(ids) <= BY_ID:
            return self._by_id(ids) if ids else {}
        open_ones = {task.task_id: task for task in self._listed({"status": "ACTIVE,INACTIVE", "type": "TRANSFER"})}
        found = {task_id: open_ones[task_id] for task_id in ids if task_id in open_ones}
        rest = [task_id for task_id in ids if task_id not in found]
        for first in range(0, len(rest), BY_ID):
            found |= self._by_id(rest[first : first + BY_ID])
        return found

    def task(self, task_id: str) -> Task | None:
        """None: Globus does not know it (any more)."""
        try:
            return task_from(self._api.ask("look at a task", lambda client: document(client.get_task(task_id))))
        except NotThere:
            return None

    def by_label(self, mark: str) -> str:
        """The id of the newest task whose label begins so; empty: none. Several calls where there are many tasks."""
        for page, raw in enumerate(self._pages({"type": "TRANSFER"}, orderby="request_time DESC")):
            for row in raw:
                if has_mark(row.get("label"), mark):
                    return _id(row)
            if page + 1 >= FAR_BACK:
                break
        return ""

    def cancel(self, task_id: str) -> None:
        """Ask for its end; one that has ended is fine."""
        try:
            self._api.ask("cancel a task", lambda client: document(client.cancel_task(task_id)))
        except NotThere:
            return

    def arrived(self, task_id: str) -> Iterator[Arrived]:
        """Every file that it has carried. One call for each page."""
        marker: str | None = None
        for _ in range(PAGES):
            page = self._successes(task_id, marker)
            yield from (row for raw in rows(page) if (row := arrived_from(raw)) is not None)
            following = page.get("next_marker")
            if following is None or following == "":
                return
            marker = str(following)
        raise BadReply("globus: a list of files that does not end", site=GLOBUS)

    def troubles(self, task_id: str) -> Sequence[tuple[str, str]]:
        """Codes and words of its newest troubles, newest first."""
        found = self._api.ask(
            "look at a task's events",
            lambda client: document(client.task_event_list(task_id, limit=100)),
        )
        return [
            (str(row.get("code")), told(str(row.get("details") or row.get("description") or "")))
            for row in rows(found)
            if isinstance(row.get("code"), str) and row["code"] not in LIFECYCLE
        ]

    def pause_reason(self, task_id: str) -> str:
        """What the administrators say; empty: nothing."""
        found = self._api.ask("look why a task is paused", lambda client: document(client.task_pause_info(task_id)))
        said = [
            found.get(f"{side}_pause_message{share}") for side in ("source", "destination") for share in ("", "_share")
        ]
        rules = found.get("pause_rules")
        said += [rule.get("message") for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
        return "; ".join(dict.fromkeys(told(text) for text in said if isinstance(text, str) and text))

    def _successes(self, task_id: str, marker: str | None) -> Mapping[str, Any]:
        def call(client: TransferClient) -> Mapping[str, Any]:
            if marker is None:
                return document(client.task_successful_transfers(task_id))
            return document(client.task_successful_transfers(task_id, marker=marker))

        return self._api.ask("look at what a task has carried", call)

    def _by_id(self, ids: Sequence[str]) -> dict[str, Task]:
        wanted = set(ids)
        return {task.task_id: task for task in self._listed({"task_id": ",".join(ids)}) if task.task_id in wanted}

    def _listed(self, filter: Mapping[str, str]) -> Iterator[Task]:  # noqa: A002 - Globus's word
        for page in self._pages(filter):
            yield from map(task_from, page)

    def _pages(self, filter: Mapping[str, str], *, orderby: str = "") -> Iterator[Sequence[Mapping[str, Any]]]:  # noqa: A002
        offset = 0
        more = {"orderby": orderby} if orderby else {}
        for _ in range(PAGES):
            at = offset
            found = self._api.ask(
                "list tasks",
                lambda client, at=at: document(  # type: ignore[misc]
                    client.task_list(limit=PAGE, offset=at, filter=dict(filter), query_params=more)
                ),
            )
            page = rows(found)
            yield page
            offset += len(page)
            total = found.get("total")
            if not page or not isinstance(total, int) or offset >= total:
                return
        raise BadReply("globus: a list of tasks that does not end", site=GLOBUS)


def _id(found: Mapping[str, Any]) -> str:
    value = found.get("task_id")
    if not isinstance(value, str) or not UUID.fullmatch(value):
        raise BadReply("globus: a task without an id", site=GLOBUS)
    return value
