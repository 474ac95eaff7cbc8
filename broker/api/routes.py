"""The routes. Each is one use case, answered with the view that the command line prints with `-o json`."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import JSONResponse, Response

from broker import sse
from broker.api.asking import Content, TheService, TheWakes, takes
from broker.api.events import Stream
from broker.api.health import Health
from broker.api.models import (
    Body,
    CommandBody,
    ConfirmBody,
    Submission,
    WaiverBody,
    WithdrawBody,
)
from broker.api.problems import Refusal
from broker.errors import NotFound
from broker.operating.homes import HOME
from broker.service import Request as Asked
from broker.service import Service
from broker.store.base import RunRow, StageRow
from broker.waivers import Waivers, Wish

M = TypeVar("M", bound=Body)

MOST_RUNS = 1000
MOST_EVENTS = 1 << 53
"""No run has a number as high; more than programs in every language can count."""
router = APIRouter(prefix="/v1")

_RUN = re.compile(r"[a-z0-9-]{1,64}")
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


Limit = Annotated[int, Query(ge=1, le=MOST_RUNS)]
After = Annotated[int, Query(ge=0, le=MOST_EVENTS, description="The number of the last event that is known.")]
OfStage = Annotated[str | None, Query(max_length=128)]


# -- runs --------------------------------------------------------------------------------------------------------


@router.post("/runs", status_code=201, openapi_extra=takes(Submission))
def submit(content: Content, service: TheService, wakes: TheWakes) -> Response:
    """Store a run. 201: it is new. 200: its key named a run that asked for the same."""
    body = content.submission()
    asked = Asked(
        document=body.raw(),
        params=body.params,
        key=body.key,
        again=body.again,
        bodies=body.bodies,
        scale=body.scale,
        name=body.name,
        hold=body.hold,
        event_at=body.event_at,
        from_outside=True,
    )
    submitted = service.submit(asked)
    wakes.give(submitted.run_id)
    view = {"run": submitted.run_id, "new": submitted.new, "warnings": list(submitted.warnings)}
    return JSONResponse(view, 201 if submitted.new else 200, {"Location": f"/v1/runs/{submitted.run_id}"})


@router.get("/runs")
def runs(
    service: TheService,
    limit: Limit = 100,
    everything: Annotated[bool, Query(alias="all", description="Also those that are over.")] = False,
) -> Response:
    """Unfinished runs, newest first."""
    return JSONResponse(service.history(limit=limit) if everything else service.queue(limit=limit))


@router.get("/runs/{run}")
def status(run: str, service: TheService) -> Response:
    """A run with its stages and attempts."""
    return JSONResponse(service.status(_target(service, run)))


@router.get("/runs/{run}/timeline")
def timeline(run: str, service: TheService, stage: OfStage = None) -> Response:
    """What happened, in order."""
    return JSONResponse(service.timeline(_target(service, run, stage)))


@router.get("/runs/{run}/explain")
def explain(run: str, service: TheService, stage: OfStage = None) -> Response:
    """Every decision, with its reasons and in words."""
    return JSONResponse(service.explain(_target(service, run, stage)))


@router.get("/runs/{run}/checkpoints")
def checkpoints(
    run: str,
    service: TheService,
    stage: OfStage = None,
    everything: Annotated[bool, Query(alias="all", description="Also those that are gone.")] = False,
) -> Response:
    """Checkpoints by stage, where copies are, and the work that would be lost with a site."""
    return JSONResponse(service.checkpoints(_target(service, run, stage), everything=everything))


@router.get("/runs/{run}/where")
def where(run: str, service: TheService, stage: OfStage = None) -> Response:
    """Products by stage, which sides hold them, and how sure that is."""
    return JSONResponse(service.where(_target(service, run, stage)))


@router.get("/runs/{run}/stages/{path:path}")
def stage(run: str, path: str, service: TheService) -> Response:
    """A run with one of its stages."""
    return JSONResponse(service.status(_target(service, run, path)))


@router.get("/runs/{run}/events", responses={200: {"content": {sse.MEDIA_TYPE: {}}}})
async def events(
    run: str,
    request: Request,
    service: TheService,
    after: After = 0,
    last: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=MOST_EVENTS)] = None,
) -> Response:
    """What happens, as it happens, as Server-Sent Events, to the run's end. `Last-Event-ID` goes before `after`."""
    found, _ = await to_thread.run_sync(_found, service, run)
    begin = after if last is None else last
    return Stream(request.app.state.screens, request.app.state.looks, found.run_id, after=begin)


# -- commands ----------------------------------------------------------------------------------------------------


