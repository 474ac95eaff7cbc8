"""The drills that are shipped, as they are typed, and that a drill can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from broker.cli.app import app
from broker.drill.shipped import shipped

ROOT = Path(__file__).parents[2]


def drill(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["drill", *words])
    assert result.exit_code == code, result.output
    return result


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(drill(*words, "-o", "json", code=code).stdout)


def written(folder: Path, name: str, **changes: Any) -> str:
    """A person's own drill: a shipped one with keys replaced."""
    data = yaml.safe_load(shipped()[name].read_text())
    path = folder / "mine.yaml"
    path.write_text(json.dumps({**data, **changes}))
    return str(path)


# every-tenth: test_losing_a_site.py
@pytest.mark.parametrize("name", sorted(set(shipped()) - {"every-tenth"}))
def test_a_shipped_drill_is_passed(name: str) -> None:
    found = answer("run", name)
    assert found["ok"]
    (play,) = found["plays"]
    assert play["violations"] == []
    assert play["double_submissions"] == 0
    assert {"I1", "I19", "gate", "double", "left"} <= set(found["invariants"])
    assert {check["name"] for check in play["checks"]} > {"state", "double submissions"}
    page = (ROOT / "docs" / "explanation" / "judgement.md").read_text()
    assert f"| `{name}` |" in page, "run tools/drill_figures.py"


def test_the_list_tells_of_all_of_them() -> None:
    listed = answer("ls")
    assert [one["name"] for one in listed] == sorted(shipped())
    assert all(one["title"] and one["about"] for one in listed)
    assert "site-dies" in drill("ls").stdout
    assert drill("show", "site-dies").stdout == shipped()["site-dies"].read_text()


def test_the_same_seed_tells_the_same_story() -> None:
    first, second = (drill("run", "urgent", "--seed", "7", "-o", "json").stdout for _ in range(2))
    assert first == second


def test_urgent_work_meets_its_classes_although_its_first_site_is_dark() -> None:
    (play,) = answer("run", "urgent")["plays"]
    ready = play["ready_s"]
    assert ready["shot"] <= 180
    assert ready["sample"] <= 600
    assert ready["scan"] <= 1200
    assert play["moves"] == 3, "each of them had begun where it could not stay"


# -- a drill can fail ----------------------------------------------------------------------------------------------


def test_a_broken_bound_ends_with_7_and_is_named(tmp_path: Path) -> None:
    workflow = yaml.safe_load(shipped()["site-dies"].read_text())["workflow"]
    workflow["stages"]["recon"]["checkpoint"]["ship"] = "never"
    path = written(tmp_path, "site-dies", workflow=workflow, bounds={"lost": "10m", "recovery": "10m"})
    failed = drill("run", path, code=7)
    assert "BROKEN  work lost: 66 min, wanted at most 10 min" in failed.stdout
    assert "ok      recovery" in failed.stdout
    assert "the drill mine was not passed" in failed.stderr


def test_a_run_that_does_not_end_breaks_its_bound(tmp_path: Path) -> None:
    incidents = [{"at": "0s", "kind": "partition", "site": "all"}]
    path = written(tmp_path, "lost-reply", incidents=incidents, limit="1h", bounds={})
    failed = answer("run", path, code=7)
    (state,) = [check for check in failed["plays"][0]["checks"] if check["name"] == "state"]
    assert (state["found"], state["ok"]) == ("WAITING", False)


def test_a_planted_violation_is_found_in_the_books_of_the_sites(tmp_path: Path) -> None:
    twice = {"options": {"claim": "none", "odds": {"run_twice": 1.0}}}
    path = written(tmp_path, "lost-reply", sites={"nersc": twice, "alcf": twice}, bounds={})
    failed = drill("run", path, code=7)
    assert "BROKEN  gate: " in failed.stdout
    assert "ran twice at once at nersc" in failed.stdout


def test_a_planted_violation_is_found_in_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from broker.drill import rehearse

    measured = rehearse.measure

    def tampered(played: Any, carrying: Any) -> Any:
        with played.ground.store._database.engine.begin() as connection:
            connection.exec_driver_sql("update event set actor = 'nobody' where kind = 'placed'")
        return measured(played, carrying)

    monkeypatch.setattr(rehearse, "measure", tampered)
    failed = drill("run", "lost-reply", code=7)
    assert "BROKEN  I19" in failed.stdout


