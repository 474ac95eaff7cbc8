"""Celery tasks: envelopes. Each is a hint to look at something, safe to lose, to double and to delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from celery import Celery, Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default

LOOK_AT_RUN = "crossfade.look_at_run"
LOOK_AT_SITE = "crossfade.look_at_site"
STRATEGY = "broker.tasks:take_in"
"""Celery's name for what takes in a message of these tasks."""


class Engine(Protocol):
    """What the tasks call."""

    def run_woken(self, run_id: str) -> None: ...
    def site_woken(self, site: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wakeups:
    """Publishes hints."""

    look_at_run: Callable[[str], None]
    look_at_site: Callable[[str], None]


def register(app: Celery, engine: Engine) -> Wakeups:
    """Add the tasks to the application; they call `engine`."""

    # not shared: a second application in this process has a broker of its own behind these names
    @app.task(name=LOOK_AT_RUN, shared=False, Strategy=STRATEGY)
    def look_at_run(run_id: str) -> None:
        engine.run_woken(run_id)

    @app.task(name=LOOK_AT_SITE, shared=False, Strategy=STRATEGY)
    def look_at_site(site: str) -> None:
        engine.site_woken(site)

    def publish(task: Task[[str], None]) -> Callable[[str], None]:
        return lambda name: _publish(task, name)

    return Wakeups(look_at_run=publish(look_at_run), look_at_site=publish(look_at_site))


def take_in(task: Task[[str], None], app: Celery, consumer: Any, **named: Any) -> Callable[..., Any]:
    """Celery's own way of taking in a message, but one that is no hint is refused: left to itself, Celery stops the
    whole worker at a body that has not the shape of a task's arguments."""
    take: Callable[..., Any] = default(task, app, consumer, **named)

    def careful(*message: Any, **more: Any) -> Any:
        try:
            return take(*message, **more)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise InvalidTaskError(f"no arguments of a task: {error}") from error

    return careful


def _publish(task: Task[[str], None], name: str) -> None:
    # no retry: a hint that cannot be published now is published by the next sweep
    task.apply_async(args=(name,), retry=False)
