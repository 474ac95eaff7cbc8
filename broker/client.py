"""A small client of the HTTP face: submit, look, command, wait.

    with Client.of_home() as crossfade:
        run = crossfade.submit(Path("workflow.yaml"), key="night-12").run
        print(crossfade.wait(run)["state"])

Errors are the broker's own: UsageError, NotFound, RefusedByPolicy, KeyInUse, WaitTimedOut, and Unavailable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import httpx

from broker import sse
from broker.api.auth import Token, read_token
from broker.api.places import reachable
from broker.config import Settings, read_settings
from broker.errors import BrokerError, KeyInUse, NotFound, RefusedByPolicy, UsageError, WaitTimedOut
from broker.states import RunState

TIMEOUT = 60.0
"""Seconds for one request. The server's store may have others to serve first."""
LOOK_EVERY = 0.2
LONGEST_PAUSE = 5.0
"""Seconds between two looks of `wait`: it begins with the first, and comes to the second."""
QUIET = 30.0
"""Seconds after which a stream of events that says nothing is taken for broken; the server speaks every 10."""
TRIES = 4
"""For a request that may be sent again at no risk."""

View = dict[str, Any]
Command = Literal["cancel", "hold", "release", "retry", "move", "adopt", "reap"]


class Unavailable(BrokerError):
    """No server answers there, or it cannot use its store now. What was asked may or may not have been done."""


