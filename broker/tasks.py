"""Celery tasks: envelopes. Each is a hint to look at something, safe to lose, to double and to delay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from celery import Celery, Task
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default

LOOK_AT_RUNS = "crossfade.look_at_runs"
LOOK_AT_SITE = "crossfade.look_at_site"
ACT_AT_SITE = "crossfade.act_at_site"
MOVE = "crossfade.move"
SWEEP = "crossfade.sweep"
COME_BACK = "crossfade.come_back"
STRATEGY = "broker.tasks:take_in"
"""Celery's name for what takes in a message of these tasks."""

RUNS = "runs"
"""The queue of hints to look at runs."""
STALE_AFTER = 60
"""Seconds after which a hint that nobody took in is worth nothing: a newer one has been sent since."""
MOST_NAMES = 64
"""Runs that one hint may name, eight times what ours do. It holds a thread until all are looked at."""
LONGEST_NAME = 200
"""Characters. What is longer names nothing of ours."""


def site_queue(site: str) -> str:
    """The queue of what concerns a site."""
    return f"site.{site}"


class Engine(Protocol):
    """What the tasks call."""

    def runs_woken(self, run_ids: Sequence[str]) -> None: ...
    def site_woken(self, site: str) -> None: ...
    def site_acts(self, site: str) -> None: ...
    def movers_turn(self) -> None: ...
    def sweep(self) -> None: ...
    def came_back(self, sent: str) -> None: ...


Send = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class Wakeups:
    """Publishes hints. Each raises what the transport raises, after its timeouts at the latest."""

    look_at_runs: Callable[[Sequence[str]], None]
    look_at_site: Callable[[str], None]
    act_at_site: Callable[[str], None]
    move: Callable[[], None]
    come_back: Callable[[str, str], None]
    """(queue, what is to come back)"""


def register(app: Celery, engine: Engine) -> Wakeups:
    """Add the tasks to the application; they call `engine`. A hint about something that is no name is dropped."""

    # not shared: a second application in this process has a broker of its own behind these names
    @app.task(name=LOOK_AT_RUNS, shared=False, Strategy=STRATEGY)
    def look_at_runs(run_ids: list[str]) -> None:
        if isinstance(run_ids, list) and (names := [name for name in run_ids[:MOST_NAMES] if _is_name(name)]):
            engine.runs_woken(names)

    @app.task(name=LOOK_AT_SITE, shared=False, Strategy=STRATEGY)
    def look_at_site(site: str) -> None:
        if _is_name(site):
            engine.site_woken(site)

    @app.task(name=ACT_AT_SITE, shared=False, Strategy=STRATEGY)
    def act_at_site(site: str) -> None:
        if _is_name(site):
            engine.site_acts(site)

    @app.task(name=MOVE, shared=False, Strategy=STRATEGY)
    def move() -> None:
        engine.movers_turn()

    @app.task(name=SWEEP, shared=False, Strategy=STRATEGY)
    def sweep() -> None:
        engine.sweep()

    @app.task(name=COME_BACK, shared=False, Strategy=STRATEGY)
    def come_back(sent: str) -> None:
        if _is_name(sent):
            engine.came_back(sent)

    return wakeups(app)


def wakeups(app: Celery) -> Wakeups:
    """Publishes hints; whoever takes them in need not be this process."""

    def publish(task: str, queue: str, *arguments: object) -> None:
        # no retry: a hint that cannot be published now is published by the next sweep
        app.send_task(task, arguments, queue=queue, expires=STALE_AFTER, retry=False, ignore_result=True)

    return Wakeups(
        look_at_runs=lambda run_ids: publish(LOOK_AT_RUNS, RUNS, list(run_ids)),
        look_at_site=lambda site: publish(LOOK_AT_SITE, site_queue(site), site),
        act_at_site=lambda site: publish(ACT_AT_SITE, site_queue(site), site),
        move=lambda: publish(MOVE, RUNS),
        come_back=lambda queue, sent: publish(COME_BACK, queue, sent),
    )


def take_in(task: Task[Any, None], app: Celery, consumer: Any, **named: Any) -> Callable[..., Any]:
    """Celery's own way of taking in a message, but one that is no hint is refused: left to itself, Celery stops the
    whole worker at a body that has not the shape of a task's arguments."""
    take: Callable[..., Any] = default(task, app, consumer, **named)

    def careful(*message: Any, **more: Any) -> Any:
        try:
            return take(*message, **more)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise InvalidTaskError(f"no arguments of a task: {error}") from error

    return careful


def _is_name(found: object) -> bool:
    return isinstance(found, str) and 0 < len(found) <= LONGEST_NAME
