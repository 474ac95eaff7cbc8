"""Globus Transfer API v0.10: its routes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

from sandbox.faces.globus.access import Access
from sandbox.faces.globus.documents import (
    copied_document,
    endpoint_document,
    event_document,
    pause_document,
    skipped_document,
    task_document,
    username,
)
from sandbox.faces.globus.filters import ordered, parts, task_fits
from sandbox.faces.globus.operations import Operations
from sandbox.faces.globus.replies import Denied, Document, refusal, request_id, result, whole
from sandbox.faces.globus.submission import deadline_of, label_of, order_of
from sandbox.faces.http import Request, Response, answer
from sandbox.facility import FaultScript
from sandbox.globus.auth import GlobusAuth, Token
from sandbox.globus.orders import Kind
from sandbox.globus.service import GlobusService, Refused
from sandbox.globus.task import Task

_T = TypeVar("_T")
BASE = "/v0.10"
_PAGE = 1000
_SORTABLE = ("request_time", "completion_time", "deadline", "label", "status", "type", "task_id", "faults")
_CANCELED = {
    "Canceled": "The task has been cancelled successfully.",
    "CancelAccepted": "The cancellation was accepted, and is not complete yet.",
    "TaskComplete": "The task was complete before it could be cancelled.",
}


class TransferApi:
    """All below /v0.10. Thread-safe."""

    def __init__(self, service: GlobusService, auth: GlobusAuth, faults: FaultScript) -> None:
        self._service, self._auth, self._faults = service, auth, faults
        self._access = Access(service, auth, faults)
        self._operations = Operations(service, self._access)

    def handle(self, request: Request) -> Response:
        try:
            asked = self._faults.take("globus_error", request)
            if asked is not None:
                if asked.get("handled", False):
                    self._handle(request)
                code, text = str(asked.get("code", "ExternalError")), str(asked.get("text", "a fault script"))
                raise Denied(code, text, int(asked.get("status", 502)))
            return self._handle(request)
        except Denied as denied:
            return refusal(denied, request)
        except Refused as refused:
            return refusal(Denied(refused.code, str(refused), refused.status), request)

    def _handle(self, request: Request) -> Response:
        if self._faults.take("tokens_revoked", request) is not None:
            self._auth.revoke_all()
        token = self._access.caller(request)
        words = [word for word in request.path.removeprefix(BASE).split("/") if word]
        match (request.method, words):
            case ("GET", ["submission_id"]):
                return answer({"DATA_TYPE": "submission_id", "value": str(uuid.uuid4())})
            case ("POST", ["transfer"]):
                return self._submit(request, token, Kind.TRANSFER)
            case ("POST", ["delete"]):
                return self._submit(request, token, Kind.DELETE)
            case ("GET", ["task_list"]):
                return self._tasks(request, token)
            case ("GET", ["task", task_id]):
                return self._show(self._task(token, task_id))
            case ("PUT", ["task", task_id]):
                return self._update(request, self._task(token, task_id))
            case ("POST", ["task", task_id, "cancel"]):
                code = self._service.cancel(self._task(token, task_id))
                return result(request, code, _CANCELED[code])
            case ("POST", ["task", task_id, "remove"]):
                return self._remove(request, self._task(token, task_id))
            case ("GET", ["task", task_id, part]):
                return self._part(request, self._task(token, task_id), part)
            case ("GET", ["endpoint", name]):
                return answer(endpoint_document(self._access.known(name), host=request.host))
            case ("GET", ["endpoint_search"]):
                return self._search(request)
            case (_, ["operation", "endpoint", name, verb]):
                return self._operations.handle(request, token, name, verb)
        raise Denied("ClientError.NotFound", f"no such resource: {request.path[:200]}", 404)

    # -- submissions -----------------------------------------------------------------------------------------

    def _submit(self, request: Request, token: Token, kind: Kind) -> Response:
        document = _json(request)
        order = order_of(document, kind, limits=self._service.limits, now=self._service.now())
        for collection in self._access.collections(request, token, order.source, order.destination or order.source):
            if collection.entity_type.startswith("GCP_") and collection.down:
                raise Denied("GCDisconnectedException", f"{collection.display_name} is not connected", 409)
        owner = token.identity.id
        accepted = self._service.submit(order, owner=owner, username=username(owner))
        word = kind.value.lower()
        fresh = f"The {word} has been accepted and a task has been created and queued for execution"
        return answer(
            {
                "DATA_TYPE": f"{word}_result",
                "code": "Duplicate" if accepted.duplicate else "Accepted",
                "message": "The submission has been accepted before" if accepted.duplicate else fresh,
                "request_id": request_id(),
                "resource": request.path,
                "submission_id": order.submission_id,
                "task_id": accepted.task.id,
                "task_link": {
                    "DATA_TYPE": "link",
                    "href": f"{BASE}/task/{accepted.task.id}?format=json",
                    "rel": "related",
                    "resource": "task",
                    "title": "related task",
                },
            },
            200 if accepted.duplicate else 202,
        )

    # -- tasks -----------------------------------------------------------------------------------------------

    def _task(self, token: Token, task_id: str) -> Task:
        found = self._service.task(task_id, owner=token.identity.id)
        if found is None:
            raise Denied("ClientError.NotFound", f"No task '{task_id[:100]}' found", 404)
        return found

    def _show(self, task: Task) -> Response:
        with self._service.lock:
            return answer(task_document(task, self._service))

    def _tasks(self, request: Request, token: Token) -> Response:
        wanted = parts(request.all("filter"))
        limit = whole(request, "limit", 10, most=_PAGE)
        offset = whole(request, "offset", 0, most=10**9)
        tasks = self._service.tasks(owner=token.identity.id)
        with self._service.lock:
            documents = [task_document(task, self._service) for task in tasks]
        found = [document for document in documents if task_fits(document, wanted)]
        if request.first("orderby"):
            found = ordered(found, request.first("orderby"), _SORTABLE)
        page = found[offset : offset + limit]
        if request.first("fields"):
            fields = {*request.first("fields").split(","), "DATA_TYPE"}
            page = [{key: value for key, value in document.items() if key in fields} for document in page]
        return answer(_listing("task_list", page, total=len(found), limit=limit, offset=offset))

    def _update(self, request: Request, task: Task) -> Response:
        document = _json(request)
        if not isinstance(document, dict) or not set(document) <= {"DATA_TYPE", "label", "deadline"}:
            raise Denied("ClientError.BadRequest", "only label and deadline can be changed", 400)
        label = label_of(document) if "label" in document else None
        deadline = deadline_of(document, now=self._service.now())
        if not self._service.update(task, label=label, deadline=deadline):
            raise Denied("Conflict", "The task is complete", 409)
        return result(request, "Updated", "Updated task successfully")

    def _remove(self, request: Request, task: Task) -> Response:
        if not self._service.remove(task):
            raise Denied("Conflict", "The task is not complete", 409)
        return result(request, "Removed", "The task was removed")

    def _part(self, request: Request, task: Task, part: str) -> Response:
        with self._service.lock:
            if part == "event_list":
                return self._events(request, task)
            if part == "pause_info":
                return answer(pause_document(task, self._service))
            if part == "successful_transfers":
                return _marked(request, "successful_transfers", task.copied, copied_document)
            if part == "skipped_errors":
                return _marked(request, "skipped_errors", task.skipped, skipped_document)
        raise Denied("ClientError.NotFound", f"no such resource: {request.path[:200]}", 404)

    def _events(self, request: Request, task: Task) -> Response:
        limit = whole(request, "limit", 10, most=_PAGE)
        offset = whole(request, "offset", 0, most=10**9)
        wanted = request.first("filter")
        events = [one for one in reversed(task.events) if wanted != "is_error:1" or one.is_error]
        page = [event_document(event, task) for event in events[offset : offset + limit]]
        return answer(_listing("event_list", page, total=len(events), limit=limit, offset=offset))

    # -- collections -----------------------------------------------------------------------------------------

    def _search(self, request: Request) -> Response:
        words = request.first("filter_fulltext").lower().split()
        limit = whole(request, "limit", 25, most=_PAGE)
        offset = whole(request, "offset", 0, most=10**9)
        kinds = [kind for kind in request.first("filter_entity_type").split(",") if kind]
        found = [
            one
            for one in self._service.collections.values()
            if all(word in one.display_name.lower() or word == one.id for word in words)
            and (not kinds or one.entity_type in kinds)
        ]
        page = [endpoint_document(one, host=request.host) for one in found[offset : offset + limit]]
        more = offset + limit < len(found)
        return answer(
            {
                "DATA_TYPE": "endpoint_list",
                "DATA": page,
                "length": len(page),
                "limit": limit,
                "offset": offset,
                "has_next_page": more,
            }
        )


def _listing(kind: str, page: Sequence[Document], *, total: int, limit: int, offset: int) -> Document:
    return {
        "DATA_TYPE": kind,
        "DATA": list(page),
        "length": len(page),
        "limit": limit,
        "offset": offset,
        "total": total,
    }


def _marked(request: Request, kind: str, things: Sequence[_T], tell: Callable[[_T], Document]) -> Response:
    """A page from a marker on, which says where the next one begins."""
    marker = whole(request, "marker", 0, most=10**9)
    limit = max(1, whole(request, "limit", 100, most=_PAGE))
    page = [tell(thing) for thing in things[marker : marker + limit]]
    following = marker + limit if marker + limit < len(things) else None
    return answer({"DATA_TYPE": kind, "marker": marker, "next_marker": following, "DATA": page})


def _json(request: Request) -> object:
    try:
        found: object = json.loads(request.body or b"null")
    except (ValueError, RecursionError) as error:
        raise Denied("ClientError.BadRequest", "the body is not JSON", 400) from error
    return found
