"""Verbs that need a home but no server, in this process: documents, sites, doctor, examples, the shapes of answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app
from broker.cli.shipped import examples
from broker.errors import UsageError
from broker.fetch import Corrupt, Wanted, fetch, refuse_overwriting
from broker.site_entry import with_site
from connectors.errors import SiteUnreachable

HELLO = Path(__file__).parents[2] / "examples" / "hello" / "workflow.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CROSSFADE_SITES", raising=False)
    return tmp_path


def xf(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result


def answer(*args: str, code: int = 0) -> Any:
    return json.loads(xf(*args, "-o", "json", code=code).stdout)


# -- documents -----------------------------------------------------------------------------------------------------


def test_what_init_writes_is_valid_and_is_never_overwritten(folder: Path) -> None:
    assert answer("init")["written"] == ["workflow.yaml", "sites.yaml"]
    assert answer("validate", "workflow.yaml")["stages"] == ["greet", "count"]
    assert [view["site"] for view in answer("site", "ls")] == ["here"]
    (folder / "workflow.yaml").write_text("mine")
    assert answer("init")["kept"] == ["workflow.yaml", "sites.yaml"]
    assert (folder / "workflow.yaml").read_text() == "mine"


def test_a_workflow_made_of_a_batch_script_is_valid(folder: Path) -> None:
    script = (
        "#!/bin/bash\n#SBATCH -N 1 -c 2 -t 10 --mem=1G -A als -q debug --array=1-3\nx='a: b'\necho \"$x\" | tr a b\n"
    )
    (folder / "job.sbatch").write_text(script)
    made = xf("init", "--from", "job.sbatch", "--site", "here")
    assert "not taken over: --array=1-3" in made.stderr
    assert answer("validate", "workflow.yaml")["stages"] == ["job"]
    assert 'echo "$x" | tr a b' in (folder / "workflow.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("crossfade: 1\nname: x\nstages:\n  a: {runn: 'true'}\n", "bad.yaml:4"),
        ("crossfade: 1\nname: x\nstages:\n  a: {run: 'true', needs: [b]}\n", "bad.yaml:4"),
        ("a: [1, 2\nb: }", "bad.yaml:2"),
        ("", "bad.yaml"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "submit", "run", "plan"])
def test_a_bad_document_ends_with_2_and_its_place_and_stores_nothing(
    folder: Path, verb: str, text: str, place: str
) -> None:
    (folder / "bad.yaml").write_text(text)
    assert place in xf(verb, "bad.yaml", code=2).stderr
    assert answer("history") == []


def test_a_document_that_is_not_there_ends_with_2() -> None:
    assert "nothing.yaml" in xf("run", "nothing.yaml", code=2).stderr


def test_what_is_not_there_ends_with_3() -> None:
    assert "no run" in xf("status", "nothing", code=3).stderr
    assert "site" in xf("site", "show", "nothing", code=3).stderr


def test_plan_says_where_each_stage_would_start_and_stores_nothing() -> None:
    views = answer("plan", str(HELLO))
    assert [(view["stage"], view["outcome"]) for view in views] == [
        ("write", "place"),
        ("shout", "place"),
        ("sign", "place"),
    ]
    assert all(view["site"] and view["reasons"] for view in views)
    assert answer("history") == []


def test_a_dry_run_stores_nothing() -> None:
    assert answer("submit", str(HELLO), "--dry-run")["stages"] == 3
    assert answer("run", str(HELLO), "--dry-run")["run"] is None
    assert answer("history") == []


def test_the_same_key_is_the_same_run_and_another_body_is_refused(folder: Path) -> None:
    first = answer("submit", str(HELLO), "--key", "k")
    again = answer("submit", str(HELLO), "--key", "k")
    assert (again["run"], again["new"]) == (first["run"], False)
    assert "this key" in xf("submit", str(HELLO), "--key", "k", "-p", "who=else", code=2).stderr
    assert answer("submit", str(HELLO), "--key", "k", "--again")["run"] != first["run"]


@pytest.mark.parametrize("kind", ["workflow", "sites"])
def test_schemas_are_json(kind: str) -> None:
    assert "properties" in json.loads(xf("schema", kind).stdout)


# -- runs that nobody has served yet ---------------------------------------------------------------------------------


def test_a_run_is_found_by_its_name_by_a_prefix_and_by_being_the_newest() -> None:
    run = answer("submit", str(HELLO))["run"]
    for target in (run, run[:15], "hello"):
        assert answer("status", target)["run"] == run
    assert answer("explain")["run"] == run
    assert answer("status", f"{run}/shout")["stages"][0]["name"] == "shout"
    assert "has no stage" in xf("status", f"{run}/nothing", code=3).stderr


def test_without_a_run_status_says_how_everything_stands() -> None:
    run = answer("submit", str(HELLO))["run"]
    view = answer("status")
    assert [line["run"] for line in view["runs"]] == [run]
    assert view["sites"][0]["state"] == "unknown"
    assert view["needs_person"] == []
    assert "no sites" not in xf("status").stdout


def test_a_change_that_nobody_carries_out_yet_says_so() -> None:
    run = answer("submit", str(HELLO))["run"]
    assert answer("hold", run, "--dry-run")["command"] is None
    held = xf("hold", run, "--reason", "maintenance", "-o", "json")
    assert json.loads(held.stdout)["outcome"] is None
    assert "nobody has carried it out" in held.stderr
    assert "cannot hold" in xf("hold", f"{run}/shout", code=4).stderr
    assert "no site" in xf("move", run, "--to", "nowhere", code=3).stderr


def test_there_is_nothing_to_get_before_a_stage_is_done() -> None:
    answer("submit", str(HELLO))
    assert "no products" in xf("get", "hello", "there", code=3).stderr


# -- sites ---------------------------------------------------------------------------------------------------------


def test_a_site_is_added_checked_drained_and_resumed(folder: Path) -> None:
    answer("init")
    added = answer("site", "add", "there", "--profile", "local", "--root", "over/there", "--slots", "3")
    assert added["entry"]["root"] == str(folder / "over/there")
    assert "# The sites where stages may run." in (folder / "sites.yaml").read_text()
    checked = answer("site", "check", "there")
    assert checked["ok"]
    steps = {check["step"]: check["ok"] for check in checked["checks"]}
    assert (steps["files"], steps["status"], steps["claim"], steps["canary"]) == (True, True, True, None)
    assert list((folder / "over/there/check").iterdir()) == []
    xf("site", "drain", "there", "--reason", "maintenance", "--yes")
    assert answer("site", "show", "there")["state"] == "drained"
    xf("site", "resume", "there")
    assert answer("site", "show", "there")["state"] != "drained"
    assert "already" in xf("site", "add", "there", "--profile", "local", code=2).stderr


def test_a_site_is_shown_with_each_capability_its_reason_and_what_comes_next(folder: Path) -> None:
    answer("init")
    answer("site", "check", "here")
    judged = answer("site", "show", "here")["capabilities"]
    assert list(judged) == ["submit", "status", "files", "transfer", "compute", "credentials"]
    assert (judged["files"]["state"], judged["files"]["rule"]) == ("unknown", "samples")
    assert judged["files"]["reason"] == "too few good measurements: 1 of 3"
    assert (judged["files"]["source"], judged["files"]["age_seconds"] < 60) == ("probe", True)
    printed = xf("site", "show", "here").stdout
    assert re.search(r"CAPABILITY +STATE +AGE +SOURCE +RULE +REASON +NEXT", printed)
    assert re.search(r"files +unknown +[\d.]+ s +probe +samples +too few good measurements: 1 of 3 +-", printed)


def test_an_override_has_a_reason_and_an_end_and_is_shown_and_warned_of(folder: Path) -> None:
    answer("init")
    assert "say why" in xf("site", "override", "here", "down", "--yes", code=2).stderr
    assert "would say" in xf("site", "override", "here", "down", "--reason", "water", "--dry-run").stdout
    assert answer("site", "show", "here")["override"] is None
    xf("site", "override", "here", "down", "--reason", "water", "--for", "2h", "--yes")
    view = answer("site", "show", "here")
    assert (view["override"]["state"], view["override"]["reason"]) == ("down", "water")
    assert (view["health"], view["capabilities"]["submit"]["then"]) == ("down", "judged by evidence again")
    assert "water" in xf("site", "show", "here").stdout
    assert "counts as down until" in xf("submit", str(HELLO)).stderr
    xf("site", "override", "here", "none", "--reason", "dry", "--yes")
    assert answer("site", "ls")[0]["override"] is None
    assert "has no override" in xf("site", "override", "here", "none", "--reason", "dry", "--yes", code=4).stderr


def test_a_site_whose_folder_went_away_is_dark(folder: Path) -> None:
    answer("init")
    assert answer("site", "check", "here")["ok"]
    (folder / "crossfade-here").rename(folder / "elsewhere")
    dark = xf("site", "check", "here", code=5)
    assert "cannot be opened" in dark.stderr


def test_a_site_of_a_profile_that_is_not_known_is_not_written(folder: Path) -> None:
    answer("init")
    before = (folder / "sites.yaml").read_text()
    assert "profile" in xf("site", "add", "x", "--profile", "nonsense", "--root", "/x", code=2).stderr
    assert (folder / "sites.yaml").read_text() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sites:\n    a: {root: /a}\n\n# end\n", "sites:\n    a: {root: /a}\n    b: {root: /b}\n\n# end\n"),
        ("sites:\n  a:\n    root: /a\nplaces: {}\n", "sites:\n  a:\n    root: /a\n  b: {root: /b}\nplaces: {}\n"),
        ("sites:\n  a: {root: /a}", "sites:\n  a: {root: /a}\n  b: {root: /b}\n"),
        ("crossfade: 1\n", "crossfade: 1\nsites:\n  b: {root: /b}\n"),
        ("sites:\n# none yet\n", "sites:\n  b: {root: /b}\n# none yet\n"),
    ],
)
def test_a_site_is_put_at_the_end_of_the_sites_and_the_rest_stays(text: str, expected: str) -> None:
    assert with_site(text, "b", {"root": "/b"}) == expected


def test_sites_within_braces_are_left_to_a_person() -> None:
    with pytest.raises(UsageError, match="braces"):
        with_site("sites: {a: {root: /a}}\n", "b", {"root": "/b"})


# -- the installation ----------------------------------------------------------------------------------------------


def test_doctor_finds_a_new_installation_sound() -> None:
    found = {check["what"]: check for check in answer("doctor")}
    assert all(check["ok"] for check in found.values())
    assert "integrity ok" in found["database"]["found"]
    assert "local" in found["site document"]["found"]


def test_a_backup_is_never_overwritten_and_is_restored_into_an_empty_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = answer("submit", str(HELLO))["run"]
    made = answer("db", "backup", "b.db")
    assert (made["counts"]["run"], made["incarnation"]) == (1, 0)
    assert "already" in xf("db", "backup", "b.db", code=2).stderr
    monkeypatch.setenv("CROSSFADE_HOME", str(folder / "other"))
    assert "restoring b.db" in xf("db", "restore", "b.db", "--dry-run").stderr
    assert answer("history") == []
    restored = answer("db", "restore", "b.db")
    assert (restored["digest"], restored["incarnation"], restored["due"]) == (made["digest"], 1, 1)
    assert [line["run"] for line in answer("history")] == [run]
    assert answer("db", "check")["violations"] == []
    assert "holds runs" in xf("db", "restore", "b.db", code=2).stderr
    assert answer("db", "restore", "b.db", "--replace", "-y")["incarnation"] == 2


def test_a_site_in_quarantine_is_shown_and_can_be_released_with_a_reason(folder: Path) -> None:
    xf("submit", str(HELLO))
    xf("site", "check", "local")
    assert "not in quarantine" in xf("site", "release", "local", "--reason", "x", code=4).stderr
    xf("db", "backup", "b.db")
    assert answer("db", "restore", "b.db", "--replace", "-y")["sites"] == ["local"]
    assert [view["state"] for view in answer("site", "ls")] == ["quarantined"]
    assert "crossfade site release local" in xf("status").stdout
    assert "quarantine: local" in xf("doctor", code=1).stderr
    assert "say why" in xf("site", "release", "local", code=2).stderr
    assert "would release" in xf("site", "release", "local", "--reason", "x", "--dry-run").stdout
    xf("site", "release", "local", "--reason", "nothing ran there", "-y")
    view = answer("site", "show", "local")
    assert (view["quarantined"], view["events"][-1]["event"]) == (False, "released")
    assert answer("site", "strays") == []


def test_a_backup_that_was_copied_into_place_is_known_for_what_it_is(folder: Path) -> None:
    xf("submit", str(HELLO))
    xf("db", "backup", "b.db")
    (folder / "b.db").rename(folder / "home" / "crossfade.db")
    for side in ("-wal", "-shm"):
        (folder / "home" / f"crossfade.db{side}").unlink(missing_ok=True)
    assert "crossfade db restore" in xf("history", code=1).stderr


def test_a_damaged_database_is_set_aside_for_a_backup(folder: Path) -> None:
    run = answer("submit", str(HELLO))["run"]
    xf("db", "backup", "b.db")
    database = folder / "home" / "crossfade.db"
    database.write_bytes(database.read_bytes()[:5000])
    assert "is damaged" in xf("db", "restore", "b.db", code=2).stderr
    xf("db", "restore", "b.db", "--replace", "-y")
    assert [line["run"] for line in answer("history")] == [run]
    assert list(database.parent.glob("crossfade.db.damaged-*"))


def test_nothing_is_restored_while_somebody_serves(folder: Path) -> None:
    from broker.config import Settings
    from broker.serve_lock import only_server

    xf("submit", str(HELLO))
    xf("db", "backup", "b.db")
    with only_server(Settings(home=folder / "home")):
        assert "serves" in xf("db", "restore", "b.db", "--replace", "-y", code=4).stderr
    xf("db", "restore", "b.db", "--replace", "-y")


def test_an_event_that_was_changed_is_found(folder: Path) -> None:
    import sqlite3

    answer("submit", str(HELLO))
    connection = sqlite3.connect(folder / "home" / "crossfade.db")
    connection.execute("UPDATE event SET actor = 'nobody'")
    connection.commit()
    connection.close()
    view = answer("db", "check", code=1)
    assert [violation["rule"] for violation in view["violations"]] == ["I19"]


@pytest.mark.parametrize("name", examples())
def test_a_shipped_example_is_written_and_valid(folder: Path, name: str) -> None:
    assert name in xf("example").stdout
    answer("example", name)
    own = folder / name / "sites.yaml"
    sites = ["--sites", str(own)] if own.exists() else []
    assert answer(*sites, "validate", f"{name}/workflow.yaml")["valid"]
    assert "already" in xf("example", name, code=2).stderr


def test_an_unwritable_home_is_told_in_one_line(folder: Path) -> None:
    (folder / "home").write_text("a file stands in its way")
    told = xf("queue", code=1).stderr
    assert "CROSSFADE_HOME" in told
    assert len(told.splitlines()) == 2


# -- getting products ------------------------------------------------------------------------------------------------


class Shelf:
    """A site that holds one file, or is dark."""

    def __init__(self, content: bytes, *, dark: bool = False) -> None:
        self.content, self.dark = content, dark

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        if self.dark:
            raise SiteUnreachable("gone")
        return self.content[offset : offset + limit]


def wanted(folder: Path) -> Wanted:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    return Wanted(stage="s", site="a", source="p/x", target=folder / "to" / "x", size=5, sha256=digest)


def test_a_product_is_brought_verified_and_only_once(folder: Path) -> None:
    file = wanted(folder)
    assert fetch([file], {"a": Shelf(b"hello")}, told=lambda *_: None) == (1, 0)  # type: ignore[dict-item]
    assert fetch([file], {"a": Shelf(b"other")}, told=lambda *_: None) == (0, 1)  # type: ignore[dict-item]
    assert file.target.read_bytes() == b"hello"


def test_a_product_that_changed_is_refused_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(Corrupt, match="not what was verified"):
        fetch([wanted(folder)], {"a": Shelf(b"hullo")}, told=lambda *_: None)  # type: ignore[dict-item]
    assert list((folder / "to").iterdir()) == []


def test_a_file_that_is_there_and_differs_is_not_overwritten(folder: Path) -> None:
    file = wanted(folder)
    file.target.parent.mkdir()
    file.target.write_bytes(b"mine!")
    with pytest.raises(UsageError, match="already"):
        refuse_overwriting([file])
