"""A stage whose `when` is false: skipped in its turn, no failure, and what becomes of the stages around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site

from broker.audit import audit_run
from broker.errors import RefusedByPolicy
from broker.spec import CompiledRun, DocumentError, compile_workflow, load_workflow, parse_document
from policies.explain import sentences
from policies.model import Decision

WHY = "when params.full is false (full is false)"
NO = {"skip": WHY}


def compiled(text: str, **params: str) -> CompiledRun:
    raw = parse_document(
        f"crossfade: 1\nname: t\nparams: {{full: {{type: bool, default: false}}}}\n{text}", name="t.yaml"
    )
    return compile_workflow(load_workflow(raw, base=None), params=params, base=None)


def skips(run: CompiledRun) -> dict[str, str]:
    return {stage.path: json.loads(stage.rules).get("skip", "") for stage in run.stages}


# -- in documents --------------------------------------------------------------------------------------------

CHAIN = """stages:
  a: {run: x, when: params.full, outputs: [{path: f, to: ["cfs:f"], deliver: before_done}]}
  b: {run: x, inputs: [{name: f, from: a}], outputs: [{path: g}]}
  c: {run: x, needs: [b]}
  d: {run: x, inputs: [{name: g, from: b}]}
"""


def test_what_takes_files_of_a_skipped_stage_is_skipped_and_what_only_needs_its_turn_is_not() -> None:
    assert skips(compiled(CHAIN)) == {
        "a": WHY,
        "a/deliver": WHY,
        "b": f"takes files of a: {WHY}",
        "c": "",
        "d": f"takes files of b: takes files of a: {WHY}",
    }
    assert set(skips(compiled(CHAIN, full="true")).values()) == {""}


def test_a_stage_whose_when_is_true_is_as_one_without() -> None:
    plain, asked = compiled("stages: {a: {run: x}}"), compiled("stages: {a: {run: x, when: params.full}}", full="true")
    assert [stage.digest for stage in plain.stages] == [stage.digest for stage in asked.stages]


def test_a_condition_is_checked_before_any_param_is_known_with_its_place_and_the_nearest_param() -> None:
    with pytest.raises(DocumentError) as caught:
        compiled("stages:\n  a:\n    run: x\n    when: not params.ful\n")
    assert str(caught.value) == ("t.yaml:7:5 stages.a.when: the param 'ful' is not declared; did you mean `full`?")


@pytest.mark.parametrize(("when", "skipped"), [("false", True), ("true", False)])
def test_plain_true_and_false_are_conditions_too(when: str, skipped: bool) -> None:
    assert skips(compiled(f"stages: {{a: {{run: x, when: {when}}}}}")) == {"a": "when is false" if skipped else ""}


REPLICAS = """stages:
  to_cfs: {when: params.full, copy: [{from: "spot:x", to: "cfs:x"}]}
  MORE
  a: {run: x, inputs: [{name: x, from: ["cfs:x", "data:x"]}]}
  b: {run: x, inputs: [{name: x, from: "cfs:x"}]}
"""


def places(text: str, **params: str) -> dict[str, list[str]]:
    run = compiled(text, **params)
    bodies = {stage.path: json.loads(stage.body) for stage in run.stages}
    return {name: ["".join(side) for side in bodies[name]["inputs"][0]["places"]] for name in ("a", "b")}


def test_a_replica_that_a_skipped_copy_would_have_made_is_not_looked_for_where_there_is_another() -> None:
    text = REPLICAS.replace("  MORE\n", "")
    assert places(text, full="true") == {"a": ["cfs:x", "data:x"], "b": ["cfs:x"]}
    assert places(text) == {"a": ["data:x"], "b": ["cfs:x"]}
    other = REPLICAS.replace("MORE", 'or_so: {when: not params.full, copy: [{from: "old:x", to: "cfs:x"}]}')
    assert places(other) == {"a": ["cfs:x", "data:x"], "b": ["cfs:x"]}


def test_a_long_chain_of_stages_is_followed_without_depth() -> None:
    stages = "".join(
        f"  s{n}: {{run: x, inputs: [{{name: f, from: s{n + 1}}}], outputs: [{{path: f}}]}}\n" for n in range(2000)
    )
    run = compiled(f"stages:\n{stages}  s2000: {{run: x, when: false, outputs: [{{path: f}}]}}\n")
    assert all(skips(run).values())


def test_a_copy_that_is_not_wanted_brings_nothing_where_it_may_not(tmp_path: Path) -> None:
    from broker.possible import check
    from broker.sites import sites_of
    from broker.spec import document_from

    places = {"spot": {"path": "/s", "clearance": ["export_control"]}, "cfs": {"path": "/c"}}
    data = {"crossfade": 1, "sites": {"here": {"profile": "local", "root": str(tmp_path)}}, "places": places}
    sites = sites_of(document_from(data, name="sites"), base=tmp_path, where="", home=tmp_path)
    text = """policy: {data: {export_control: "${{ params.full }}"}}
