"""`login`, `credential`, `site check`, and the warnings before a submission."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app
from connectors.errors import CredentialError
from connectors.local import LocalSite
from connectors.model import Evidence, Finding

CANARY = "canary-of-a-secret-0123456789abcdef"
SITES = """\
crossfade: 1
sites:
  lab:
    profile: local
    root: lab
    credentials: {token: "file:secrets/token", other: "env:XF_TEST_OTHER"}
  here: {profile: local, root: here}
"""
WORKFLOW = "crossfade: 1\nname: x\nstages:\n  a: {run: 'true'}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XF_TEST_OTHER", "some-other-secret")
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    (tmp_path / "sites.yaml").write_text(SITES)
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    return tmp_path


def xf(*args: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, list(args), input=stdin)
    assert result.exit_code == code, result.output
    return result


def answer(*args: str, code: int = 0) -> Any:
    return json.loads(xf(*args, "-o", "json", code=code).stdout)


# -- login and credentials -----------------------------------------------------------------------------------------


def test_a_token_from_stdin_is_kept_for_nobody_else_to_read_and_never_shown(folder: Path) -> None:
    xf("site", "check", "lab", code=5)
    result = xf("login", "lab", stdin=f"{CANARY}\n")
    file = folder / "secrets" / "token"
    assert file.read_text() == f"{CANARY}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert CANARY not in result.output
    assert CANARY not in xf("credential", "check").output
    assert {view["credential"]: (view["there"], view["mode"]) for view in answer("credential", "ls")} == {
        "token": (True, "0600"),
        "other": (True, None),
    }


def test_at_a_terminal_the_token_is_asked_for_and_not_echoed(folder: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "broker.cli", "login", "lab"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=env, start_new_session=True
    ) as p:
        os.close(follower)
        seen, typed, deadline = b"", False, time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                seen += os.read(leader, 4096)
            except OSError:  # the other side is closed: it has ended
                break
            if b"not shown" in seen and not typed:
                typed = bool(os.write(leader, f"{CANARY}\n".encode()))
    os.close(leader)
    assert p.returncode == 0, seen
    assert (folder / "secrets" / "token").read_text() == f"{CANARY}\n"
    assert CANARY.encode() not in seen


def test_a_token_that_the_site_does_not_accept_waits_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    xf("site", "check", "lab", code=5)

    def refused(*_: object) -> Sequence[Evidence]:
        raise CredentialError(f"401: {CANARY} is not known", site="lab")

    monkeypatch.setattr(LocalSite, "list_mine", refused)
    result = xf("login", "lab", stdin=CANARY, code=8)
    assert "not open to us" in result.stderr
    assert CANARY not in result.output


def test_nothing_typed_keeps_nothing(folder: Path) -> None:
    assert "empty" in xf("login", "lab", stdin="\n", code=2).stderr
    assert not (folder / "secrets" / "token").exists()


def test_login_says_where_there_is_nothing_to_keep() -> None:
    assert "no credential in a file" in xf("login", "here", stdin="x" * 20, code=2).stderr
    assert "not a file" in xf("login", "lab", "--name", "other", stdin="x" * 20, code=2).stderr
    assert "no site" in xf("login", "nowhere", code=3).stderr


def test_a_site_that_a_person_opens_runs_its_own_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["/bin/sh", "-c", "echo opened >> opened"]
    monkeypatch.setattr(LocalSite, "login", lambda *_: command, raising=False)
    xf("site", "check", "here")
    assert "the connection is open" in xf("login", "here").stdout
    assert (folder / "opened").read_text() == "opened\n"
    monkeypatch.setattr(LocalSite, "login", lambda *_: ["/bin/sh", "-c", "exit 255"], raising=False)
    assert "ended with 255" in xf("login", "here", code=8).stderr


def test_a_credential_that_has_ended_or_is_open_to_others_needs_a_person(folder: Path) -> None:
    xf("login", "lab", stdin=jwt.encode({"exp": int(time.time()) - 60}, "k" * 32, algorithm="HS256"))
    assert "it has ended" in xf("credential", "check", code=8).stderr
    assert answer("credential", "ls")[0]["expires_at"]
    (folder / "secrets" / "token").chmod(0o644)
    assert "chmod 600" in xf("credential", "check", "lab", code=8).stderr
    assert answer("credential", "check", "here") == []


# -- site check ----------------------------------------------------------------------------------------------------


def test_all_sites_are_checked_and_each_says_how_far_its_connector_is_proven() -> None:
    views = answer("site", "check", "--all", "--canary", code=5)
    assert {view["site"]: view["ok"] for view in views} == {"lab": False, "here": True}
    assert all("real processes" in view["proven"] for view in views)
    here = {check["step"]: check["ok"] for check in views[1]["checks"]}
    assert (here["canary"], here["claim"]) == (True, True)
    assert all(check["help"] for view in views for check in view["checks"] if check["ok"] is False)


def test_a_check_names_the_command_that_mends_a_failure() -> None:
    result = xf("site", "check", "lab", code=5)
    assert "crossfade login lab" in result.stdout
    assert "connector local: proven with real processes" in result.stdout


def test_either_one_site_or_all_are_checked() -> None:
    xf("site", "check", code=2)
    xf("site", "check", "lab", "--all", code=2)


def test_no_secret_is_in_a_check_or_in_the_evidence_that_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    xf("site", "check", "lab", code=5)
    xf("login", "lab", stdin=CANARY)

    def careless(*_: object, **__: object) -> Sequence[Finding]:
        return [Finding(step="status", ok=False, detail=f"GET /?token={CANARY}", help=f"use {CANARY}")]

    monkeypatch.setattr(LocalSite, "check", careless, raising=False)
    assert CANARY not in xf("site", "check", "lab", code=5).output
    assert CANARY not in json.dumps(answer("site", "check", "lab", code=5))
    assert CANARY not in json.dumps(answer("site", "show", "lab"))


def test_a_connector_that_cannot_be_made_is_a_finding_and_the_others_are_checked(folder: Path) -> None:
    (folder / "sites.yaml").write_text(SITES.replace("root: lab", "root: lab\n    options: {nonsense: 1}"))
    views = answer("site", "check", "--all", code=5)
    assert [view["ok"] for view in views] == [False, True]
    assert "nonsense" in views[0]["checks"][0]["detail"]


# -- before a submission -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["plan"], ["submit"], ["submit", "--dry-run"]])
def test_every_site_that_may_take_over_is_warned_of_by_name_and_nothing_is_refused(verb: list[str]) -> None:
    stderr = xf(*verb, "w.yaml").stderr
    assert "warning: lab: credential token: " in stderr
    assert "warning: here" not in stderr


def test_a_site_that_no_stage_may_go_to_is_not_warned_of(folder: Path) -> None:
    (folder / "w.yaml").write_text(WORKFLOW + "policy: {sites: {deny: [lab]}}\n")
    assert "lab" not in xf("submit", "w.yaml").stderr


def test_what_did_not_work_at_the_last_check_is_told_before_the_next_submission(folder: Path) -> None:
    xf("site", "check", "here")
    (folder / "here").rename(folder / "away")
    xf("site", "check", "here", code=5)
    assert "warning: here: status did not work" in xf("submit", "w.yaml").stderr
    (folder / "away").rename(folder / "here")
    xf("site", "check", "here")
    assert "warning: here" not in xf("submit", "w.yaml").stderr
