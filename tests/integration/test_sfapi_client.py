"""NERSC's own client, as it is published, against our Superfacility face over a socket, with real processes.

All its replies pass the client's models: it raises where they do not.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from nersc_kit import DAY, Rehearsal

from sandbox.faces.superfacility import BASE, TOKEN
from sandbox.facilities import LiveFacility
from sandbox.facility import Outage
from sandbox.serving import FaceServer

pytestmark = pytest.mark.filterwarnings("ignore")  # the client's own dependencies are deprecated, and say so


class Place:
    """The rehearsal facility on a socket, and the client's settings for it."""

    def __init__(self, rehearsal: Rehearsal, server: FaceServer) -> None:
        self.rehearsal, self.server = rehearsal, server
        facility = rehearsal.facility
        assert isinstance(facility, LiveFacility)
        self.facility = facility
        self.root = Path(facility.files.root)

    def settings(self) -> Mapping[str, Any]:
        return {
            "api_base_url": self.server.address + BASE,
            "token_url": self.server.address + TOKEN,
            "key": self.rehearsal.key_file,
        }


@pytest.fixture
def rules() -> list[Mapping[str, Any]]:
    return []


@pytest.fixture
def place(tmp_path: Path, rules: list[Mapping[str, Any]]) -> Iterator[Place]:
    rehearsal = Rehearsal(tmp_path, *rules, live=True)
    server = FaceServer(rehearsal.face, rehearsal.script.of("nersc"), name="superfacility")
    facility = rehearsal.facility
    assert isinstance(facility, LiveFacility)
    with facility, server:
        yield Place(rehearsal, server)


