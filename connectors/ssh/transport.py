"""How a script gets to where the scheduler's commands are, and its output back: the port, and this machine.

A transport runs a script once and never again by itself. What it raises says whether the script may have run.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.errors import BadReply, SiteUnreachable

LARGEST = 64 << 20
"""Bytes of a reply."""
_LARGEST_WORDS = 1 << 16
"""Bytes of stderr that are kept."""
_BLOCK = 1 << 16


GRACE = 3.0
"""Seconds that a program which was asked to end has to put its things in order."""


class Stopped(Exception):
    """The call was broken off because its `stop` was set; the program has ended."""


class Transport(Protocol):
    """A way to run scripts at a site."""

    def run(self, script: str, stdin: bytes, *, deadline: float, stop: threading.Event | None = None) -> bytes:
        """What this POSIX sh script prints there. Raises SiteUnreachable (`effect_possible` tells whether it may have
        run), CredentialError, BadReply; Stopped once `stop` was set. How the script ended is its own to tell."""
        ...

    def told(self) -> str:
        """Where that is, for a person."""
        ...

    def login(self) -> Sequence[str]:
        """The command by which a person opens the connection where a second factor is asked; empty: none is needed."""
        ...

    def close(self) -> None:
        """End what is kept open between calls."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A program that has ended by itself."""

    code: int
    out: bytes
    err: str


class LocalTransport:
    """A child process on this machine, in a session of its own."""

    def __init__(self, *, site: str, env: Mapping[str, str] | None = None) -> None:
        self._site = site
        self._env = env

    def run(self, script: str, stdin: bytes, *, deadline: float, stop: threading.Event | None = None) -> bytes:
        env = self._env or jobs_environment()
        argv = ["/bin/sh", "-c", script]
        return talk(argv, stdin, site=self._site, deadline=deadline, env=env, stop=stop).out

    def told(self) -> str:
        return "on this machine"

    def login(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        """Nothing is kept."""


def jobs_environment() -> dict[str, str]:
    """The broker's environment without the broker's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}


def talk(
    argv: Sequence[str],
    stdin: bytes,
    *,
    site: str,
    deadline: float,
    env: Mapping[str, str],
    stop: threading.Event | None = None,
    heard: Callable[[bytes], None] | None = None,
) -> Ended:
    """Run a program and read what it says, within bounds of time and size; then it and its children are ended.

    `stop`: once set, the program is ended and Stopped is raised. `heard` is told of its output as it comes, and none is
    kept then.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    except OSError as error:
        found = SiteUnreachable(f"site {site}: {argv[0]} does not start ({error.strerror})", site=site)
        found.effect_possible = False
        raise found from error
    with process:
        try:
            end = time.monotonic() + deadline
            out, err = _exchange(process, stdin, site=site, end=end, stop=stop, heard=heard)
            return Ended(code=process.wait(), out=out, err=err.decode("utf-8", "replace"))
        except Stopped:
            _ask_to_end(process)
            raise
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Gently: what was half done may be worth keeping. Who takes too long is ended by the caller."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)


def _exchange(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    *,
    site: str,
    end: float,
    stop: threading.Event | None,
    heard: Callable[[bytes], None] | None,
) -> tuple[bytes, bytes]:
    """Both outputs, until the program ends: what it leaves in the background may hold its outputs open for long."""
    assert process.stdin is not None  # noqa: S101 - pipes were asked for
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    rest, out, err = memoryview(stdin), bytearray(), bytearray()
    for pipe in (process.stdin, process.stdout, process.stderr):
        os.set_blocking(pipe.fileno(), False)
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ, out)
        waiting.register(process.stderr, selectors.EVENT_READ, err)
        if rest:
            waiting.register(process.stdin, selectors.EVENT_WRITE)
        else:
            process.stdin.close()
        while len(waiting.get_map()) > 0:
            if stop is not None and stop.is_set():
                raise Stopped
            left = end - time.monotonic()
            if left <= 0:
                raise SiteUnreachable(f"site {site}: no answer in time", site=site)
            over = process.poll() is not None
            ready = waiting.select(0 if over else min(left, 0.05))
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    rest = _feed(process, rest, waiting)
                else:
                    _drain(key, waiting, site)
            if heard is not None and out:
                heard(bytes(out))
                out.clear()
            if over and not any(key.fileobj is not process.stdin for key, _ in ready):
                break
    return bytes(out), bytes(err)


def _feed(process: subprocess.Popen[bytes], rest: memoryview, waiting: selectors.BaseSelector) -> memoryview:
    assert process.stdin is not None  # noqa: S101 - as above
    try:
        rest = rest[os.write(process.stdin.fileno(), rest[:_BLOCK]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:  # it does not want the rest; what it prints says why
        rest = rest[:0]
    if not rest:
        waiting.unregister(process.stdin)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    return rest


def _drain(key: selectors.SelectorKey, waiting: selectors.BaseSelector, site: str) -> None:
    try:
        block = os.read(key.fd, _BLOCK)
    except BlockingIOError:
        return
    if not block:
        waiting.unregister(key.fileobj)
        return
    found: bytearray = key.data
    found += block
    if len(found) > LARGEST:
        raise BadReply(f"site {site}: the reply is larger than {LARGEST} bytes", site=site)
