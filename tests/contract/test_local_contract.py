"""The local site against the contract that all connectors share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from connectors.base import Preparable, Site
from connectors.contract import SiteContract
from connectors.errors import SiteUnreachable
from connectors.local import LocalSite, make
from connectors.model import JobSpec, SmallFile, SubmitAnswer
from connectors.registry import SiteConfig

SCRIPT = """\
echo begun >> begun.log
{wait}
exit {exit_code}
"""


def now() -> int:
    return time.time_ns() // 1000


class LocalRig:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "site"
        self.away = folder / "site.away"
        self.connect().prepare()

    def connect(self) -> LocalSite:
        options = {"cancel_grace": 0.2}
        return make(SiteConfig(name="here", connector="local", root=str(self.root), options=options), now)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        script = SCRIPT.format(wait=f"sleep {seconds}" if seconds else ":", exit_code=exit_code)
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry="job.sh",
            files=(SmallFile(path="job.sh", content=script.encode()),),
        )

    def executions(self, key: str) -> int:
        log = self.root / "runs" / key / "begun.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.005)

    def darken(self) -> None:
        self.root.rename(self.away)

    def brighten(self) -> None:
        self.away.rename(self.root)

    def lose_next_reply(self, site: Site) -> bool:
        """The wire of an in-process site is the return from its verb: cut that, once."""
        whole = site.submit

        def cut(specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
            site.submit = whole
            whole(specs)
            raise SiteUnreachable("the reply was lost", site="here")

        site.submit = cut
        return True

    def end_all(self) -> None:
        """No process of a test outlives it."""
        if self.away.exists():
            self.brighten()
        site = self.connect()
        keys = [item.key for item in site.list_mine(0).items]
        self.wait_until(lambda: all(site.cancel(keys).values()), within=10)


class TestLocalSite(SiteContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[LocalRig]:
        rig = LocalRig(tmp_path)
        yield rig
        rig.end_all()

    def test_it_can_be_prepared(self, rig: LocalRig) -> None:
        site = rig.connect()
        assert isinstance(site, Preparable)
        assert site.prepare() == rig.connect().prepare()