@pytest.fixture
def client(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    sfapi = _sfapi()
    # the client looks once a second or slower: here a look is worth less
    for module in [name for name in sys.modules if name.startswith("sfapi_client._sync")]:
        if hasattr(sys.modules[module], "_SLEEP"):
            monkeypatch.setattr(sys.modules[module], "_SLEEP", _shortly)
    with sfapi.Client(**place.settings(), wait_interval=1) as made:
        yield made


def _sfapi() -> Any:
    """Imported late: its dependencies warn at their import, which the mark above is for."""
    import sfapi_client

    return sfapi_client


def _shortly(_: float = 0) -> None:
    time.sleep(0.02)


@pytest.fixture
def perlmutter(client: Any) -> Any:
    return client.compute("perlmutter")


SCRIPT = """\
#!/bin/bash
#SBATCH -J {name}
#SBATCH -C cpu -q debug -A m1234
#SBATCH -N 1 -t 00:05:00
#SBATCH --comment="a comment of theirs"
echo it ran
sleep {seconds}
exit {code}
"""


def script(name: str, *, seconds: float = 0, code: int = 0) -> str:
    return SCRIPT.format(name=name, seconds=seconds, code=code)


def test_a_job_is_submitted_watched_and_complete(place: Place, perlmutter: Any) -> None:
    job = perlmutter.submit_job(script("theirs"))
    assert job.complete(timeout=30).value == "COMPLETED"
    assert place.facility.accepted() == {"theirs": 1}
    assert (place.root / f"slurm-{job.jobid}.out").read_text() == "it ran\n"


def test_a_failing_job_has_failed_and_its_exit_code_is_in_the_accounting(perlmutter: Any) -> None:
    job = perlmutter.submit_job(script("failing", code=7))
    assert job.complete(timeout=30).value == "FAILED"
    found = perlmutter.job(job.jobid)  # sacct
    assert (found.jobname, found.exitcode, found.comment) == ("failing", "7:0", "a comment of theirs")


def test_a_running_job_is_listed_by_id_user_and_partition(perlmutter: Any) -> None:
    from sfapi_client.jobs import JobCommand

    job = perlmutter.submit_job(script("waiting", seconds=60))
    assert job.running(timeout=30).value == "RUNNING"
    for given in ({"jobids": [job.jobid]}, {"user": "user"}, {"partition": "regular"}, {}):
        found = perlmutter.jobs(**given)
        assert [(one.jobid, one.name, one.state.value) for one in found] == [(job.jobid, "waiting", "RUNNING")]
    assert perlmutter.jobs(user="somebody") == []
    rows = perlmutter.jobs(user="user", command=JobCommand.sacct)
    assert [row.jobid for row in rows] == [job.jobid, f"{job.jobid}.batch", f"{job.jobid}.extern"]
    job.cancel(wait=True)


def test_every_field_of_a_job_is_text(place: Place, perlmutter: Any, client: Any) -> None:
    from sfapi_client._models.job_status_response_sacct import OutputItem as Sacct
    from sfapi_client._models.job_status_response_squeue import OutputItem as Squeue

    job = perlmutter.submit_job(script("texts", seconds=60))
    for model, sacct in ((Squeue, "false"), (Sacct, "true")):
        reply = client.get("compute/jobs/perlmutter", params={"sacct": sacct, "cached": "false"}).json()
        assert reply["status"] == "OK"
        for row in reply["output"]:
            assert all(isinstance(value, str) for value in row.values())
            expected = {field.alias or name for name, field in model.model_fields.items()} - {"field_"}
            assert expected <= set(row)
    job.cancel(wait=True)


def test_a_canceled_job_is_canceled(perlmutter: Any) -> None:
    job = perlmutter.submit_job(script("doomed", seconds=60))
    job.running(timeout=30)
    job.cancel(wait=True)
    assert job.state.value == "CANCELLED"
    assert perlmutter.job(job.jobid).state.value == "CANCELLED"


def test_what_sbatch_refuses_is_told_in_its_words(place: Place, perlmutter: Any) -> None:
    from sfapi_client.exceptions import SfApiError

    with pytest.raises(SfApiError, match="Invalid partition name"):
        perlmutter.submit_job("#!/bin/sh\n#SBATCH -p nowhere\nexit 0\n")
    with pytest.raises(SfApiError, match="unrecognized option"):
        perlmutter.submit_job("#!/bin/sh\n#SBATCH --frobnicate=1\nexit 0\n")
    assert place.facility.accepted() == {}


def test_files_are_uploaded_listed_and_downloaded(place: Place, perlmutter: Any) -> None:
    (place.root / "data").mkdir()
    content = bytes(range(256)) * 40
    [folder] = perlmutter.ls(str(place.root / "data"), directory=True)
    assert folder.is_dir()
    target = folder / "numbers.bin"
    named = io.BytesIO(content)
    target.upload(named)
    assert (place.root / "data" / "numbers.bin").read_bytes() == content
    [found] = perlmutter.ls(str(place.root / "data"))
    assert (found.name, found.size, found.is_file()) == ("numbers.bin", len(content), True)
    assert found.download(binary=True).read() == content
    with found.open("w") as file:
        file.write("words\n")
    with found.open("r") as file:
        assert file.read() == "words\n"


def test_an_absent_file_and_one_outside_are_errors(place: Place, perlmutter: Any) -> None:
    from sfapi_client.exceptions import SfApiError

    with pytest.raises(SfApiError, match="No such file"):
        perlmutter.ls(str(place.root / "absent"))
    with pytest.raises(SfApiError, match="Permission denied"):
        perlmutter.ls("/etc")


def test_a_script_that_lies_there_is_submitted_by_its_path(place: Place, perlmutter: Any) -> None:
    path = place.root / "job.sh"
    path.write_text(script("by-path"))
    job = perlmutter.submit_job(str(path))
    assert job.complete(timeout=30).value == "COMPLETED"


def test_a_command_runs_and_its_output_comes_back(place: Place, perlmutter: Any) -> None:
    assert perlmutter.run("echo some words; pwd") == f"some words\n{place.root}\n"
    task = perlmutter.run_task(["echo", "later"])
    assert task._wait().result.output == "later\n"


def test_status_notes_and_outages_are_told_without_a_token(place: Place) -> None:
    sfapi = _sfapi()
    now = place.facility.now()
    place.facility.announce(Outage(resource="perlmutter", start=now + DAY, end=now + 2 * DAY, planned=True))
    place.facility.announce(
        Outage(
            resource="global_homes", start=now - DAY, end=now + DAY, planned=False, description="slow", degraded=True
        )
    )
    settings = {name: value for name, value in place.settings().items() if name != "key"}
    with sfapi.Client(**settings) as nobody:
        status = nobody.resources.status()
        assert status["perlmutter"].status.value == "active"
        assert status["global_homes"].status.value == "degraded"
        assert nobody.resources.status("dtns").name == "dtns"
        [planned] = nobody.resources.planned_outages("perlmutter")
        assert planned.status.value == "Planned"
        assert (planned.end_at - planned.start_at).days == 1
        assert list(nobody.resources.planned_outages()) == ["perlmutter"]
        assert [one.description for one in nobody.resources.outages()["global_homes"]] == ["slow"]
        assert nobody.resources.notes("global_homes")[0].notes == "slow"
        assert "global_homes" in nobody.resources.notes()
        assert nobody.api.changelog()
        assert "perlmutter" in nobody.api.config()["compute.targets"]


def test_the_user_and_the_projects_are_told(client: Any) -> None:
    user = client.user()
    assert user.name == "user"
    [project] = user.projects()
    assert (project.name, project.cpu_hours_given) == ("m1234", 1000.0)
    assert [role.repo_name for role in user.roles()] == ["m1234"]
    assert user.groups() == []
    [one] = user.clients()
    assert len(one.clientId) == 13


def test_there_is_no_globus_and_that_is_said(client: Any) -> None:
    transfer = client.storage.globus().start_transfer("perlmutter", "dtns", "/a", "/b")
    assert (transfer.status.value, transfer.globus_status.value) == ("ERROR", "FAILED")
    assert "501" in transfer.reason


@pytest.mark.parametrize("rules", [[{"fault": "delay", "method": "POST", "path": "/compute/jobs/", "delay": 5.5}]])
def test_the_published_client_submits_twice_where_a_reply_is_slow(place: Place, client: Any) -> None:
    """What our connector is written by hand for: the stand-in shows it, so that nobody goes back."""
    settings = {**place.settings(), "key": None, "access_token": client.token}  # waits 5 s, not 10
    with _sfapi().Client(**settings) as hasty:
        hasty.compute("perlmutter").submit_job(script("doubled"))
    assert place.facility.accepted() == {"doubled": 2}


def test_the_asynchronous_client_does_as_well(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sfapi = _sfapi()
    for module in [name for name in sys.modules if name.startswith("sfapi_client._async")]:
        if hasattr(sys.modules[module], "_ASYNC_SLEEP"):
            monkeypatch.setattr(sys.modules[module], "_ASYNC_SLEEP", lambda _=0: asyncio.sleep(0.02))

    async def work() -> tuple[str, str, list[str]]:
        async with sfapi.AsyncClient(**place.settings(), wait_interval=1) as client:
            perlmutter = await client.compute("perlmutter")
            jobs = await asyncio.gather(*(perlmutter.submit_job(script(f"async{n}")) for n in range(3)))
            await asyncio.gather(*(job.complete(timeout=30) for job in jobs))
            status = await client.resources.status("perlmutter")
            return await perlmutter.run("echo words"), status.status.value, [job.state.value for job in jobs]

    assert asyncio.run(work()) == ("words\n", "active", ["COMPLETED"] * 3)
    assert set(place.facility.accepted().values()) == {1}
