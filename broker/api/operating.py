"""The routes of operators: what they say of the installation and its sites. Each answers as its verb's `-o json`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BeforeValidator, Field
from starlette.responses import JSONResponse, Response

from broker.api.asking import Content, TheService, takes
from broker.api.models import Body, Name, Reason
from broker.errors import NotFound
from broker.operating.freezes import LONGEST, Freeze, Freezes
from broker.operating.leaving import Leavings
from broker.operating.windows import Announcement, Windows

router = APIRouter(prefix="/v1")
_NOTICE = re.compile(r"n[a-z0-9-]{1,64}")
Everything = Annotated[bool, Query(alias="all", description="Also those that are over.")]


def _read(value: object) -> object:
    """JSON has no times: a text is read as ISO 8601."""
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return value


At = Annotated[AwareDatetime, BeforeValidator(_read, json_schema_input_type=str)]


class FreezeBody(Body):
    """What is frozen for a while."""

    on: Literal["moves", "submits"]
    site: Name | None = Field(default=None, description="Null: every site.")
    seconds: float = Field(default=3600.0, gt=0, le=LONGEST, allow_inf_nan=False)
    reason: Annotated[Reason, Field(min_length=1)]


class ThawBody(Body):
    """What is not to be frozen any more."""

    on: Literal["moves", "submits"] | None = Field(default=None, description="Null: both.")
    site: Name | None = Field(default=None, description="Null: what is frozen at every site.")
    reason: Reason = ""


class MaintenanceBody(Body):
    """A maintenance that is announced."""

    site: Name
    begins: At = Field(description="With its offset.")
    ends: At
    capability: Literal["", "submit", "status", "files", "transfer", "compute", "credentials"] = Field(
        default="", description="Empty: all of the site."
    )
    reason: Annotated[Reason, Field(min_length=1)]


class EndBody(Body):
    """What is not to hold any more."""

    reason: Reason = ""


@router.get("/maintenance")
def maintenance(service: TheService, everything: Everything = False) -> Response:
    """What operators have announced and what the sites' own calendars say, with source and age."""
    return JSONResponse(Windows(service).ls(everything=everything))


@router.post("/maintenance", status_code=201, openapi_extra=takes(MaintenanceBody))
def announce(content: Content, service: TheService) -> Response:
    """Announce a maintenance. 201: it is new. 200: what is announced already covers it."""
    body = content.json(MaintenanceBody)
    begins, ends = (round(at.timestamp() * 1e6) for at in (body.begins, body.ends))
    said = Announcement(site=body.site, begins=begins, ends=ends, capability=body.capability, reason=body.reason)
    view = Windows(service).add(said)
    return JSONResponse(view, 201 if view["new"] else 200)


@router.post("/maintenance/{notice}/end", openapi_extra=takes(EndBody))
def take_back(notice: str, content: Content, service: TheService) -> Response:
    """Take back what an operator announced, or end it before its time."""
    body = content.json(EndBody)
    windows = Windows(service)
    if not _NOTICE.fullmatch(notice) or windows.find(notice).id != notice:
        raise NotFound("no such maintenance")
    return JSONResponse(windows.rm(notice, reason=body.reason))


class EvacuateBody(Body):
    """A site that is to be evacuated."""

    to: Name | None = Field(default=None, description="Null: each stage goes where it can.")
    reason: Annotated[Reason, Field(min_length=1)]


class CloseBody(Body):
    """A site at which everything of ours is to end."""

    then: Literal["wait", "elsewhere"] = Field(default="wait", description="What becomes of its stages.")
    reason: Annotated[Reason, Field(min_length=1)]


@router.get("/sites/{site}")
def site(site: str, service: TheService) -> Response:
    """One site: how it is judged to be and why, what of ours is there while it is left, its own events."""
    return JSONResponse(service.site(site))


@router.post("/sites/{site}/evacuate", status_code=202, openapi_extra=takes(EvacuateBody))
def evacuate(site: str, content: Content, service: TheService) -> Response:
    """Start nothing new there, and move what is there. `GET /v1/sites/SITE` tells how far it is."""
    body = content.json(EvacuateBody)
    return JSONResponse(Leavings(service).evacuate(site, reason=body.reason, to=body.to or ""), 202)


@router.post("/sites/{site}/close", status_code=202, openapi_extra=takes(CloseBody))
def close(site: str, content: Content, service: TheService) -> Response:
    """End everything of ours there, also what no row knows, and send nothing new."""
    body = content.json(CloseBody)
    return JSONResponse(Leavings(service).close(site, reason=body.reason, then=body.then), 202)


@router.post("/sites/{site}/drain", openapi_extra=takes(EndBody))
def drain(site: str, content: Content, service: TheService) -> Response:
    """Start nothing new there; what runs there goes on."""
    body = content.json(EndBody)
    service.drain_site(site, reason=body.reason)
    return JSONResponse(Leavings(service).progress(site))


@router.post("/sites/{site}/resume", openapi_extra=takes(EndBody))
def resume(site: str, content: Content, service: TheService) -> Response:
    """Take it into use again."""
    body = content.json(EndBody)
    service.resume_site(site, reason=body.reason)
    return JSONResponse(Leavings(service).progress(site))


@router.get("/freezes")
def freezes(service: TheService, everything: Everything = False) -> Response:
    """What is frozen, by whom, why and until when."""
    return JSONResponse(Freezes(service).ls(everything=everything))


@router.post("/freezes", status_code=201, openapi_extra=takes(FreezeBody))
def freeze(content: Content, service: TheService) -> Response:
    """Freeze from now on. 201: it is new. 200: what is there already holds as long."""
    body = content.json(FreezeBody)
    wish = Freeze(on=body.on, site=body.site or "", seconds=body.seconds, reason=body.reason)
    view = Freezes(service).on(wish)
    return JSONResponse(view, 201 if view["new"] else 200)


@router.post("/freezes/end", openapi_extra=takes(ThawBody))
def thaw(content: Content, service: TheService) -> Response:
    """End what is frozen, whoever has frozen it."""
    body = content.json(ThawBody)
    return JSONResponse(Freezes(service).off(body.on or "", site=body.site or "", reason=body.reason))
