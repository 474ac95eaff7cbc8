"""`submit --hold`, `waiver ask|confirm|withdraw|ls` and `release`, with real processes of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app

SITES = "crossfade: 1\nsites: {here: {profile: local, root: ./here}}\n"
DOCUMENT = """crossfade: 1
name: plasma
policy: {data: {export_control: true}}
stages:
  fit: {run: 'echo 3 > q', outputs: [{path: q}]}
"""
As = Callable[[str], None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    (tmp_path / "sites.yaml").write_text(SITES)
    (tmp_path / "workflow.yaml").write_text(DOCUMENT)
    return tmp_path


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> As:
    """Be that person from now on, as the operating system knows people."""

    def become(name: str) -> None:
        monkeypatch.setattr("broker.config.whoami", lambda: name)

    become("ann")
    return become


def xf(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result


def answer(*args: str, code: int = 0) -> Any:
    return json.loads(xf(*args, "-o", "json", code=code).stdout)


def held() -> str:
    done = xf("submit", "workflow.yaml", "--hold")
    run = done.stdout.strip()
    assert f"crossfade waiver ask {run} --site here --rule export_control --reason ..." in done.stderr
    assert f"held: nothing starts before `crossfade release {run}`" in done.stderr
    return run


def asked(run: str, *more: str) -> str:
    said = ["--site", "here", "--rule", "export_control", "--reason", "the machine is cleared since May"]
    return str(answer("waiver", "ask", run, *said, *more)["waiver"])


def test_without_hold_it_is_refused_with_the_rules_name_and_the_way_out() -> None:
    refused = xf("submit", "workflow.yaml", code=4)
    assert "data.export_control" in refused.stderr
    assert "crossfade submit --hold" in refused.stderr


def test_asked_for_by_one_and_confirmed_by_another_it_is_done(person: As) -> None:
    run = held()
    waiver = asked(run)
    person("bob")
    confirmed = xf("waiver", "confirm", waiver, "--reason", "seen the letter")
    assert f"in force; the run is held: crossfade release {run}" in confirmed.stdout
    xf("release", run)
    done = answer("run", "--resume", run)
    assert done["state"] == "SUCCEEDED"
    (listed,) = answer("waiver", "ls", run)
    assert (listed["state"], listed["asked_by"], listed["confirmed_by"]) == ("in_force", "ann", "bob")
    assert "asked for by ann and confirmed by bob, waives that until" in xf("explain", run).stdout
    told = xf("timeline", run).stdout
    assert f"{waiver} asked for: data.export_control at here: the machine is cleared since May" in told
    assert f"{waiver} holds: data.export_control is waived at here: seen the letter" in told


def refused_to_run(run: str) -> None:
    xf("release", run)
    waits = xf("run", "--resume", run, code=8)
    assert "data.export_control: the data is under export control, and here has no clearance for it" in waits.stderr
    assert f"crossfade waiver ask {run} --site here --rule export_control --reason ..." in waits.stderr


def test_without_a_second_person_it_waits_for_one(person: As, monkeypatch: pytest.MonkeyPatch) -> None:
    run = held()
    waiver = asked(run)
    monkeypatch.setenv("USER", "bob")  # a variable makes nobody somebody else
    refused = xf("waiver", "confirm", waiver, "--reason", "I am sure", code=4)
    assert f"cannot confirm {waiver}: ann has asked for it, and two persons must agree" in refused.stderr
    assert answer("waiver", "ls", run)[0]["state"] == "asked"
    refused_to_run(run)


def test_withdrawn_it_counts_no_longer(person: As) -> None:
    run = held()
    waiver = asked(run)
    person("bob")
    xf("waiver", "confirm", waiver, "--reason", "agreed")
    assert "done" in xf("waiver", "withdraw", waiver[:10], "--reason", "no longer needed").stdout
    refused_to_run(run)


def test_what_would_be_done_is_said_and_not_done(person: As) -> None:
    run = held()
    said = ["--site", "here", "--reason", "x", "--dry-run"]
    assert "would ask to waive data.export_control at here" in xf("waiver", "ask", run, *said).stdout
    assert answer("waiver", "ls") == []
    waiver = asked(run, "--for", "2h")
    assert f"would withdraw {waiver}" in xf("waiver", "withdraw", waiver, "--dry-run").stdout
    person("bob")
    assert f"would confirm {waiver}" in xf("waiver", "confirm", waiver, "--reason", "y", "--dry-run").stdout
    assert answer("waiver", "ls")[0]["state"] == "asked"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("ask", "RUN", "--site", "here"), 2, "a waiver needs a reason"),
        (("ask", "RUN", "--site", "there", "--reason", "x"), 3, "no site and no place 'there'"),
        (("ask", "RUN", "--site", "here", "--rule", "stay", "--reason", "x"), 2, "data.stay is not against data"),
        (("ask", "RUN", "--site", "here", "--for", "60d", "--reason", "x"), 2, "30 days"),
        (("confirm", "w1", "--reason", "x"), 3, "no waiver 'w1'"),
        (("withdraw", "w1"), 3, "no waiver 'w1'"),
    ],
)
def test_what_cannot_be_is_told_with_its_exit_code(person: As, args: tuple[str, ...], code: int, words: str) -> None:
    run = held()
    assert words in xf("waiver", *[run if word == "RUN" else word for word in args], code=code).stderr


def test_nothing_is_listed_where_there_is_nothing() -> None:
    assert xf("waiver", "ls").stdout.strip() == "no waivers"


def test_a_dry_run_says_what_would_have_to_be_waived() -> None:
    done = xf("submit", "workflow.yaml", "--hold", "--dry-run")
    assert "crossfade waiver ask RUN --site here --rule export_control" in done.stderr
    assert answer("history") == []