class Refused(UsageError):
    """The server does not take what was sent; `problem` is its answer whole."""

    def __init__(self, message: str, *, problem: View, help: str = "") -> None:  # noqa: A002 - the reader's word
        super().__init__(message, help=help)
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that is stored. `new` is False when its key named a run that was there already."""

    run: str
    new: bool
    warnings: Sequence[str]


class Client:
    """One server. Thread-safe. A context manager.

    `where` is the path of a server's socket, or http://HOST:PORT on loopback.
    """

    def __init__(
        self,
        where: Path | str,
        token: Token,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stack = ExitStack()
        self._sleep, self._clock = sleep, clock
        base = "http://localhost"
        if isinstance(where, str) and where.startswith("http://"):
            base = where
        elif transport is None:
            transport = httpx.HTTPTransport(uds=self._stack.enter_context(reachable(Path(where))))
        self._where = str(where)
        self._http = self._stack.enter_context(
            # no proxy and no .netrc: the token is for this server alone
            httpx.Client(
                transport=transport,
                base_url=base,
                headers={"Authorization": token.header},
                timeout=timeout,
                trust_env=False,
            )
        )

    @classmethod
    def of_home(cls, settings: Settings | None = None, *, where: str | None = None) -> Client:
        """The server of this installation: its socket, or `where`, with the token in its file."""
        settings = settings or read_settings(os.environ)
        return cls(where or settings.socket, read_token(settings))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._stack.close()

    # -- asking ------------------------------------------------------------------------------------------------

    def submit(
        self,
        document: Path | str | Mapping[str, Any],
        *,
        params: Mapping[str, str | int | float | bool] | None = None,
        key: str | None = None,
        again: bool = False,
        name: str | None = None,
        hold: bool = False,
        event_time: datetime | None = None,
        bodies: Literal["noop", "sleep", "bytes"] = "noop",
        scale: float = 1.0,
    ) -> Submitted:
        """Store a run of a document: a file, its text, or its data; `hold`: nothing of it starts before it is released,
        and where its data may be can be waived until then; `event_time`, with its zone: when what it is about happened.
        With a `key` (and not `again`) it is sent again
        when no answer came, and is the same run."""
        try:
            sent = document.read_text(encoding="utf-8") if isinstance(document, Path) else document
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {document}: {error}") from error
        body: View = {"document": sent, "params": dict(params or {}), "bodies": bodies, "scale": scale, "again": again}
        body |= {"hold": True} if hold else {}
        body |= {} if event_time is None else {"event_time": event_time.isoformat()}
        body |= {name: value for name, value in (("key", key), ("name", name)) if value is not None}
        view = self._asked("POST", "/v1/runs", body, once=key is None or again)
        return Submitted(run=view["run"], new=view["new"], warnings=tuple(view["warnings"]))

    def command(
        self,
        kind: Command,
        run: str,
        *,
        stage: str | None = None,
        to: str | None = None,
        attempt: int | None = None,
        reason: str = "",
    ) -> View:
        """Ask for a change of a run or a stage; the command as it is kept. `attempt`: with adopt and reap."""
        body: View = {"kind": kind, "stage": stage, "to": to, "reason": reason}
        if attempt is not None:
            body["attempt"] = attempt
        return self._view("POST", f"{_of(run)}/commands", body)

    def cancel(self, run: str, *, stage: str | None = None, reason: str = "") -> View:
        """End a run or a stage for good."""
        return self.command("cancel", run, stage=stage, reason=reason)

    def outcome(self, run: str, command: str) -> str | None:
        """What became of a command; None: nobody has carried it out yet."""
        outcome = self._view("GET", f"{_of(run)}/commands/{quote(command, safe='')}")["outcome"]
        return None if outcome is None else str(outcome)

    # -- looking -----------------------------------------------------------------------------------------------

    def status(self, run: str, stage: str | None = None) -> View:
        """A run with its stages and attempts, or with one of its stages."""
        return self._view("GET", f"{_of(run)}/stages/{quote(stage, safe='')}" if stage else _of(run))

    def explain(self, run: str, stage: str | None = None) -> View:
        """Every decision, with its reasons and in words."""
        return self._view("GET", f"{_of(run)}/explain", stage=stage)

    def timeline(self, run: str, stage: str | None = None) -> list[View]:
        """What happened, in order."""
        return self._views(f"{_of(run)}/timeline", stage=stage)

    def checkpoints(self, run: str, stage: str | None = None) -> list[View]:
        """Checkpoints by stage, where copies are, and the work that would be lost with a site."""
        return self._views(f"{_of(run)}/checkpoints", stage=stage)

    def where(self, run: str, stage: str | None = None) -> list[View]:
        """Products by stage, which sides hold them, and how sure that is."""
        return self._views(f"{_of(run)}/where", stage=stage)

    # -- waivers -----------------------------------------------------------------------------------------------

    def waivers(self, run: str | None = None) -> list[View]:
        """Waivers of where data may be, of a run or of all, those asked for last first."""
        return self._views(f"{_of(run)}/waivers" if run else "/v1/waivers")

    def ask_waiver(self, run: str, site: str, *, reason: str, rule: str = "", seconds: float = 86_400.0) -> View:
        """Ask that a rule does not hold at a site, or place, for a run; it holds once another person confirms it."""
        body = {"site": site, "rule": rule, "reason": reason, "seconds": seconds}
        return self._view("POST", f"{_of(run)}/waivers", body)

    def confirm_waiver(self, waiver: str, *, reason: str) -> View:
        """Let it hold, as another person than the one who asked for it."""
        return self._view("POST", f"/v1/waivers/{quote(waiver, safe='')}/confirm", {"reason": reason})

    def withdraw_waiver(self, waiver: str, *, reason: str = "") -> View:
        """Let it hold no longer."""
        return self._view("POST", f"/v1/waivers/{quote(waiver, safe='')}/withdraw", {"reason": reason})

    # -- operators ---------------------------------------------------------------------------------------------

    def freezes(self, *, everything: bool = False) -> list[View]:
        """What is frozen, by whom, why and until when; `everything`: also what is over."""
        return self._views("/v1/freezes", all=str(everything).lower())

    def freeze(self, on: str, *, reason: str, seconds: float = 3600.0, site: str | None = None) -> View:
        """Freeze `moves` or `submits`, at one site or at all."""
        return self._view("POST", "/v1/freezes", {"on": on, "site": site, "seconds": seconds, "reason": reason})

    def thaw(self, on: str | None = None, *, site: str | None = None, reason: str = "") -> list[View]:
        """End what is frozen there; what was ended."""
        body = {"on": on, "site": site, "reason": reason}
        ended: list[View] = self._asked("POST", "/v1/freezes/end", body, once=True)
        return ended

    # -- the installation --------------------------------------------------------------------------------------

    def queue(self, *, limit: int = 100) -> list[View]:
        """Unfinished runs, newest first."""
        return self._views("/v1/runs", limit=limit)

    def history(self, *, limit: int = 100) -> list[View]:
        """All runs, newest first."""
        return self._views("/v1/runs", limit=limit, all="true")

    def sites(self) -> list[View]:
        """Every site: how it stands, since when, and why."""
        return self._views("/v1/sites")

    def healthy(self) -> bool:
        """Does a server answer, and its store?"""
        try:
            return self._http.get("/v1/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def wait(self, run: str, *, timeout: float | None = None) -> View:
        """The run's status once it is over, however it ended. A server that goes away meanwhile is waited for, too.

        Raises WaitTimedOut after `timeout` seconds; without one, Unavailable when no server comes back for a minute.
        """
        begun = heard = self._clock()
        pause = LOOK_EVERY
        while True:
            state = "not known"
            try:
                view = self.status(run)
                state, heard = str(view["state"]), self._clock()
                if RunState(state).final:
                    return view
            except Unavailable:
                if timeout is None and self._clock() - heard > TIMEOUT:
                    raise
            left = pause if timeout is None else begun + timeout - self._clock()
            if left <= 0:
                raise WaitTimedOut(f"run {run} is not over yet (its state: {state})")
            self._sleep(min(pause, left))
            pause = min(pause * 1.3, LONGEST_PAUSE)

    def events(self, run: str, *, after: int = 0) -> Iterator[View]:
        """What happens, as it happens, to the run's end; from the event behind number `after` on, each one once.

        A connection that breaks is made again. Raises Unavailable when no server comes back for a minute.
        """
        heard = self._clock()
        while True:
            try:
                for message in self._followed(run, after):
                    heard = self._clock()
                    if message.kind == sse.END:
                        return
                    view: View = json.loads(message.data)
                    if view["seq"] > after:
                        after = view["seq"]
                        yield view
                heard = self._clock()  # a server that ends it in order is one that answers
            except (httpx.TransportError, Unavailable) as error:
                if self._clock() - heard > TIMEOUT:
                    raise Unavailable(
                        f"no server tells of run {run} at {self._where}", help="crossfade serve"
                    ) from error
            self._sleep(LOOK_EVERY)

    def _followed(self, run: str, after: int) -> Iterator[sse.Message]:
        """One connection's worth."""
        headers = {"Last-Event-ID": str(after), "Accept": sse.MEDIA_TYPE}
        with self._http.stream("GET", f"{_of(run)}/events", headers=headers, timeout=QUIET) as answer:
            if not answer.is_success:
                answer.read()
                _content(answer)
            yield from sse.read(answer.iter_lines())

    # -- inner -------------------------------------------------------------------------------------------------

    def _view(self, method: str, path: str, body: View | None = None, **query: object) -> View:
        view: View = self._asked(method, path, body, once=method == "POST", **query)
        return view

    def _views(self, path: str, **query: object) -> list[View]:
        views: list[View] = self._asked("GET", path, None, once=False, **query)
        return views

    def _asked(self, method: str, path: str, body: View | None, *, once: bool, **query: object) -> Any:
        """The answer. A request that may be sent `once` only is sent again where it certainly did nothing."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = self._http.request(method, path, json=body, params=given)
            except httpx.TransportError as error:
                if left and not once:
                    self._sleep(LOOK_EVERY)
                    continue
                what = f"no server answers at {self._where}: {error or type(error).__name__}"
                raise Unavailable(what, help="crossfade serve") from error
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and left and not once:
                self._sleep(_seconds(answer))
                continue
            return _content(answer)
        raise AssertionError("unreachable")


def _of(run: str) -> str:
    return f"/v1/runs/{quote(run, safe='')}"


def _seconds(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), LONGEST_PAUSE) if text.isdigit() else LOOK_EVERY


def _content(answer: httpx.Response) -> Any:
    """What was asked for, or the error that says why not."""
    try:
        content = answer.json()
    except ValueError:
        content = None
    if answer.is_success and content is not None:
        return content
    found: View = content if isinstance(content, dict) else {}
    raise _error(answer.status_code, found)


def _error(status: int, found: View) -> BrokerError:
    message, cure = _words(status, found), str(found.get("help", ""))
    match status:
        case 404:
            return NotFound(message)
        case 403 if str(found.get("type", "")).endswith(":refused"):
            return RefusedByPolicy(message, help=cure)
        case 409 if "run" in found:
            return KeyInUse(message, run_id=str(found["run"]), help=cure)
        case 503 | 507:
            return Unavailable(message, help=cure)
    return Refused(message, problem=found, help=cure)


def _words(status: int, found: View) -> str:
    parts = [str(found.get("title", f"the server answered {status}")), str(found.get("detail", ""))]
    for each in found.get("problems", ()):
        place = f"line {each['line']} {each['where']}" if each.get("line") else str(each.get("where", ""))
        parts.append("; ".join(filter(None, (f"{place}: {each.get('message', '')}", str(each.get("cure", ""))))))
    return "\n".join(filter(None, parts))
