"""`runbook`, and that `status` names the page that fits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app
from broker.cli.shipped import runbooks
from broker.cli.status import pages
from broker.runbooks import ALL_DARK, CREDENTIALS, DOWN, fitting


def runbook(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["runbook", *words])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("seen", "page"),
    [
        ("UNREACHABLE", "site-is-down"),
        ("cannot ask since", "site-is-down"),
        ("globus gives no answer", "globus-is-down"),
        ("left behind", "site-is-back"),
        ("more likely it is us than they", "all-sites-dark"),
        ("the credential has expired", "credentials-expired"),
        ("QUEUED", "site-is-full"),
        ("no space left", "disk-full"),
        ("announced maintenance", "drain-before-maintenance"),
        ("password authentication failed postgresql", "postgres-is-down"),
    ],
)
def test_what_one_sees_finds_the_page(seen: str, page: str) -> None:
    found = json.loads(runbook("ls", *seen.split(), "-o", "json").stdout)
    assert found[0]["name"] == page
    assert found[0]["title"]
    assert len(found) < len(runbooks()), "a search that finds all finds nothing"


def test_all_pages_are_listed_and_printed_without_what_tests_go_by() -> None:
    listed: list[dict[str, Any]] = json.loads(runbook("ls", "-o", "json").stdout)
    assert [page["name"] for page in listed] == sorted(runbooks())
    assert "README" not in runbooks()
    for page in listed:
        assert page["means"], page["name"]
        told = runbook("show", page["name"]).stdout
        assert told.startswith("# ")
        assert "<!--" not in told


def test_a_page_that_is_not_there_ends_with_3_and_the_nearest_one() -> None:
    assert "did you mean site-is-down?" in runbook("show", "site-down", code=3).stderr
    assert "no runbook has any of: zebra" in runbook("ls", "zebra", code=3).stderr


def test_pages_that_status_names_are_there() -> None:
    assert {ALL_DARK, DOWN, CREDENTIALS} <= runbooks().keys()
    silent = {"state": "silent", "says": "nersc: cannot ask since ...", "health": "down: status"}
    assert fitting(silent) == DOWN
    assert fitting({**silent, "says": "nothing moves: more likely it is us than they"}) == ALL_DARK
    assert fitting({"state": "up", "says": "", "health": "degraded: files; down: credentials"}) == CREDENTIALS
    assert fitting({"state": "up", "says": "", "health": "degraded: credentials"}) == ""
    sites = [{"runbook": DOWN}, {"runbook": ""}, {"runbook": DOWN}]
    assert pages({"sites": sites}) == [DOWN]
