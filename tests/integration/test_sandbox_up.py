"""`crossfade sandbox up`: four facilities in one process, and a run that goes through them over their protocols."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.facilities.live import wall_clock
from sandbox.facilities.processes import end_left
from sandbox.script import script_of
from sandbox.up import Sandbox, SandboxSettings, running

FACES = [
    *("nersc superfacility", "alcf iri", "alcf activity", "olcf s3m"),
    *("cloud kubernetes", "cloud s3", "globus globus"),
]
SITES = ("nersc", "alcf", "olcf", "cloud")


def crossfade(*words: str, home: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker.cli", *words],
        env={**os.environ, "CROSSFADE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=home,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def sandbox(place: Path) -> Iterator[Sandbox]:
    settings = SandboxSettings(state=place / "state", path=os.environ["PATH"])
    with Sandbox(settings) as made:
        (place / "sites.yaml").write_text(made.text())
        yield made


def test_it_shows_a_face_for_each_protocol_and_an_entry_for_each_site(sandbox: Sandbox) -> None:
    assert list(sandbox.addresses) == FACES
    document: Any = sandbox.document()
    assert list(document["sites"]) == list(SITES)
    assert all(address.startswith("http://127.0.0.1:") for address in sandbox.addresses.values())
    with httpx.Client(trust_env=False) as client:
        status = client.get(f"{sandbox.addresses['nersc superfacility']}/api/v1.2/status/perlmutter").json()
        feed = client.get(f"{sandbox.addresses['alcf activity']}/polaris/activity.json").json()
    assert (status["status"], feed["running"]) == ("active", [])


def test_credentials_are_fresh_and_for_nobody_else(sandbox: Sandbox, place: Path) -> None:
    files = list((place / "state" / "credentials").iterdir())
    assert len(files) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((place / "state").stat().st_mode) == 0o700
    text = sandbox.text()
    for path in files:
        assert not any(line in text for line in path.read_text().splitlines() if len(line) > 12)


def test_two_stages_run_at_each_site_over_its_own_protocol_and_once(sandbox: Sandbox, place: Path) -> None:
    stages: dict[str, object] = {}
    for site in SITES:
        policy = {"sites": {"allow": [site]}}
        stages[site] = {"run": "echo one > one.txt", "outputs": [{"path": "one.txt"}], "policy": policy}
        stages[f"{site}-2"] = {
            "inputs": [{"name": "one.txt", "from": site}],
            "run": "cat one.txt > two.txt; echo two >> two.txt",
            "outputs": [{"path": "two.txt"}],
            "policy": policy,
        }
    (place / "workflow.yaml").write_text(json.dumps({"crossfade": 1, "name": "w", "stages": stages}))
    ended = crossfade("run", "workflow.yaml", home=place)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {name: list(counts.values()) for name, counts in sandbox.accepted().items()} == {
        name: [1, 1] for name in SITES
    }
    got = crossfade("get", "w", "got", home=place)
    assert got.returncode == 0, got.stderr
    assert {(place / "got" / f"{site}-2" / "two.txt").read_text() for site in SITES} == {"one\ntwo\n"}


def test_a_reply_that_is_lost_after_acceptance_ends_with_one_execution_at_every_site(tmp_path: Path) -> None:
    lost = [
        {"fault": "reply_lost", "facility": "nersc", "method": "POST", "path": "/compute/jobs/"},
        {"fault": "reply_lost", "facility": "alcf", "method": "POST", "path": "/compute/job/"},
        {"fault": "reply_lost", "facility": "olcf", "method": "POST", "path": "/job/submit"},
        {"fault": "reply_lost", "facility": "cloud", "face": "kubernetes", "method": "POST", "path": "/jobs"},
    ]
    script = script_of(*lost, clock=wall_clock)
    stages = {
        f"at-{site}": {
            "run": "echo x > out.txt",
            "outputs": [{"path": "out.txt"}],
            "policy": {"sites": {"allow": [site]}},
        }
        for site in SITES
    }
    settings = SandboxSettings(state=tmp_path / "state", path=os.environ["PATH"])
    with Sandbox(settings, script=script) as made:
        (tmp_path / "sites.yaml").write_text(made.text())
        (tmp_path / "workflow.yaml").write_text(json.dumps({"crossfade": 1, "name": "lost", "stages": stages}))
        ended = crossfade("run", "workflow.yaml", home=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert {item.facility for item in script.happened} == set(SITES)
        assert [sum(counts.values()) for counts in made.accepted().values()] == [1, 1, 1, 1]


def test_a_stage_whose_node_fails_goes_on_at_another_one_over_another_protocol(tmp_path: Path) -> None:
    script = script_of({"fault": "node_fail", "facility": "olcf", "after": 0.5}, clock=wall_clock)
    stage = {
        "run": "sleep 2; echo x > out.txt",
        "outputs": [{"path": "out.txt"}],
        "policy": {"sites": {"allow": ["olcf", "alcf"], "prefer": ["olcf"]}},
    }
    settings = SandboxSettings(state=tmp_path / "state", facilities=["olcf", "alcf"], path=os.environ["PATH"])
    with Sandbox(settings, script=script) as made:
        (tmp_path / "sites.yaml").write_text(made.text())
        (tmp_path / "workflow.yaml").write_text(json.dumps({"crossfade": 1, "name": "w", "stages": {"a": stage}}))
        ended = crossfade("run", "workflow.yaml", home=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert [sum(counts.values()) for counts in made.accepted().values()] == [1, 1]
        assert [view.word for view in made.facilities["olcf"].jobs()] == ["NODE_FAIL"]
        assert [view.word for view in made.facilities["alcf"].jobs()] == ["COMPLETED"]


def test_it_comes_up_beside_and_goes_down_with_all_that_it_started(tmp_path: Path) -> None:
    state = tmp_path / "s"
    up = crossfade(
        "sandbox", "up", "--state", str(state), "--only", "olcf", "--detach", "--seconds", "60", home=tmp_path
    )
    try:
        assert up.returncode == 0, up.stderr
        assert list(json.loads(up.stdout)["sites"]) == ["olcf"]
        found = running(state)
        assert found is not None
        again = crossfade("sandbox", "up", "--state", str(state), "--detach", home=tmp_path)
        assert (again.returncode, "lives in" in again.stderr) == (2, True)
    finally:
        down = crossfade("sandbox", "down", "--state", str(state), home=tmp_path)
    assert (down.returncode, running(state)) == (0, None)
    assert end_left(state) == 0
    assert crossfade("sandbox", "down", "--state", str(state), home=tmp_path).returncode == 0


def test_a_fault_script_that_makes_no_sense_is_refused_before_anything_is_up(tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text("faults: [{fault: gremlins}]")
    up = crossfade("sandbox", "up", "--faults", "faults.yaml", "--state", str(tmp_path / "s"), home=tmp_path)
    assert (up.returncode, "no fault 'gremlins'" in up.stderr) == (2, True)
    assert not (tmp_path / "s").exists()


def test_what_a_killed_sandbox_has_left_is_ended_by_the_next_one(tmp_path: Path) -> None:
    settings = SandboxSettings(state=tmp_path / "state", facilities=["olcf"])
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from sandbox.up import Sandbox, SandboxSettings\n"
        "from sandbox.facility import Order\n"
        "with Sandbox(SandboxSettings(state=Path(sys.argv[1]), facilities=['olcf'])) as made:\n"
        "    site = made.facilities['olcf']\n"
        "    site.submit(Order(argv=['sleep', '300']))\n"
        "    while not site.jobs()[0].started_at: pass\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(settings.state)], check=False, timeout=60)
    with Sandbox(settings):
        pass
    assert end_left(settings.state) == 0
