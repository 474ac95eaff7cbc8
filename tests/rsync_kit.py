"""An ssh server of the tests' own with a folder behind it, and rsync between that and a folder here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tool_kit
from command_kit import SshServer

from connectors.errors import SiteUnreachable
from connectors.model import Accepted, Transfer, TransferItem, TransferState, TransferStatus
from connectors.rsync import Here, RsyncMover
from connectors.ssh.openssh import OpenSshTransport
from connectors.ssh.options import SshOptions
from connectors.ssh.reach import Reach

FAR, NEAR = "far", "near"


def now() -> int:
    return time.time_ns() // 1000


@contextmanager
def server() -> Iterator[SshServer]:
    """Skipped where there is no rsync, or no sshd; with CI=true that fails."""
    tool_kit.require_tool("rsync")
    # a connection's socket has to have a short path
    with tempfile.TemporaryDirectory(prefix="cfrs") as folder, SshServer(Path(folder)) as started:
        yield started


class RsyncRig:
    """`source` and `destination`: which of the two is behind ssh."""

    def __init__(self, folder: Path, ssh: SshServer, *, upload: bool, **options: str) -> None:
        self.source, self.destination = (NEAR, FAR) if upload else (FAR, NEAR)
        self.folder, self.ssh = folder, ssh
        self.roots = {NEAR: folder / "near", FAR: folder / "far"}
        for root in self.roots.values():
            root.mkdir()
            (root / ".crossfade-site").write_text("0123456789abcdef\n")
        self.options = SshOptions(
            host="there",
            ssh_config=str(ssh.config),
            control=tempfile.mkdtemp(dir=ssh.folder),
            connect_timeout=5,
            **options,
        )
        self.movers: list[RsyncMover] = []
        self.transports: list[OpenSshTransport] = []

    def connect(self, *, pauses: Sequence[float] = (), **options: str) -> RsyncMover:
        chosen = replace(self.options, **options)
        transport = OpenSshTransport(site=FAR, options=chosen)
        reach = Reach(transport=transport, options=chosen, root=str(self.roots[FAR]))
        sides: Mapping[str, Here | Reach] = {NEAR: Here(live_root=self._near), FAR: reach}
        self.transports.append(transport)
        self.movers.append(RsyncMover(sides, now, pauses=pauses))
        return self.movers[-1]

    def _near(self) -> Path:
        if not (self.roots[NEAR] / ".crossfade-site").exists():
            raise SiteUnreachable("the folder is away", site=NEAR)
        return self.roots[NEAR]

    def path(self, site: str, path: str) -> Path:
        return self.roots[site] / path

    def put(self, site: str, path: str, content: bytes) -> None:
        at = self.path(site, path)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content)

    def get(self, site: str, path: str) -> bytes | None:
        at = self.path(site, path)
        return at.read_bytes() if at.is_file() else None

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.002)

    def darken(self, site: str) -> None:
        if site == FAR:
            self.ssh.stop()
            self.hang_up()
        else:
            self.roots[NEAR].rename(self.roots[NEAR].with_suffix(".away"))

    def hang_up(self) -> None:
        """End the shared connection, with all that goes through it."""
        self.transports[-1].close()

    def end(self) -> None:
        for mover in self.movers:
            mover.close()
        if not self.ssh.runs():
            self.ssh.start()
        for transport in self.transports[-1:]:
            transport.close()

    # -- for stories ---------------------------------------------------------------------------------------

    def transfer(self, *items: TransferItem, key: str = "cfrsync00000001", **more: object) -> Transfer:
        made = Transfer(key=key, source_site=self.source, destination_site=self.destination, items=items)
        return replace(made, **more)  # type: ignore[arg-type]

    def carry(self, mover: RsyncMover, transfer: Transfer) -> TransferStatus:
        answer = mover.submit([transfer])[transfer.key]
        assert isinstance(answer, Accepted), answer
        self.settle(mover, transfer.key)
        return mover.status([transfer.key])[transfer.key]

    def settle(self, mover: RsyncMover, key: str) -> None:
        future = mover._errands._known([key])[key].future
        assert future is not None
        wait([future], timeout=60)
        assert future.done()
        assert mover.status([key])[key].state is not TransferState.ACTIVE

    def names(self, site: str) -> list[str]:
        """All files there, our own marker excepted."""
        root = self.roots[site]
        found = (str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
        return sorted(set(found) - {".crossfade-site"})


def item(source: str = "from/a", destination: str = "to/a", mode: int | None = None) -> TransferItem:
    return TransferItem(source=source, destination=destination, mode=mode)
