"""Hosts a simulated world for the processes of one user: `python -m sandbox.host /run/me/world --events FILE`.

Sites come to be when the first process mentions them, with the shape that its site document gives them. The world is
in memory: a host that is started again has sites that have lost everything, jobs and disks.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from connectors.errors import RequestRefused, SiteError
from connectors.model import JobSpec
from connectors.registry import Clock, SiteConfig
from sandbox.connector import SimulatedSite, make_here
from sandbox.mover import SimulatedMover
from sandbox.options import WORLD, shape_of
from sandbox.wire import Foreign, close, packed, receive, same_user, send, told
from sandbox.world import SimulatedWorld, world_of

log = logging.getLogger(__name__)

SITE_VERBS = frozenset(
    {"submit", "find", "status", "list_mine", "cancel", "probe"}
    | {"read", "read_many", "write", "list", "digests", "remove"}
)
MOVER_VERBS = frozenset({"submit", "status", "cancel"})

Answer = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]
OnSiteStart = Callable[[str, JobSpec, int], None]
"""Called with the site's name whenever a payload really begins."""


class Refusal(Exception):
    """The host cannot be where it was told to be."""


class WorldHost:
    """A world behind a socket: a thread for whoever has connected. A context manager; `serve` works until `close`."""

    def __init__(self, path: Path, *, clock: Clock, on_start: OnSiteStart | None = None) -> None:
        """Listens, in a folder that nobody else may enter (made if it is absent). Raises Refusal."""
        self.path, self.clock, self._on_start = path, clock, on_start
        self._lock = threading.Lock()
        self._configs: dict[str, SiteConfig] = {}
        self._blobs: str | None = None
        self._mover = SimulatedMover(self.world, clock)
        self._lines: set[socket.socket] = set()
        self._owned = _own(path)
        self._listener = _listen(path)
        self._door = threading.Thread(target=self.serve, name="world-door", daemon=True)

    @property
    def world(self) -> SimulatedWorld:
        return world_of(self.clock)

    def serve(self) -> None:
        """Let processes in until the host is closed."""
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._lines.add(line)
            threading.Thread(target=self._attend, args=(line,), name="world", daemon=True).start()

    def close(self) -> None:
        """Hang up on everyone."""
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in (self._listener, *lines):
            try:
                line.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it, which a mere close does not
            except OSError:
                log.debug("it had hung up before")
            close(line)
        os.close(self._owned)

    def __enter__(self) -> WorldHost:
        self._door.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._door.join()

    # -- one connection ------------------------------------------------------------------------------------

    def _attend(self, line: socket.socket) -> None:
        try:
            same_user(line)
            answer = self._greeted(line)
            while answer is not None:
                verb, arguments, named = receive(line)
                send(line, self._answered(answer, verb, arguments, named))
        except (OSError, Foreign, ValueError, TypeError) as error:
            if isinstance(error, Foreign):
                log.warning("hung up on a stranger: %s", error)
        finally:
            with self._lock:
                self._lines.discard(line)
            close(line)

    def _greeted(self, line: socket.socket) -> Answer | None:
        """Whom this connection is for; None: refused."""
        greeting = receive(line)
        try:
            match greeting:
                case ("site", SiteConfig() as config):
                    site = self.site(config)
                    send(line, packed((True, None)))
                    return _verbs_of(site, SITE_VERBS)
                case ("mover", str(blobs), list(configs)):
                    for config in configs:
                        self.site(config)
                    self._serve_store(blobs)
                    send(line, packed((True, None)))
                    return _verbs_of(self._mover, MOVER_VERBS)
                case _:
                    raise RequestRefused("a greeting of no known form")
        except (RequestRefused, ValueError) as error:
            send(line, packed((False, told(RequestRefused(str(error))))))
            return None

    def _answered(self, answer: Answer, verb: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> bytes:
        try:
            return packed((True, answer(verb, arguments, named)))
        except SiteError as error:
            return packed((False, told(error)))
        except Exception as error:
            log.exception("%s broke off", verb)
            return packed((False, ("BadReply", f"{type(error).__name__}: {error}"[:500], "", None)))

    # -- what there is -------------------------------------------------------------------------------------

    def site(self, config: SiteConfig) -> SimulatedSite:
        """The site of that name, made now if it is new. Raises ValueError, RequestRefused (another one is there)."""
        own = replace(config, options={name: value for name, value in config.options.items() if name != WORLD})
        with self._lock:
            known = self._configs.get(config.name)
            if known is None:
                made = make_here(own, self.clock)
                if self._on_start is not None:
                    made.model.on_start(partial(self._on_start, config.name))
                self._configs[config.name] = own
                return made
        if shape_of(known) != shape_of(own) or known.options != own.options:
            raise RequestRefused(f"this world has another site {config.name}: start its host again", site=config.name)
        return self.world.site(config.name)

    def _serve_store(self, blobs: str) -> None:
        with self._lock:
            if self._blobs is None:
                self._blobs = blobs
                self.world.add_folder("", Path(blobs))
        if blobs != self._blobs:
            raise RequestRefused("this world serves another installation: start a host for each")


def _verbs_of(target: SimulatedSite | SimulatedMover, verbs: frozenset[str]) -> Answer:
    def answer(verb: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if verb not in verbs:
            raise RequestRefused(f"no verb {verb!r}"[:100])
        return getattr(target, verb)(*arguments, **named)

    return answer


# -- the door --------------------------------------------------------------------------------------------------


def _own(path: Path) -> int:
    """Be the only host there, as long as the descriptor is open. A host that was killed leaves no trace of that."""
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise Refusal(f"{folder} must be yours alone (chmod 700)")
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Refusal(f"{path} has a host already") from error
    return descriptor


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise Refusal(f"{path}: {error}") from error
    path.chmod(0o600)
    listener.listen(64)
    return listener


# -- the program -----------------------------------------------------------------------------------------------


class Events:
    """Appends `number attempt site time run` for each execution; the number is the stage's path, without the `s` that
    the benchmark's documents put before it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, site: str, spec: JobSpec, now: int) -> None:
        words = spec.comment.split(" ", 3)
        run, _, rest = (words[2] if len(words) > 2 else "-/-@0").partition("/")
        stage, _, attempt = rest.rpartition("@")
        number = stage[1:] if stage[:1] == "s" and stage[1:].isdigit() else stage
        os.write(self._descriptor, f"{number} {attempt} {site} {now / 1e6:.6f} {run}\n".encode())

    def close(self) -> None:
        os.close(self._descriptor)


_ENDS = (signal.SIGTERM, signal.SIGINT)


def main(argv: list[str] | None = None) -> int:
    """Host a world until SIGTERM or Ctrl-C; says so on stdout when it listens."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.host", description=main.__doc__)
    parser.add_argument("socket", type=Path, help="where the sites' option `world:` points to; its folder: mode 700")
    parser.add_argument("--events", type=Path, help="append a line `number attempt site time run` for each execution")
    options = parser.parse_args(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # before there are threads: they inherit it
    with ExitStack() as stack:
        events = None
        if options.events is not None:
            events = Events(options.events)
            stack.callback(events.close)
        try:
            stack.enter_context(WorldHost(options.socket.absolute(), clock=_wall_clock, on_start=events))
        except Refusal as error:
            sys.stderr.write(f"{error}\n")
            return 1
        sys.stdout.write(f"{options.socket}\n")
        sys.stdout.flush()
        signal.sigwait(_ENDS)
    return 0


def _wall_clock() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    sys.exit(main())