# -- other workflows, other sites ----------------------------------------------------------------------------------


def test_a_persons_own_workflow_is_given_work_and_loses_its_site(tmp_path: Path) -> None:
    document = tmp_path / "mine.yaml"
    document.write_text(
        "crossfade: 1\nname: mine\nparams: {scan: {required: true}}\npolicy: {failover: {after: 5m}}\nstages:\n"
        "  a:\n    run: python reconstruct.py ${{ params.scan }}\n    outputs: [{path: out/}]\n"
        "    resources: {walltime: 2h}\n    checkpoint: {path: ., ship: always}\n"
        "  b: {run: 'python view.py', inputs: [{name: out/, from: a}], outputs: [{path: png}]}\n"
    )
    told = drill("run", "site-dies", "--workflow", str(document), "-p", "scan=7", "-o", "json")
    found = json.loads(told.stdout)
    assert "given work, for nothing is executed here: a, b" in told.stderr
    assert found["workflow"] == "mine"
    (play,) = found["plays"]
    assert play["products"] == 2
    assert play["moves"] >= 1
    assert 0 < play["lost_h"] < 0.5


def test_twins_of_a_persons_own_sites_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = tmp_path / "sites.yaml"
    sites.write_text(
        "crossfade: 1\nsites:\n"
        "  pm: {profile: nersc/perlmutter, root: /global/u/me, account: m1, facility: nersc}\n"
        "  here: {profile: slurm, root: /scratch/me}\n"
    )
    monkeypatch.setenv("CROSSFADE_SITES", str(sites))
    found = answer("run", "lost-reply", "--twins")
    assert found["sites"] == ["pm", "here"]
    assert found["plays"][0]["products"] == 3
    sites.write_text("crossfade: 1\nsites:\n  here: {profile: slurm, root: /scratch/me}\n")
    assert "no two sites" in drill("run", "lost-reply", "--twins", code=2).stderr


# -- files that are wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"incidents": [{"at": "1h", "kind": "fire", "site": "nersc"}]}, "there is no fault 'fire'"),
        ({"incidents": [{"at": "1h", "kind": "site_lost", "site": "nerscc"}]}, "there is no site 'nerscc'"),
        ({"incidents": [{"at": "120%", "kind": "site_lost"}]}, "no part of a stage's work"),
        ({"incidents": [{"at": "1h", "kind": "preemption", "times": 3}]}, "needs `every`"),
        ({"incidents": [{"at": "1h", "kind": "preemption", "with": {"notize": 1}}]}, "no word 'notize'"),
        ({"incidents": [{"at": "1h", "kind": "preemption", "with": {"start": 1}}]}, "'start' cannot stand here"),
        ({"incidents": [{"at": "1h", "kind": "lost_reply", "with": {"count": 1}}]}, "is told nothing else"),
        ({"incidents": [{"at": ["1h", "2h"], "kind": "site_lost"}] * 2}, "only one may be a list"),
        ({"incidents": [], "bounds": {}}, "nothing goes wrong, and nothing is bounded"),
        ({"bounds": {"moves": {"lest": 1}}}, "is no count"),
        ({"bounds": {"recovry": "1m"}}, "recovry"),
        ({"sites": {"only": {}}}, "fewer than 2"),
        ({"drill": 2}, "2 cannot stand here"),
        ({"workflow": {"crossfade": 1, "name": "x", "stages": {"a": {"runn": "true"}}}}, "runn"),
    ],
)
def test_a_file_that_is_wrong_ends_with_2_and_says_where(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    told = drill("run", written(tmp_path, "lost-reply", **changes), code=2).stderr
    assert said in told
    assert "mine" in told


def test_a_drill_that_is_not_there_ends_with_3() -> None:
    assert "there are: all-dark" in drill("run", "site-dyes", code=3).stderr
    assert "there is no file ./no.yaml" in drill("run", "./no.yaml", code=3).stderr
