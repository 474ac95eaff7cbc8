"""Stages that only move data: at no site, in no queue, tried again, stopped, and over only when all has arrived."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.audit import audit_run
from broker.cli.telling import sentence
from broker.clock import micros
from broker.jobs import Job, outbound
from policies.model import Decision
from sandbox.faults import Partition, TransferOdds
from sandbox.mover import SimulatedMover

SAME = {"all": [["cfs:", "raw/x"]], "any": [["cfs:", "raw/x"]]}


def lab(*sites: object, **options: object) -> Lab:
    made = Lab(*(sites or (site("nersc"),)), places=["spot", "cfs", "data"], **options)
    made.put("spot:raw/x", b"raw")
    return made


def slow(made: Lab, seconds: float) -> None:
    """Transfers take their time from now on."""
    made.mover._latency = seconds


def decisions(made: Lab, run: str, path: str) -> list[Decision]:
    return [Decision.from_json(row.detail) for row in made.store.decisions(run, made.stage(run, path).n)]


# -- going well ----------------------------------------------------------------------------------------------


def test_a_copy_brings_a_file_from_place_to_place_and_needs_no_site() -> None:
    made = lab()
    made.store.set_site_mode("nersc", mode="drained", by="op", reason="maintenance")
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:raw/x")]))
    assert made.finish(run) == "SUCCEEDED"
    assert made.lies("cfs:raw/x") == b"raw"
    (attempt,) = made.attempts(run, "c")
    assert (attempt.site, attempt.state, attempt.native_id, attempt.answer) == ("", "SUCCEEDED", "", "")
    (product,) = made.store.products(run)
    assert json.loads(product.manifest) == {"files": [], "to": [["cfs:", "raw/x"]]}
    assert audit_run(made.store, run) == []


def test_a_copy_takes_no_place_of_a_full_site_and_waits_for_none() -> None:
    made = lab(site("nersc", slots=1))
    run = made.submit(Stage("long", "seconds=500"), Stage("c", copies=[("spot:raw/x", "cfs:raw/x")]))
    made.run_for(20)
    assert made.stage(run, "c").state == "SUCCEEDED"
    assert made.stage(run, "long").state == "ACTIVE"
    other = made.submit(Stage("c", copies=[("spot:raw/x", "data:x")]), Stage("d", needs=["c"]))
    slow(made, 300)
    made.run_for(10)
    assert made.store.open_attempts("nersc")[0].run_id == run
    assert made.finish(other, limit=2000) == "SUCCEEDED"


def test_a_copy_under_way_is_not_taken_for_a_run_that_wants_room() -> None:
    """The open attempt is at no site: it must not be counted among those that wait for a place."""
    made = lab(site("nersc", slots=2))
    slow(made, 1000)
    made.submit(*[Stage(f"c{i}", copies=[("spot:raw/x", f"cfs:raw/{i}")]) for i in range(3)])
    made.settle()
    run = made.submit(Stage("a", "seconds=5"), Stage("b", "seconds=5"))
    made.settle()
    assert len(made.store.open_attempts("nersc")) == 2
    assert made.finish(run) == "SUCCEEDED"


def test_what_needs_a_copy_waits_until_it_has_arrived() -> None:
    made = lab()
    slow(made, 100)
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:raw/x")]), Stage("next", "seconds=1", needs=["c"]))
    made.run_for(60)
    assert [s.state for s in made.store.stages(run)] == ["ACTIVE", "WAITING"]
    assert made.finish(run) == "SUCCEEDED"


def test_a_folder_and_a_file_go_to_two_places_in_one_stage() -> None:
    made = lab()
    made.put("spot:d/a", b"1")
    made.put("spot:d/b/c", b"2")
    run = made.submit(Stage("c", copies=[("spot:d/", "cfs:e/"), ("spot:raw/x", "data:x")]))
    assert made.finish(run) == "SUCCEEDED"
    assert [made.lies(w) for w in ("cfs:e/a", "cfs:e/b/c", "data:x")] == [b"1", b"2", b"raw"]


def test_what_a_stage_leaves_is_delivered_with_the_digests_it_was_verified_with() -> None:
    made = lab()
    run = made.submit(
        Stage("make", "seconds=5 outputs=rec/a:10,rec/b:3,log:2", outputs=["rec/", "log"]),
        Stage("make/deliver", copies=[("make/rec/", "cfs:r/"), ("make/log", "data:log.txt")]),
    )
    assert made.finish(run) == "SUCCEEDED"
    lies = [made.lies(w) for w in ("cfs:r/a", "cfs:r/b", "data:log.txt")]
    assert [len(content or b"") for content in lies] == [10, 3, 2]
    stage, (attempt,) = made.stage(run, "make/deliver"), made.attempts(run, "make/deliver")
    products = made.store.products_of(run, ["make"])
    transfers, _ = outbound(Job(stage=stage, attempt=attempt), products=products)
    assert {item.sha256 for t in transfers for item in t.items} == {
        digest for _, _, digest in json.loads(products["make"].manifest)["files"]
    }


def test_the_run_is_over_only_when_its_delivery_is() -> None:
    made = lab()
    run = made.submit(
        Stage("make", "seconds=5 outputs=o:10", outputs=["o"]),
        Stage("make/deliver", copies=[("make/o", "cfs:o")]),
        Stage("next", "seconds=1", needs=["make"]),
    )
    slow(made, 200)
    made.run_for(60)
    assert made.stage(run, "next").state == "SUCCEEDED"
    assert {s.path: s.state for s in made.store.stages(run)}["make/deliver"] == "ACTIVE"
    assert made.state(run) == "RUNNING"
    assert made.finish(run) == "SUCCEEDED"


# -- what goes wrong -----------------------------------------------------------------------------------------


def test_a_source_that_is_missing_is_tried_again_with_pauses_and_then_given_up() -> None:
    made = lab()
    run = made.submit(
        Stage("c", copies=[("spot:nothing", "cfs:x")], rules={"retry": {"site_fault": 2}}), Stage("d", needs=["c"])
    )
    assert made.finish(run) == "FAILED"
    attempts = made.attempts(run, "c")
    assert [a.state for a in attempts] == ["FAILED"] * 3
    assert {a.failure for a in attempts} == {"staging"}
    assert made.stage(run, "d").state == "SKIPPED"
    judged = [d for d in decisions(made, run, "c") if d.kind == "retry"]
    assert [d.outcome for d in judged] == ["again", "again", "fail"]
    assert "source missing: nothing" in judged[0].reasons[0].fact
    assert audit_run(made.store, run) == []


def test_a_retry_by_a_person_begins_anew_when_the_file_is_there() -> None:
    made = lab()
    run = made.submit(Stage("c", copies=[("spot:late", "cfs:x")], rules={"retry": {"site_fault": 0}}))
    assert made.finish(run) == "FAILED"
    made.put("spot:late", b"here")
    made.command(run, "retry", "c")
    made.run_for(30)
    assert made.lies("cfs:x") == b"here"
    assert made.state(run) == "SUCCEEDED"


def test_what_one_attempt_has_brought_the_next_does_not_bring_again() -> None:
    made = lab()
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x"), ("spot:late", "data:y")]))
    made.settle()
    assert made.lies("cfs:x") == b"raw"
    made.put("cfs:x", b"touched since")
    made.put("spot:late", b"here")
    assert made.finish(run) == "SUCCEEDED"
    assert (made.lies("cfs:x"), made.lies("data:y")) == (b"touched since", b"here")
    assert len(made.attempts(run, "c")) == 2


def test_a_dark_side_is_waited_for_and_costs_no_try() -> None:
    made = lab(site("nersc"))
    run = made.submit(
        Stage("make", "seconds=5 outputs=o:10", outputs=["o"]),
        Stage("turn", "seconds=30", needs=["make"]),
        Stage("turn/deliver", needs=["turn"], copies=[("make/o", "cfs:o")]),
    )
    made.run_for(30)
    now = made.clock()
    made.sites["nersc"].model.inject(Partition(start=now, end=now + micros(7200)))
    made.run_for(3600, step=30)
    assert made.finish(run) == "SUCCEEDED"
    (attempt,) = made.attempts(run, "turn/deliver")
    assert made.stage(run, "turn/deliver").site_retries == 0
    assert attempt.unreachable_since is None


def test_a_side_that_stays_dark_for_a_day_ends_the_attempt() -> None:
    made = lab(site("nersc"))
    run = made.submit(
        Stage("make", "seconds=5 outputs=o:10", outputs=["o"]),
        Stage("c", copies=[("make/o", "cfs:o")], rules={"retry": {"site_fault": 0}}),
    )
    made.mover._world.errands.clear()
    made.run_for(4)
    slow(made, 10)
    made.run_for(6, step=1)
    now = made.clock()
    made.sites["nersc"].model.inject(Partition(start=now, end=now + micros(20 * 86400)))
    made.run_for(2 * 86400, step=600)
    assert made.stage(run, "c").state == "FAILED"
    assert made.attempts(run, "c")[0].failure == "staging"


def test_a_corrupted_copy_is_tried_again_and_arrives_whole() -> None:
    made = lab()
    made.mover._odds = TransferOdds(corrupt=1.0)
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x")]))
    made.settle()
    assert made.lies("cfs:x") is None
    made.mover._odds = TransferOdds()
    assert made.finish(run) == "SUCCEEDED"
    assert made.lies("cfs:x") == b"raw"


# -- people ----------------------------------------------------------------------------------------------------


def test_a_cancel_stops_the_mover_before_anything_is_called_canceled() -> None:
    made = lab()
    slow(made, 500)
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x")]))
    made.run_for(20)
    made.command(run, "cancel")
    assert made.finish(run, limit=100) == "CANCELED"
    made.run_for(1000, step=50)
    assert made.lies("cfs:x") is None
    (attempt,) = made.attempts(run, "c")
    assert (attempt.state, attempt.open, json.loads(attempt.dead)) == (
        "CANCELED",
        0,
        {"how": "canceled and confirmed"},
    )
    assert audit_run(made.store, run) == []


def test_a_cancel_that_the_mover_does_not_confirm_is_asked_again() -> None:
    made = lab()
    slow(made, 500)
    asked: list[list[str]] = []

    class Slow(SimulatedMover):
        def cancel(self, keys):
            asked.append(list(keys))
            return super().cancel(keys) if len(asked) > 2 else dict.fromkeys(keys, False)

    made.mover.__class__ = Slow
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x")]))
    made.settle()
    made.command(run, "cancel", "c")
    made.run_for(1)
    assert made.attempts(run, "c")[0].open == 1
    made.run_for(60)
    assert made.attempts(run, "c")[0].open == 0
    assert len(asked) == 3


def test_a_held_run_begins_no_copy_until_it_is_released() -> None:
    made = lab()
    run = made.submit(Stage("a", "seconds=20"), Stage("c", needs=["a"], copies=[("spot:raw/x", "cfs:x")]))
    made.settle()
    made.command(run, "hold")
    made.run_for(100)
    assert (made.stage(run, "c").state, made.attempts(run, "c")) == ("READY", [])
    made.command(run, "release")
    assert made.finish(run) == "SUCCEEDED"


def test_a_copy_cannot_be_moved_to_a_site() -> None:
    made = lab()
    slow(made, 100)
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x")]))
    made.settle()
    made.command(run, "move", "c", to="nersc")
    made.settle()
    (command,) = made.store.commands(run)
    assert command.outcome == "not possible: it only moves data, and is at no site"
    assert made.finish(run) == "SUCCEEDED"


def test_what_happened_to_a_copy_is_told_in_its_own_words() -> None:
    made = lab()
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:raw/x")]))
    made.finish(run)
    told = [sentence(event) for event in made.store.events(run) if event.stage == "c"]
    assert told[0] == "begins to copy to cfs:raw/x (first)"
    assert told[-1] == "done: copied to cfs:raw/x"
    (decision,) = decisions(made, run, "c")
    assert (decision.kind, decision.outcome) == ("placement", "copy")
    assert decision.reasons[0].fact == "it only moves data, to cfs:raw/x: no site is asked"


# -- what is kept ----------------------------------------------------------------------------------------------


def test_what_is_to_be_removed_is_written_down_with_the_success() -> None:
    made = lab()
    keep = [{"side": "spot:", "path": "raw/x", "after": 100.0, "entry": 0, **SAME}]
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:raw/x")], keep=keep))
    slow(made, 50)
    made.settle()
    assert made.store.retention() == []
    assert made.finish(run) == "SUCCEEDED"
    (row,) = made.store.retention()
    assert (row.run_id, row.side, row.path, row.state, row.files) == (run, "spot:", "raw/x", "waiting", "")
    assert row.due_at == made.stage(run, "c").ended_at + micros(100)
    assert json.loads(row.unless) == SAME


def test_of_a_delivery_the_files_in_the_attempts_directory_are_known_by_their_digests() -> None:
    made = lab()
    keep = [
        {"side": "", "path": "rec/", "after": 9.0, "entry": 0, "all": [], "any": [["cfs:", "r/"]]},
        {"side": "cfs:", "path": "r/", "after": 8.0, "entry": 0, "all": [], "any": [["", "rec/"]]},
    ]
    run = made.submit(
        Stage("make", "seconds=5 outputs=rec/a:10", outputs=["rec/"]),
        Stage("make/deliver", copies=[("make/rec/", "cfs:r/")], keep=keep),
    )
    assert made.finish(run) == "SUCCEEDED"
    product = made.store.products_of(run, ["make"])["make"]
    own, there = sorted(made.store.retention(), key=lambda row: row.side != "nersc")
    assert (own.side, own.path) == ("nersc", f"{product.path}/rec/")
    (_, size, digest), *_ = json.loads(product.manifest)["files"]
    assert json.loads(own.files) == [["a", size, digest]]
    assert json.loads(there.unless)["any"] == [["nersc", f"{product.path}/rec/"]]


def test_the_same_files_named_twice_are_removed_only_when_both_allow_it() -> None:
    made = lab()
    keep = [
        {"side": "spot:", "path": "raw/x", "after": 5.0, "entry": 0, "all": [["cfs:", "x"]], "any": [["cfs:", "x"]]},
        {"side": "spot:", "path": "raw/x", "after": 9.0, "entry": 1, "all": [["data:", "x"]], "any": [["data:", "x"]]},
    ]
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x"), ("spot:raw/x", "data:x")], keep=keep))
    assert made.finish(run) == "SUCCEEDED"
    (row,) = made.store.retention()
    assert json.loads(row.unless)["all"] == [["cfs:", "x"], ["data:", "x"]]
    assert row.due_at == made.stage(run, "c").ended_at + micros(9)


# -- inputs from places ------------------------------------------------------------------------------------------


def test_an_input_from_a_place_is_brought_before_the_stage_starts() -> None:
    made = lab()
    run = made.submit(Stage("a", "seconds=5", places=[("raw.h5", ["spot:raw/x", "cfs:raw/x"])]))
    assert made.finish(run) == "SUCCEEDED"
    (attempt,) = made.attempts(run, "a")
    assert made.sites["nersc"].read(f"{attempt.directory}/raw.h5") == b"raw"


def test_an_input_that_is_waited_for_may_come_later_and_costs_no_try() -> None:
    made = lab()
    run = made.submit(Stage("a", "seconds=5", places=[("raw.h5", ["spot:late"])], wait=240.0))
    made.run_for(120)
    assert made.attempts(run, "a")[0].state == "STAGING_IN"
    made.put("spot:late", b"here")
    assert made.finish(run) == "SUCCEEDED"
    assert len(made.attempts(run, "a")) == 1


def test_an_input_that_never_comes_fails_by_staging_when_the_wait_is_over() -> None:
    made = lab()
    wanted = {"retry": {"site_fault": 0}}
    run = made.submit(Stage("a", "seconds=5", places=[("raw.h5", ["spot:late"])], wait=240.0, rules=wanted))
    made.run_for(200)
    assert made.state(run) == "RUNNING"
    assert made.finish(run) == "FAILED"
    assert made.attempts(run, "a")[0].failure == "staging"


# -- where data may be, and what it is near ------------------------------------------------------------------------


def test_a_stage_is_placed_near_the_files_that_it_names_against_the_preference_of_its_run() -> None:
    made = lab(site("alcf"), site("nersc"))
    liked = {"sites": {"prefer": ["nersc"]}}
    run = made.submit(
        Stage("recon", "seconds=5 outputs=o:1", outputs=["o"], rules={"sites": {"prefer": ["alcf"]}}),
        Stage("near", "seconds=5", inputs=[("o", "recon")], rules={**liked, "near": 0}),
        Stage("far", "seconds=5", inputs=[("o", "recon")], rules=liked),
    )
    assert made.finish(run) == "SUCCEEDED"
    assert [made.attempts(run, p)[0].site for p in ("recon", "near", "far")] == ["alcf", "alcf", "nersc"]
    (decision,) = [d for d in decisions(made, run, "near") if d.kind == "placement"]
    assert "the files that it is to be near are at alcf" in [reason.fact for reason in decision.reasons]


def test_a_stage_goes_elsewhere_when_the_site_that_it_is_near_to_is_full() -> None:
    made = lab(site("alcf", slots=1), site("nersc"))
    run = made.submit(
        Stage("recon", "seconds=5 outputs=o:1", outputs=["o"], rules={"sites": {"allow": ["alcf"]}}),
        Stage("busy", "seconds=500", needs=["recon"], rules={"sites": {"allow": ["alcf"]}}),
        Stage("near", "seconds=5", inputs=[("o", "recon")], rules={"near": 0}),
    )
    made.run_for(60)
    assert made.attempts(run, "near")[0].site == "nersc"


EXPORT = {"data": {"export_control": True, "stay": []}}


def test_data_under_export_control_is_placed_only_where_there_is_clearance() -> None:
    made = lab(site("alcf"), site("nersc", clearance=frozenset({"export_control"})))
    run = made.submit(Stage("a", "seconds=5", rules={**EXPORT, "sites": {"prefer": ["alcf"]}}))
    assert made.finish(run) == "SUCCEEDED"
    assert made.attempts(run, "a")[0].site == "nersc"
    (decision,) = [d for d in decisions(made, run, "a") if d.kind == "placement"]
    assert ("data.export_control", "alcf") in [(r.rule, r.site) for r in decision.reasons]


def test_an_operator_cannot_move_a_stage_to_where_its_data_may_not_be() -> None:
    made = lab(site("alcf"), site("nersc"))
    run = made.submit(Stage("a", "seconds=50", rules={"data": {"export_control": False, "stay": ["nersc"]}}))
    made.settle()
    made.command(run, "move", "a", to="alcf")
    made.settle()
    (command,) = made.store.commands(run)
    assert command.outcome == (
        "not possible: data.stay: the data stays at nersc, and alcf is none of them; "
        f"what helps: crossfade waiver ask {run} --site alcf --rule stay --reason ..."
    )
    assert made.finish(run) == "SUCCEEDED"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (EXPORT, "data.export_control: the data is under export control, and cfs has no clearance for it"),
        ({"data": {"export_control": False, "stay": ["data"]}}, "data.stay: the data stays at data, and cfs is none"),
    ],
)
def test_a_copy_to_where_data_may_not_be_waits_for_a_person(rule: dict, words: str) -> None:
    made = lab()
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x")], rules=rule))
    made.run_for(60)
    stage = made.stage(run, "c")
    assert stage.state == "AWAITING_DECISION"
    assert stage.reason.startswith(f"it may bring nothing there: {words}")
    assert f"crossfade waiver ask {run} --site cfs --rule" in stage.reason
    assert made.attempts(run, "c") == []


def test_a_copy_is_refused_when_its_place_has_lost_its_clearance_since() -> None:
    made = lab()
    made.put("spot:raw/x")
    cleared = replace(made.places["cfs"], clearance=frozenset({"export_control"}))
    made.broker.world = made.broker._drainer._world = replace(made.broker.world, places={**made.places, "cfs": cleared})
    run = made.submit(Stage("c", copies=[("spot:raw/x", "cfs:x")], rules=EXPORT))
    assert made.finish(run) == "FAILED"
    assert "data.export_control: the data is under export control" in made.attempts(run, "c")[0].reason
    assert made.lies("cfs:x") is None


def test_a_checkpoint_is_never_shipped_to_where_its_data_may_not_be() -> None:
    cleared = {"clearance": frozenset({"export_control"})}
    made = lab(site("alcf", **cleared), site("nersc"), site("olcf", **cleared))
    wanted = {**EXPORT, "checkpoint": CHECKPOINT, "sites": {"prefer": ["alcf", "nersc", "olcf"]}}
    run = made.submit(Stage("a", "seconds=200 checkpoint_every=20", rules=wanted))
    assert made.finish(run) == "SUCCEEDED"
    shipped = {row.site for row in made.store.checkpoints(run) if row.site != "alcf"}
    assert shipped == {"olcf"}
    assert not [path for path, _ in made.sites["nersc"].model.disk.files_below("checkpoints")]


def test_a_checkpoint_is_held_back_when_a_site_has_lost_its_clearance_since() -> None:
    cleared = {"clearance": frozenset({"export_control"})}
    made = lab(site("alcf", **cleared), site("olcf", **cleared))
    residency = made.broker.hands._rooms["ship"].__self__._moving._residency  # type: ignore[attr-defined]
    residency._sites = {**residency._sites, "olcf": replace(residency._sites["olcf"], clearance=frozenset())}
    wanted = {**EXPORT, "checkpoint": CHECKPOINT, "sites": {"prefer": ["alcf"]}}
    run = made.submit(Stage("a", "seconds=200 checkpoint_every=20", rules=wanted))
    assert made.finish(run) == "SUCCEEDED"
    assert {row.site for row in made.store.checkpoints(run)} == {"alcf"}
    outcomes = [effect.outcome for effect in made.store.effects(run) if effect.kind == "ship"]
    assert outcomes
    assert all("data.export_control" in outcome for outcome in outcomes)
