"""`budget show|set`, and what `plan`, `explain` and `attempt show` say of money, with real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app

SITES = """crossfade: 1
sites: {here: {profile: local, root: ./here, account: m1234, max_walltime: 4h, charge: {unit: node_hours}}}
budgets: {projects: {m1234: {node_hours: 100}}}
"""
DOCUMENT = """crossfade: 1
name: sweep
policy: {budget: {node_hours: 1.5, resilience: 25%}}
stages:
  first: {run: 'true', resources: {walltime: 1h}}
  second: {run: 'true', needs: [first], resources: {walltime: 2h}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    (tmp_path / "sites.yaml").write_text(SITES)
    (tmp_path / "sweep.yaml").write_text(DOCUMENT)
    return tmp_path


def xf(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result


def answer(*args: str) -> Any:
    return json.loads(xf(*args, "-o", "json").stdout)


def test_what_cannot_be_paid_for_is_said_before_and_a_person_sets_more() -> None:
    planned = xf("plan", "sweep.yaml", "-o", "json")
    assert "the stages ask for 3 node-hours at the least, `budget` has 1.5 node-hours" in planned.stderr
    first, second = json.loads(planned.stdout)
    assert first["charge"] == {"unit": "node_hours", "estimated": 1.0, "account": "m1234"}
    assert second["outcome"] == "wait"
    run = xf("submit", "sweep.yaml").stdout.strip()

    assert "needs a reason" in xf("budget", "set", run, "--node-hours", "5", code=2).stderr
    assert "say a bound" in xf("budget", "set", run, "--reason", "x", code=2).stderr
    words = xf("budget", "set", run, "--node-hours", "5", "--reason", "beam time", "--dry-run").stdout
    assert words == f"would set run {run}: 1.5 node-hours -> 5 node-hours\n"
    assert answer("budget", "show", run)["bounds"][0]["cap_node_hours"] == 1.5
    xf("budget", "set", run, "--node-hours", "5", "--reason", "beam time")
    (bound, part) = answer("budget", "show", run)["bounds"]
    assert (bound["kind"], bound["cap_node_hours"], bound["left_node_hours"], bound["reason"]) == (
        "run", 5.0, 5.0, "beam time",
    )  # fmt: skip
    assert (part["kind"], part["cap_node_hours"]) == ("resilience", 1.25)

    xf("run", "--resume", run)
    view = answer("budget", "show", run)
    assert [(line["site"], line["attempts"], line["held"]) for line in view["charges"]] == [("here", 2, 0.0)]
    assert "first@1 at here:" in xf("explain", run).stdout
    charge = answer("attempt", "show", f"{run}/first")["charge"]
    assert (charge["unit"], charge["estimated"], charge["cause"]) == ("node_hours", 1.0, None)
    assert charge["actual"] is not None
    refused = xf("budget", "set", run, "--node-hours", "9", "--reason", "late", code=4)
    assert "spends nothing any more" in refused.stderr


def test_projects_and_people_are_bounded_by_name_and_unbounded_again() -> None:
    xf("budget", "set", "--project", "m1234", "--node-hours", "7", "--reason", "half for the others")
    (bound,) = answer("budget", "show")["bounds"]
    assert (bound["name"], bound["cap_node_hours"], bound["cap_usd"]) == ("m1234", 7.0, None)
    xf("budget", "set", "--user", "ann", "--usd", "20", "--reason", "a student")
    assert [(one["kind"], one["name"]) for one in answer("budget", "show")["bounds"]] == [
        ("project", "m1234"),
        ("user", "ann"),
    ]
    assert "ann" in xf("budget", "show", "--by", "user", "--reconcile").stdout
    xf("budget", "set", "--project", "m1234", "--clear", "--reason", "back")
    assert answer("budget", "show")["bounds"][0]["cap_node_hours"] == 100.0
    assert "nothing is set" in xf("budget", "set", "--project", "m9", "--clear", "--reason", "x", code=3).stderr
    assert "whose bound" in xf("budget", "set", "--node-hours", "1", "--reason", "x", code=2).stderr
