"""The application: routes behind their guard, and one shape for every error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from broker import __version__
from broker.api import operating
from broker.api.auth import Token
from broker.api.events import Looks
from broker.api.guard import Guard
from broker.api.health import Health
from broker.api.models import MOST_PROBLEMS
from broker.api.people import NOBODY, People
from broker.api.problems import Refusal, answer_for, problem
from broker.api.routes import router
from broker.api.screens import News, Screens
from broker.api.wakes import Wakes
from broker.errors import BrokerError
from broker.service import Service
from broker.spec import DocumentError
from broker.spec.errors import dotted
from broker.store.base import StoreError

_EXPECTED = (Refusal, DocumentError, BrokerError, StoreError)
"""What use cases raise; anything else is a fault of ours, and the guard answers it."""
_KINDS = {404: "not-found", 405: "method", 415: "media-type"}


def make_api(
    service: Service,
    token: Token,
    *,
    people: People = NOBODY,
    healthy: Callable[[], bool] = lambda: True,
    on_submitted: Callable[[str], object] | None = None,
    news: News | None = None,
) -> FastAPI:
    """The API over one installation. `people`: who may ask under names of their own, beside who has the token.

    `healthy`: does what serves beside it go well? Told by /v1/health. `on_submitted(run_id)`: called after a run or a
    command was stored, in a thread of its own; what it raises is dropped. `news`: tells which runs
    those who follow events should look at. Call `close_api` when done.
    """
    # openapi_url stays behind the token as all the rest does; the pages made of it would load scripts from elsewhere
    app = FastAPI(
        title="crossfade",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.wakes = Wakes(on_submitted)
    app.state.health = Health(service.store, healthy)
    app.state.screens = Screens(news)
    app.state.looks = Looks(service.store)
    app.include_router(router)
    app.include_router(operating.router)
    _build_routes(app)
    for kind in _EXPECTED:
        app.add_exception_handler(kind, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_status)
    app.add_middleware(Guard, token=token, people=people)
    return app


def _build_routes(app: FastAPI) -> None:
    """Now, not within the first request: it is slow, and changes the process's warning filters for a moment, which two
    servers of one process must not do at a time."""
    nowhere = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.router.routes:
        route.matches(dict(nowhere))


def close_api(app: FastAPI) -> None:
    """Let go of its threads."""
    end_streams(app)
    wakes: Wakes = app.state.wakes
    wakes.close()


def end_streams(app: FastAPI) -> None:
    """End what would otherwise last as long as the run that it tells of."""
    screens: Screens = app.state.screens
    screens.close()


async def _expected(_request: Request, error: Exception) -> Response:
    answer = answer_for(error)
    if answer is None:
        raise error
    return answer


async def _invalid(_request: Request, error: Exception) -> Response:
    """A wrong query: where, and why; not what was sent."""
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    problems = [{"where": dotted(each["loc"]), "message": each["msg"]} for each in found[:MOST_PROBLEMS]]
    return problem("invalid", problems=problems)


async def _of_status(_request: Request, error: Exception) -> Response:
    """What the framework refuses by itself."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers: Mapping[str, str] | None = error.headers if isinstance(error, HTTPException) else None
    return problem(_KINDS.get(status, "malformed"), headers=headers)
