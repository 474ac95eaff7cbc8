"""`plan --script` and `attempt show --script`: exactly what a site is given, and no secret in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app
from broker.clock import VirtualClock
from connectors.model import Accepted, JobSpec, Script, SubmitAnswer
from connectors.registry import SiteConfig
from connectors.secrets import secret_from
from sandbox.connector import SimulatedSite
from sandbox.connector import make as make_simulated

SITES = """\
crossfade: 1
sites:
  nersc:
    profile: nersc/perlmutter
    root: /pscratch/x/crossfade
    account: m1234
    credentials: {key: "file:secret"}
  polaris:
    profile: alcf/polaris
    root: /lus/x/crossfade
    account: DataProj
    credentials: {token: "file:secret"}
  defiant:
    profile: olcf/defiant
    root: /lustre/x/crossfade
    account: abc123
    credentials: {token: "file:secret"}
    options: {files: mounted, mount: /nowhere/mounted}
  rest:
    profile: slurm/rest
    root: /gpfs/x/crossfade
    credentials: {token: "file:secret"}
    options: {url: "https://slurm.example.org", user: someone, files: mounted, mount: /nowhere/mounted}
  cloud:
    profile: kubernetes
    root: s3://bucket/crossfade
    credentials: {token: "file:secret", access_key: "file:secret", secret_key: "file:secret"}
    options: {server: "https://k8s.example.org", namespace: science}
  frontier:
    profile: olcf/frontier
    root: /lustre/x/crossfade
    account: abc123
    options: {host: frontier}
  campus:
    profile: pbs/ssh
    root: /gpfs/x/crossfade
    options: {host: campus}
  here: {profile: local, root: here}
"""
WORKFLOW = """\
crossfade: 1
name: wide
stages:
  solve:
    run: echo words-of-the-payload
    software: {image: docker.io/library/busybox:1.36}
    resources: {nodes: 10, cores: 4, walltime: 30m}
  after: {run: "true", needs: [solve], resources: {walltime: 5m}}
