"""The two ends of a transfer: what can be asked of each, by the same scripts here and behind ssh."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from connectors.errands import TransferFailure, blamed
from connectors.errors import Fault
from connectors.files.shell import Record, ShellFiles
from connectors.ssh.reach import Reach
from connectors.ssh.transport import LocalTransport, Transport

LiveRoot = Callable[[], Path]
"""Where a folder of this machine is; raises SiteUnreachable while it is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A side on this machine."""

    live_root: LiveRoot


Side = Here | Reach


class End:
    """One side, for the time of one transfer. `stop`, once set, breaks off what is being asked with Stopped."""

    def __init__(self, site: str, side: Side, *, stop: threading.Event) -> None:
        self.site = site
        self.reach = side if isinstance(side, Reach) else None
        self._live_root = side.live_root if isinstance(side, Here) else None
        self._transport: Transport = side.transport if isinstance(side, Reach) else LocalTransport(site=site)
        self._prelude = side.prelude if isinstance(side, Reach) else ""
        self._stop: threading.Event | None = stop
        self._seconds = 0.0
        with self.blamed():
            self.root = side.root if isinstance(side, Reach) else str(side.live_root().resolve())
            self._shell = ShellFiles(
                self._run,
                site=site or "broker",
                root=self.root,
                umask=side.umask if isinstance(side, Reach) else "077",
                identity=side.identity if isinstance(side, Reach) else "",
                marked=isinstance(side, Reach),
            )

    def ask(
        self, script: str, lines: Sequence[str], *, about: Sequence[str] = (), seconds: float = 300.0
    ) -> list[Record]:
        """What the script tells. A refusal of one of `about` (in the order asked) raises TransferFailure."""
        self._seconds = seconds
        with self.blamed():
            if self._live_root is not None:
                self._live_root()
            records = list(self._shell.ask(script, lines))
            self._shell.complain(records, about)
        return records

    def go_through(self) -> None:
        """From now on nothing is broken off: files are being put in place, or put away."""
        self._stop = None

    def failure(self, reason: str, fault: Fault = Fault.STAGING) -> TransferFailure:
        return TransferFailure(reason, fault=fault, site=self.site)

    def blamed(self) -> AbstractContextManager[None]:
        """What goes wrong inside is this side's fault."""
        return blamed(self.site)

    def _run(self, script: str, stdin: bytes) -> bytes:
        return self._transport.run(self._prelude + script, stdin, deadline=self._seconds, stop=self._stop)
