"""Celery tasks: envelopes. Each is a hint to look at something, safe to lose, to double and to delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from celery import Celery, Task

LOOK_AT_RUN = "crossfade.look_at_run"
LOOK_AT_SITE = "crossfade.look_at_site"


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
    @app.task(name=LOOK_AT_RUN, shared=False)
    def look_at_run(run_id: str) -> None:
        engine.run_woken(run_id)

    @app.task(name=LOOK_AT_SITE, shared=False)
    def look_at_site(site: str) -> None:
        engine.site_woken(site)

    def publish(task: Task[[str], None]) -> Callable[[str], None]:
        return lambda name: _publish(task, name)

    return Wakeups(look_at_run=publish(look_at_run), look_at_site=publish(look_at_site))


def _publish(task: Task[[str], None], name: str) -> None:
    # no retry: a hint that cannot be published now is published by the next sweep
    task.apply_async(args=(name,), retry=False)