"""
CANARY = "canary-of-a-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    (tmp_path / "sites.yaml").write_text(SITES)
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def xf(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result


def answer(*args: str, code: int = 0) -> Any:
    return json.loads(xf(*args, "-o", "json", code=code).stdout)


# -- every connector -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "stage", "words"),
    [
        ("nersc", "solve", ["#SBATCH --account=m1234", "#SBATCH --nodes=10", "POST https://api.nersc.gov"]),
        ("polaris", "solve", ["DataProj", "POST https://api.alcf.anl.gov"]),
        ("defiant", "solve", ["#SBATCH --account=abc123", "POST https://s3m.olcf.ornl.gov"]),
        ("rest", "after", ["X-SLURM-USER-NAME: someone", "POST https://slurm.example.org"]),
        ("cloud", "image", ["POST https://k8s.example.org", '"kind": "Job"', "busybox:1.36"]),
        ("frontier", "solve", ["#SBATCH --nodes=10", "sbatch"]),
        ("campus", "after", ["#PBS", "qsub"]),
    ],
)
def test_every_site_that_is_given_scripts_shows_them_with_the_payload_and_without_a_secret(
    folder: Path, site: str, stage: str, words: Sequence[str]
) -> None:
    text = (
        WORKFLOW if stage != "image" else WORKFLOW.replace("solve", "image").replace("nodes: 10, cores: 4", "cores: 1")
    )
    (folder / "w.yaml").write_text(text)
    view = answer("plan", "w.yaml", "--script", site, "--stage", stage)
    said = json.dumps(view)
    shown = f"{view['request']}\n{view['script']}"
    assert view["key"] in shown
    assert all(word in shown for word in words), shown
    assert CANARY not in said
    payload = next(file["text"] for file in view["files"] if file["path"].endswith("payload.sh"))
    assert ("words-of-the-payload" in payload) == (stage != "after")
    told = xf("plan", "w.yaml", "--script", site, "--stage", stage).stdout
    assert "# -- request" in told
    assert ".crossfade/payload.sh" in told


def test_a_site_that_is_given_no_script_shows_what_it_starts(folder: Path) -> None:
    view = answer("plan", "w.yaml", "--script", "here", "--stage", "after")
    assert (view["script"], view["request"]) == ("", "")
    assert {file["path"] for file in view["files"]} >= {".crossfade/stage.sh", ".crossfade/payload.sh"}
    assert "sends no script" in xf("plan", "w.yaml", "--script", "here", "--stage", "after").stdout


def test_planning_a_script_stores_no_run(folder: Path) -> None:
    xf("plan", "w.yaml", "--script", "nersc", "--stage", "solve")
    assert answer("history") == []


def test_which_stage_and_site_are_meant_must_be_clear(folder: Path) -> None:
    assert "solve, after" in xf("plan", "w.yaml", "--script", "nersc", code=2).stderr
    assert "no stage" in xf("plan", "w.yaml", "--script", "nersc", "--stage", "x", code=3).stderr
    assert "no site" in xf("plan", "w.yaml", "--script", "x", "--stage", "solve", code=3).stderr
    assert "--script" in xf("plan", "w.yaml", "--stage", "solve", code=2).stderr


def test_what_a_site_could_not_take_is_refused_and_not_rendered(folder: Path) -> None:
    assert "polaris cannot take it" in xf("plan", "w.yaml", "--script", "polaris", "--stage", "after", code=4).stderr


# -- attempts ------------------------------------------------------------------------------------------------------


class Scripting(SimulatedSite):
    """Remembers what it was given, and shows it; careless with its credential."""

    given: dict[str, JobSpec]

    def script(self, spec: JobSpec) -> Script:
        token = secret_from("file:secret").reveal()
        return Script(script=f"#!/bin/sh\n# {spec.key}\n", request=f"POST /jobs\nToken: {token}\n{spec.digest}")

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        self.given.update({spec.key: spec for spec in specs})
        return {spec.key: Accepted(native_id="1") for spec in specs}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, JobSpec]:
    """What a site was asked for, by key."""
    given: dict[str, JobSpec] = {}

    def make(config: SiteConfig, clock: VirtualClock) -> Scripting:
        site = make_simulated(config, clock)
        assert isinstance(site, SimulatedSite)
        site.__class__ = Scripting
        assert isinstance(site, Scripting)
        site.given = given
        return site

    monkeypatch.setattr("broker.scripts.make_site", make)
    monkeypatch.setattr("broker.serving.make_site", make)
    return given


SIMULATED = """\
crossfade: 1
sites:
  sim: {profile: simulated, root: /sim, credentials: {token: "file:secret"}}
"""


def test_an_attempt_shows_what_its_site_was_given(folder: Path, given: dict[str, JobSpec]) -> None:
    (folder / "sites.yaml").write_text(SIMULATED)
    (folder / "w.yaml").write_text("crossfade: 1\nname: x\ncontact: me@example.org\nstages:\n  a: {run: 'true'}\n")
    xf("run", "w.yaml", "--timeout", "2s", code=6)
    (spec,) = given.values()
    view = answer("attempt", "show", "/a@1", "--script")
    assert (view["key"], view["digest"], view["attempt"]) == (spec.key, spec.digest, 1)
    assert spec.key in view["script"]
    shown = {file["path"]: file["text"] for file in view["files"] if file["text"] is not None}
    assert shown == {f.path: f.content.decode() for f in spec.files if f.path in shown}
    assert spec.files[0].path not in shown
    assert CANARY not in json.dumps(view)
    assert "Token: [secret]" in xf("attempt", "show", "/a", "--script").stdout


def test_an_attempt_that_is_not_there_is_not_found(folder: Path, given: dict[str, JobSpec]) -> None:
    (folder / "sites.yaml").write_text(SIMULATED)
    (folder / "w.yaml").write_text("crossfade: 1\nname: x\nstages:\n  a: {run: 'true'}\n")
    xf("submit", "w.yaml")
    xf("attempt", "show", "/a@2", "--script", code=3)
