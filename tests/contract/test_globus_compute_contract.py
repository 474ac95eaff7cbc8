"""Globus Compute against the contract that all connectors share, the web service stood in for (tests/compute_kit.py):
tasks are unpacked and run by the SDK's own code, in real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compute_kit import ENDPOINT, ComputeFace, LosesReplies

from connectors.base import Checkable, Preparable, Scripted, Site
from connectors.contract import SiteContract
from connectors.globus_compute import ComputeEndpointSite, make
from connectors.model import JobSpec, SmallFile
from connectors.registry import SiteConfig
from sandbox.serving import InProcess

# ends when the wrapper would: asked to stop by a file, since the service ends no task
SCRIPT = """\
echo begun >> begun.log
steps={steps}
while [ "$steps" -gt 0 ] && [ ! -e .crossfade/request ]; do sleep 0.02; steps=$((steps - 1)); done
[ ! -e .crossfade/request ] || exit 143
exit {exit_code}
"""


def now() -> int:
    return time.time_ns() // 1000


class ComputeRig:
    def __init__(self, folder: Path, face: ComputeFace, *, files: str) -> None:
        self.root, self.face, self.files = folder / "site", face, files
        self.away = folder / "site.away"
        self.loses = LosesReplies()
        self.wire = InProcess(face, self.loses)
        token = folder / "token"
        token.write_text(face.token)
        token.chmod(0o600)
        self._credentials = {"token": f"file:{token}"}
        self.connect().prepare()

    def connect(self) -> ComputeEndpointSite:
        options: dict[str, object] = {"endpoint": ENDPOINT, "config": {"launcher_type": "mpiexec"}}
        if self.files == "mounted":
            options |= {"files": "mounted", "mount": str(self.root)}
        else:
            options |= {"files_endpoint": ENDPOINT}
        config = SiteConfig(
            name="there", connector="globus_compute", root=str(self.root), options=options,
            credentials=self._credentials, installation="i1",
        )  # fmt: skip
        return make(config, now, transport=self.wire, sleep=lambda seconds: time.sleep(min(seconds, 0.01)))

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        script = SCRIPT.format(steps=int(seconds * 50), exit_code=exit_code)
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry="job.sh",
            files=(
                SmallFile(path="job.sh", content=script.encode()),
                SmallFile(path=".crossfade/here", content=b""),
            ),
        )

    def executions(self, key: str) -> int:
        log = (self.away if self.away.exists() else self.root) / "runs" / key / "begun.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.01)

    def darken(self) -> None:
        self.face.down = True
        self.root.rename(self.away)

    def brighten(self) -> None:
        self.away.rename(self.root)
        self.face.down = False

    def lose_next_reply(self, site: Site) -> bool:
        self.loses.left = 1
        return True


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeFace]:
    found = ComputeFace(tmp_path_factory.mktemp("compute") / "service")
    found.wait_ready()
    yield found
    found.close()


class TestGlobusCompute(SiteContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, face: ComputeFace) -> Iterator[ComputeRig]:
        face.down = False
        yield ComputeRig(tmp_path, face, files="mounted")
        face.down = False

    def test_it_has_the_ports_for_people(self, rig: ComputeRig) -> None:
        site = rig.connect()
        assert isinstance(site, Preparable)
        assert isinstance(site, Scripted)
        assert isinstance(site, Checkable)


@pytest.fixture
def rig(tmp_path: Path, face: ComputeFace) -> Iterator[ComputeRig]:
    yield ComputeRig(tmp_path, face, files="endpoint")
    face.down, face.status, face.token = False, "online", "a-token-for-compute"


def test_files_go_through_short_functions_at_an_endpoint_whatever_their_size(rig: ComputeRig) -> None:
    site = rig.connect()
    content = bytes(range(256)) * 2_000  # four times what one argument of a command may hold
    site.write_many([SmallFile(path="a/b c.bin", content=content), SmallFile(path="d", content=b"")])
    assert site.read("a/b c.bin", limit=len(content)) == content
    assert [(info.path, info.size) for info in site.list("a")] == [("a/b c.bin", len(content))]
    assert set(site.digests(["a/b c.bin", "d", "nothing"])) == {"a/b c.bin", "d"}


def test_a_job_runs_with_nothing_but_endpoints(rig: ComputeRig) -> None:
    site = rig.connect()
    answer = site.submit([rig.job("cf01234567endpt")])["cf01234567endpt"]
    rig.wait_until(lambda: site.status(["cf01234567endpt"]).items[0].state.final, within=30)
    (item,) = site.status(["cf01234567endpt"]).items
    assert (item.state.value, item.exit_code, item.native_id) == ("succeeded", 0, answer.native_id)
    assert rig.executions("cf01234567endpt") == 1


def test_one_call_tells_of_all_tasks(tmp_path: Path, face: ComputeFace) -> None:
    rig = ComputeRig(tmp_path, face, files="mounted")
    site = rig.connect()
    keys = [f"cf0onecall{i:05d}" for i in range(20)]
    site.submit([rig.job(key) for key in keys])
    face.asked.clear()
    assert len(site.status(keys).items) == 20
    assert face.asked == ["POST /v2/batch_status"]


def test_what_goes_to_the_endpoint_can_be_read_before(tmp_path: Path, face: ComputeFace) -> None:
    site = ComputeRig(tmp_path, face, files="mounted").connect()
    face.asked.clear()
    spec = JobSpec(key="cf0123456789abc", digest="d", directory="runs/a b", entry=".crossfade/stage.sh")
    shown = site.script(spec)
    assert shown.script.endswith("runs/a b' && exec /bin/sh .crossfade/stage.sh >>.crossfade/wrapper.log 2>&1\n")
    assert '"launcher_type": "mpiexec"' in shown.request
    assert face.asked == []


def test_an_endpoint_that_is_off_line_takes_no_work_and_says_so(rig: ComputeRig, face: ComputeFace) -> None:
    face.status = "offline"
    said = {e.capability: e for e in rig.connect().probe()}
    assert said["status"].ok
    assert said["credentials"].ok
    assert not said["submit"].ok
    assert "offline" in said["submit"].detail


def test_a_token_that_has_ended_is_a_credentials_matter(rig: ComputeRig, face: ComputeFace) -> None:
    face.token = "another-token-by-now"
    (evidence,) = rig.connect().probe()
    assert (evidence.capability, evidence.ok) == ("credentials", False)
    assert "a-token-for-compute" not in evidence.detail


def test_a_result_that_is_a_pickle_is_never_opened(rig: ComputeRig, face: ComputeFace, tmp_path: Path) -> None:
    site = rig.connect()
    key = "cf0123456pickle"
    task = site.submit([rig.job(key)])[key].native_id
    rig.wait_until(lambda: site.status([key]).items[0].state.final, within=30)
    trap = tmp_path / "opened"
    code = f"cos\nsystem\n(S'touch {trap}'\ntR."
    (face._folder / "results" / task).write_text('{"result": ' + json.dumps("00\n" + code) + "}")
    (item,) = site.status([key]).items
    assert (item.state.value, item.exit_code) == ("succeeded", None)
    assert not trap.exists()
