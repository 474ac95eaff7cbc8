"""The routes of operators: what they say of the installation and its sites. Each answers as its verb's `-o json`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import JSONResponse, Response

from broker.api.asking import Content, TheService, takes
from broker.api.models import Body, Name, Reason
from broker.operating.freezes import LONGEST, Freeze, Freezes

router = APIRouter(prefix="/v1")
Everything = Annotated[bool, Query(alias="all", description="Also those that are over.")]


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
