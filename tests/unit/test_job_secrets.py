"""`env: {X: "secret:NAME"}`: who may have it, how it reaches the job, and where it is never written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site

from broker.credentials import references
from broker.facts import body_refusal
from broker.sites import load_sites, sites_of
from broker.spec import DocumentError, compile_workflow, document_from, load_workflow, parse_document
from connectors.errors import CredentialError
from connectors.harness import HarnessPlan, render
from connectors.local.secret_values import JobSecrets
from connectors.registry import SiteConfig
from connectors.secrets import MASK, scrub_bytes

VALUE = "canary-of-the-catalogue-4711"
BODY = {"run": "x", "restart": None, "setup": "", "env": {"TOKEN": "secret:catalogue", "PLAIN": "1"}}


def told(text: str, **params: str) -> str:
    raw = parse_document(f"crossfade: 1\nname: t\nparams: {{x: {{default: y}}}}\n{text}", name="t.yaml")
    with pytest.raises(DocumentError) as caught:
        compile_workflow(load_workflow(raw, base=None), params=params, base=None)
    return str(caught.value)


# -- in documents --------------------------------------------------------------------------------------------


def test_a_param_cannot_name_a_secret() -> None:
    text = 'stages: {a: {run: x, env: {A: "${{ params.x }}"}}}'
    assert "a secret cannot be named by a param" in told(text, x="secret:catalogue")
    assert "a secret cannot be named by a param" in told('stages: {a: {run: x, env: {A: "secret:${{ params.x }}"}}}')


@pytest.mark.parametrize("name", ["", "a b", "../x", "9"])
def test_a_secrets_name_is_a_name(name: str) -> None:
    assert "cannot be the name of a secret" in told(f'stages: {{a: {{run: x, env: {{A: "secret:{name}"}}}}}}')


def test_secrets_of_a_site_are_references_and_only_of_sites_on_this_machine(tmp_path: Path) -> None:
    def sites(**entry: object) -> SiteConfig:
        data = {"crossfade": 1, "sites": {"here": {"root": "/tmp/x", **entry}}}
        raw = document_from(data, name="sites")
        return sites_of(raw, base=tmp_path, where="", home=tmp_path).configs["here"]

    found = sites(profile="local", secrets={"catalogue": "file:token", "other": "env:OTHER"})
    assert found.secrets == {"catalogue": f"file:{tmp_path}/token", "other": "env:OTHER"}
    with pytest.raises(DocumentError, match="by reference, never as itself"):
        sites(profile="local", secrets={"catalogue": VALUE})
    with pytest.raises(DocumentError, match="secrets are told to jobs of this machine only"):
        sites(profile="slurm", secrets={"catalogue": "env:X"})


def test_a_site_that_is_elsewhere_or_lacks_it_is_refused_by_name() -> None:
    local = SiteConfig(name="here", connector="local", secrets={"catalogue": "env:X"})
    assert body_refusal(BODY, local) is None
    lacks = body_refusal(BODY, replace(local, secrets={}))
    assert lacks is not None
    assert lacks.fact == "here has no secrets.catalogue, which `env` names"
    away = body_refusal(BODY, replace(local, name="nersc", connector="nersc"))
    assert away is not None
    assert away.fact == "nersc is not on this machine, and secret:catalogue is told nowhere else"


def test_a_stage_that_wants_a_secret_waits_for_a_person_where_only_other_machines_are() -> None:
    made = Lab(site("nersc"))
    stage = Stage("a", "seconds=1")
    body = stage.body()
    body["env"] = {"TOKEN": "secret:catalogue"}
    object.__setattr__(stage, "body", lambda: body)
    run = made.submit(stage)
    made.run_for(5)
    row = made.stage(run, "a")
    assert row.state == "AWAITING_DECISION"
    assert "nersc is not on this machine" in row.reason


# -- what is written -----------------------------------------------------------------------------------------


def test_the_payload_takes_it_from_the_process_and_hides_how_it_came() -> None:
    plan = HarnessPlan(key="k", digest="d", directory_depth=1, command="true", secrets=["TOKEN"])
    (payload,) = [file for file in render(plan) if file.path == ".crossfade/payload.sh"]
    lines = payload.content.decode().splitlines()
    assert 'export TOKEN="${CROSSFADE_SECRET_TOKEN?}"' in lines
    assert "unset CROSSFADE_SECRET_TOKEN" in lines


def test_values_are_looked_up_at_every_start_and_no_error_holds_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(f"{VALUE}\n")
    monkeypatch.setenv("FROM_HERE", VALUE + "2")
    secrets = JobSecrets("here", {"a": f"file:{file}", "b": "env:FROM_HERE", "c": "env:NOT_THERE"})
    assert secrets.told({"X": "a", "Y": "b"}) == {"X": VALUE, "Y": VALUE + "2"}
    assert secrets.variables == {"FROM_HERE", "NOT_THERE"}
    file.write_text("renewed-since-then\n")
    assert secrets.told({"X": "a"}) == {"X": "renewed-since-then"}
    for name, words in (("c", "NOT_THERE is not set"), ("d", "has no secrets.d")):
        with pytest.raises(CredentialError, match=words):
            secrets.told({"X": name})
    file.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        secrets.told({"X": "a"})


def test_what_a_job_prints_of_it_is_taken_out_of_kept_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "canary-of-a-log-0815")
    JobSecrets("here", {"b": "env:FROM_HERE"})
    assert scrub_bytes(b"\xff+ curl canary-of-a-log-0815\n") == b"\xff+ curl " + MASK.encode() + b"\n"


def test_credential_ls_lists_it_and_says_what_helps(tmp_path: Path) -> None:
    config = SiteConfig(name="here", connector="local", secrets={"catalogue": f"file:{tmp_path}/none"})
    (found,) = references(config, env={})
    assert (found.name, found.ok, found.help) == ("secrets.catalogue", False, "write it into that file, mode 600")


# -- a whole run ---------------------------------------------------------------------------------------------


def test_after_a_run_the_value_is_nowhere_below_the_installation(tmp_path: Path) -> None:
    """Database, journal, blobs, spool, scripts, logs: all that the broker and the harness have written."""
    import subprocess
    import sys

    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(VALUE)
    home = tmp_path / "all"
    (tmp_path / "sites.yaml").write_text(
        "crossfade: 1\nsites:\n  beamline: {profile: local, root: ./all/sites/beamline, "
        "secrets: {catalogue: 'file:token'}}\n  other: {profile: local, root: ./all/sites/other}\n"
    )
    (tmp_path / "wf.yaml").write_text(
        "crossfade: 1\nname: t\nstages:\n  a:\n    env: {TOKEN: 'secret:catalogue'}\n    run: |\n"
        '      test -z "${CROSSFADE_SECRET_TOKEN-}"\n'
        '      printf %s "$TOKEN" | sha256sum > sum\n      echo "$TOKEN" >&2\n'
        "    outputs: [{path: sum}]\n"
    )

    def crossfade(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "broker.cli", "--sites", str(tmp_path / "sites.yaml"), *words],
            env={**os.environ, "CROSSFADE_HOME": str(home)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout + done.stderr

    shown = crossfade("run", "wf.yaml")
    shown += crossfade("plan", "wf.yaml", "--script", "beamline") + crossfade("plan", "wf.yaml", "-o", "json")
    for words in (("attempt", "show", "a@1"), ("logs",), ("explain",), ("timeline", "-o", "json"), ("errors",)):
        run = json.loads(crossfade("history", "-o", "json"))[0]["run"]
        target = f"{run}/a@1" if words[0] == "attempt" else run
        shown += crossfade(*words[:2], target, *words[3:]) if words[0] == "attempt" else crossfade(words[0], target)
    assert "[secret]" in shown
    assert VALUE not in shown
    (proof,) = home.rglob("runs/*/a/a1/sum")
    import hashlib

    assert proof.read_text().split()[0] == hashlib.sha256(VALUE.encode()).hexdigest()
    printed = {path for path in home.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()}
    # the job's own standard error, which it wrote itself, is all
    assert {path.name for path in printed} == {"stderr"}
    assert load_sites(tmp_path / "sites.yaml", home=home, cwd=tmp_path, env={}).configs["beamline"].secrets