stages: {c: {when: WHEN, copy: [{from: "spot:x", to: "cfs:x"}]}}
"""
    check(compiled(text.replace("WHEN", "not params.full"), full="true"), sites)
    with pytest.raises(RefusedByPolicy, match="export_control"):
        check(compiled(text.replace("WHEN", "params.full"), full="true"), sites)


# -- while it runs -------------------------------------------------------------------------------------------


def test_it_is_skipped_when_its_turn_has_come_and_what_needs_it_goes_on_after_that() -> None:
    made = Lab(site("nersc"))
    run = made.submit(
        Stage("first", "seconds=50"), Stage("a", needs=["first"], rules=NO), Stage("b", "seconds=5", needs=["a"])
    )
    made.run_for(20)
    assert [made.stage(run, name).state for name in ("first", "a", "b")] == ["ACTIVE", "WAITING", "WAITING"]
    assert made.finish(run) == "SUCCEEDED"
    assert [made.stage(run, name).state for name in ("first", "a", "b")] == ["SUCCEEDED", "SKIPPED", "SUCCEEDED"]
    assert made.stage(run, "a").reason == WHY
    assert made.attempts(run, "a") == []
    assert audit_run(made.store, run) == []


def test_explain_and_the_events_tell_why() -> None:
    made = Lab(site("nersc"))
    run = made.submit(Stage("a", rules=NO), Stage("b", "seconds=5"))
    assert made.finish(run) == "SUCCEEDED"
    (row,) = made.store.decisions(run, 0)
    assert sentences(Decision.from_json(row.detail)) == [f"Skipped: {WHY}."]
    (event,) = [event for event in made.store.events(run) if event.kind == "skipped"]
    assert json.loads(event.data) == {"reason": WHY}


def test_a_run_of_which_nothing_is_wanted_succeeds_at_once() -> None:
    made = Lab(site("nersc"))
    run = made.submit(Stage("a", rules=NO), Stage("b", needs=["a"], rules=NO))
    assert made.finish(run) == "SUCCEEDED"
    assert audit_run(made.store, run) == []


def test_behind_a_stage_that_failed_it_counts_as_never_reached_and_so_do_those_behind_it() -> None:
    made = Lab(site("nersc"))
    bad = {"retry": {"site_fault": 0, "app_fault": 0, "exit_codes": {}}}
    run = made.submit(
        Stage("bad", "seconds=5 exit=1", rules=bad), Stage("a", needs=["bad"], rules=NO), Stage("b", needs=["a"])
    )
    assert made.finish(run) == "FAILED"
    assert [made.stage(run, name).state for name in ("a", "b")] == ["SKIPPED", "SKIPPED"]
    assert made.stage(run, "a").reason == "a stage that it needs did not succeed"
    assert audit_run(made.store, run) == []


def test_when_the_failed_stage_is_tried_again_it_is_skipped_for_its_own_reason() -> None:
    made = Lab(site("nersc"))
    bad = {"retry": {"site_fault": 0, "app_fault": 0, "exit_codes": {}}}
    run = made.submit(
        Stage("bad", "seconds=5 exit=1", rules=bad), Stage("a", needs=["bad"], rules=NO), Stage("b", needs=["a"])
    )
    made.finish(run)
    made.command(run, "retry", "bad")
    made.run_for(1)
    assert made.stage(run, "a").state == "WAITING"
    made.finish(run)
    assert audit_run(made.store, run) == []


def test_a_retry_elsewhere_leaves_what_was_skipped_by_its_when_as_it_is() -> None:
    made = Lab(site("nersc"))
    bad = {"retry": {"site_fault": 0, "app_fault": 0, "exit_codes": {}}, "required": False}
    run = made.submit(
        Stage("bad", "seconds=5 exit=1", rules=bad),
        Stage("a", needs=["bad"], rules=NO),
        Stage("b", "seconds=500", needs=["a"]),
    )
    made.run_for(60)
    assert [made.stage(run, name).state for name in ("bad", "a", "b")] == ["FAILED", "SKIPPED", "ACTIVE"]
    made.command(run, "retry", "bad")
    made.run_for(1)
    assert made.stage(run, "a").state == "SKIPPED"
    assert made.finish(run) == "SUCCEEDED"
    assert audit_run(made.store, run) == []


def test_of_a_canceled_run_it_is_canceled_as_the_others_are() -> None:
    made = Lab(site("nersc"))
    run = made.submit(Stage("first", "seconds=50"), Stage("a", needs=["first"], rules=NO))
    made.run_for(5)
    made.command(run, "cancel")
    assert made.finish(run) == "CANCELED"
    assert made.stage(run, "a").state == "CANCELED"
    assert audit_run(made.store, run) == []
