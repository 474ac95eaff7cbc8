"""A simulated site that lives in another process, so that several workers of one broker use the same one.

`sandbox.host` has the world; what is here only carries calls there. A host that is away, frozen or just restarted is
a site that gives no answer; nothing waits longer than CALL_TIMEOUT. Nothing is tried twice.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.errors import BadReply, RequestRefused, SiteUnreachable
from connectors.model import (
    Evidence,
    FileInfo,
    JobSpec,
    Listing,
    SmallFile,
    SubmitAnswer,
    Transfer,
    TransferStatus,
)
from connectors.registry import Clock, SiteConfig
from sandbox.options import faults_of, shape_of, socket_of
from sandbox.wire import Foreign, close, packed, raised, receive, same_user, send

CONNECT_TIMEOUT = 2.0
CALL_TIMEOUT = 10.0
"""Seconds until the host counts as away; a healthy one answers in a millisecond."""
_CAPABILITIES = ("submit", "status", "files", "transfer")


class Line:
    """Connections to a host, one per call under way; each begins with the same greeting."""

    def __init__(self, path: Path, greeting: object, *, name: str) -> None:
        self._path, self._greeting, self._name = path, greeting, name
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def call(self, verb: str, *arguments: object, **named: object) -> Any:
        """What the host answers. Raises SiteError: unreachable as long as there is no answer."""
        try:
            frame = packed((verb, arguments, named))
        except ValueError as error:
            raise RequestRefused(f"{self._name}: {error}", site=self._name) from error
        line = self._taken()
        try:
            answer = self._asked(line, frame)
        except BaseException:
            # what was asked here may still be answered: nobody else must read that
            close(line)
            raise
        with self._lock:
            self._idle.append(line)
        return self._value(answer)

    def close(self) -> None:
        """Hang up; a later call connects anew."""
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            close(line)

    def _taken(self) -> socket.socket:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.settimeout(CONNECT_TIMEOUT)
            line.connect(str(self._path))
            same_user(line)
            self._value(self._asked(line, packed(self._greeting)))
            line.settimeout(CALL_TIMEOUT)
        except Foreign as error:
            close(line)
            raise BadReply(f"{self._name}: {error}", site=self._name) from error
        except OSError as error:
            close(line)
            why = f"{self._name}: its world does not answer ({type(error).__name__})"
            raise SiteUnreachable(why, site=self._name) from error
        except BaseException:
            close(line)
            raise
        return line

    def _asked(self, line: socket.socket, frame: bytes) -> Any:
        try:
            send(line, frame)
            return receive(line)
        except Foreign as error:
            raise BadReply(f"{self._name}: {error}", site=self._name) from error
        except OSError as error:
            self.close()  # the others led to the same host
            why = f"{self._name}: its world gave no answer ({type(error).__name__})"
            raise SiteUnreachable(why, site=self._name) from error

    def _value(self, answer: Any) -> Any:
        try:
            well, value = answer
            failure = None if well else raised(*value)
        except (TypeError, ValueError) as error:
            raise BadReply(f"{self._name}: an answer of no known form", site=self._name) from error
        if failure is not None:
            raise failure
        return value


class SharedSite:
    """`connectors.base.Site`, whose model the host has. Thread-safe."""

    inline = True

    def __init__(self, config: SiteConfig, clock: Clock) -> None:
        """Makes no call: the host may come later. Raises ValueError for an option that is wrong."""
        world = socket_of(config)
        if world is None:
            raise ValueError(f"site {config.name} names no `world:`")
        faults_of(config, 0)  # the host will read them; who wrote them is told here
        self.name = config.name
        self.claim = shape_of(config).claim
        self.config = config
        self.world = world
        self._clock = clock
        self._line = Line(world, ("site", config), name=config.name)

    def close(self) -> None:
        self._line.close()

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        answers: Mapping[str, SubmitAnswer] = self._line.call("submit", list(specs))
        return answers

    def find(self, keys: Sequence[str]) -> Listing:
        listing: Listing = self._line.call("find", list(keys))
        return listing

    def status(self, keys: Sequence[str]) -> Listing:
        listing: Listing = self._line.call("status", list(keys))
        return listing

    def list_mine(self, since: int) -> Listing:
        listing: Listing = self._line.call("list_mine", since)
        return listing

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        answers: Mapping[str, bool] = self._line.call("cancel", list(keys))
        return answers

    # -- files ---------------------------------------------------------------------------------------------

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        content: bytes = self._line.call("read", path, offset=offset, limit=limit)
        return content

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        contents: Mapping[str, bytes] = self._line.call("read_many", list(paths), limit=limit)
        return contents

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self._line.call("write", path, content, mode=mode)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        for file in files:
            self.write(file.path, file.content, mode=file.mode)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        found: Sequence[FileInfo] = self._line.call("list", path, recursive=recursive)
        return found

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found: Mapping[str, tuple[int, str]] = self._line.call("digests", [*paths])
        return found

    def remove(self, paths: Sequence[str]) -> None:
        self._line.call("remove", [*paths])

    # -- health --------------------------------------------------------------------------------------------

    def probe(self) -> Sequence[Evidence]:
        try:
            found: Sequence[Evidence] = self._line.call("probe")
        except (SiteUnreachable, BadReply) as error:
            return tuple(
                Evidence(site=self.name, capability=name, ok=False, at=self._clock(), detail=str(error))
                for name in _CAPABILITIES
            )
        return found


class SharedMover:
    """`connectors.base.ClosableMover` in the host; the broker's own store is a folder that both can see."""

    def __init__(self, sites: Sequence[SharedSite], blobs: Path) -> None:
        """Raises ValueError unless all sites are in one world."""
        worlds = {site.world for site in sites}
        if len(worlds) != 1:
            raise ValueError("simulated sites that share files must name the same `world:`")
        greeting = ("mover", str(blobs.absolute()), [site.config for site in sites])
        self._line = Line(worlds.pop(), greeting, name="the mover")

    def close(self) -> None:
        self._line.close()

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        answers: Mapping[str, SubmitAnswer] = self._line.call("submit", list(transfers))
        return answers

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        found: Mapping[str, TransferStatus] = self._line.call("status", list(keys))
        return found

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        answers: Mapping[str, bool] = self._line.call("cancel", list(keys))
        return answers