@router.post("/runs/{run}/commands", status_code=202, openapi_extra=takes(CommandBody))
def command(run: str, content: Content, service: TheService, wakes: TheWakes) -> Response:
    """Ask for a change of a run or a stage. Whoever serves carries it out."""
    body = content.json(CommandBody)
    found, stage = _found(service, run, body.stage)
    service.refuse_command(body.kind, found, stage)
    if body.to not in (None, HOME) and body.to not in service.sites.configs:
        known = ", ".join(sorted(service.sites.configs))
        raise Refusal(
            "invalid", problems=[{"where": "to", "message": "there is no such site", "cure": f"sites: {known}"}]
        )
    target = f"{found.run_id}/{stage.path}" if stage else found.run_id
    args = {"to": body.to} if body.to else {"attempt": str(body.attempt)} if body.attempt else None
    ident = service.command(body.kind, target, reason=body.reason, args=args)
    wakes.give(found.run_id)
    place = f"/v1/runs/{found.run_id}/commands/{ident}"
    return JSONResponse(service.asked(found.run_id, ident), 202, {"Location": place})


@router.get("/runs/{run}/commands/{ident}")
def asked(run: str, ident: str, service: TheService) -> Response:
    """A command, with its outcome once somebody has carried it out."""
    return JSONResponse(service.asked(_found(service, run)[0].run_id, ident))


# -- waivers -----------------------------------------------------------------------------------------------------


@router.get("/waivers")
def waivers(service: TheService) -> Response:
    """Waivers of where data may be, of all runs, those asked for last first."""
    return JSONResponse(Waivers.of(service).ls())


@router.get("/runs/{run}/waivers")
def waivers_of_run(run: str, service: TheService) -> Response:
    """Waivers of a run, those asked for last first."""
    return JSONResponse(Waivers.of(service).ls(_found(service, run)[0].run_id))


@router.post("/runs/{run}/waivers", status_code=201, openapi_extra=takes(WaiverBody))
def ask_waiver(run: str, content: Content, service: TheService) -> Response:
    """Ask for a waiver. It holds once another person has confirmed it."""
    body = content.json(WaiverBody)
    found, _ = _found(service, run)
    wish = Wish(site=body.site, rule=body.rule, reason=body.reason, seconds=body.seconds)
    return JSONResponse(Waivers.of(service).ask(found, wish), 201, {"Location": f"/v1/runs/{found.run_id}/waivers"})


@router.post("/waivers/{waiver}/confirm", openapi_extra=takes(ConfirmBody))
def confirm_waiver(waiver: str, content: Content, service: TheService, wakes: TheWakes) -> Response:
    """Let a waiver hold that another person has asked for."""
    body = content.json(ConfirmBody)
    view = Waivers.of(service).confirm(_waiver(service, waiver), reason=body.reason)
    wakes.give(str(view["run"]))
    return JSONResponse(view)


@router.post("/waivers/{waiver}/withdraw", openapi_extra=takes(WithdrawBody))
def withdraw_waiver(waiver: str, content: Content, service: TheService, wakes: TheWakes) -> Response:
    """Let a waiver hold no longer."""
    body = content.json(WithdrawBody)
    view = Waivers.of(service).withdraw(_waiver(service, waiver), reason=body.reason)
    wakes.give(str(view["run"]))
    return JSONResponse(view)


def _waiver(service: Service, ident: str) -> str:
    """A waiver by its whole id: what a person may shorten, a program may not. Raises NotFound."""
    if not _RUN.fullmatch(ident) or service.store.waiver(ident) is None:
        raise NotFound("no such waiver")
    return ident


# -- the installation --------------------------------------------------------------------------------------------


@router.get("/sites")
def sites(service: TheService) -> Response:
    """Every site: how it stands, since when, and why."""
    return JSONResponse(service.site_list())


@router.get("/workers")
def workers(service: TheService) -> Response:
    """Every process that serves this installation, or did."""
    return JSONResponse(service.workers())


@router.get("/health/live")
async def live() -> Response:
    """Does this process answer?"""
    return JSONResponse({"ok": True})


@router.get("/health")
async def ready(request: Request) -> Response:
    """Does the store answer, and does what serves beside this go well? 503: not."""
    health: Health = request.app.state.health
    view = await health.view()
    return JSONResponse(view, 200 if view["ok"] else 503)


# -- finding -----------------------------------------------------------------------------------------------------


def _found(service: Service, run: str, stage: str | None = None) -> tuple[RunRow, StageRow | None]:
    """A run by its whole id: what a person may shorten, a program may not. Raises NotFound."""
    row = service.store.run(run) if _RUN.fullmatch(run) else None
    if row is None or (stage is not None and not _STAGE.fullmatch(stage)):
        raise NotFound("no such run")
    return service.find(row.run_id if stage is None else f"{row.run_id}/{stage}")


def _target(service: Service, run: str, stage: str | None = None) -> str:
    found, row = _found(service, run, stage)
    return f"{found.run_id}/{row.path}" if row else found.run_id
