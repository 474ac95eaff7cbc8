"""Bringing files: inputs and a checkpoint to where a stage starts, checkpoints ahead to where it may go."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from effects_kit import Case, Porter, facts, moving_of, placed

from broker.clock import micros
from broker.effects.carry import Carrier
from broker.effects.moving import DARK_PAUSE
from broker.effects.placed_inputs import PlacedInputs
from broker.jobs import RESTORE, Job, short_name
from broker.store.base import EffectRow
from connectors.model import Refused, TransferState, TransferStatus
from sandbox.faults import Partition

ACTIVE, DONE, UNKNOWN = TransferState.ACTIVE, TransferState.SUCCEEDED, TransferState.UNKNOWN
OWN_FILE = {"path": "in/setup.sh", "sha256": "ab" * 32, "size": 5, "mode": 0o600}
ORIGIN = {"attempt": 1, "generation": 1, "seq": 7, "site": "alcf", "path": "runs/r/a/a1/.crossfade/g1/ckpt/7"}


def failed(fault: str, *, at: str = "", reason: str = "it broke") -> TransferStatus:
    return TransferStatus(key="", state=TransferState.FAILED, reason=reason, fault=fault, site=at)


def case(*, files: int = 0, restore: bool = False) -> Case:
    """An attempt at nersc that needs so many files of its document, and perhaps a checkpoint that lies at alcf."""
    c = placed(Lab(site("nersc")), Stage("a"))
    body = {**json.loads(c.job.stage.body), "files": [OWN_FILE] * files}
    attempt = c.job.attempt._replace(restore=json.dumps(ORIGIN) if restore else "")
    return replace(c, job=Job(stage=c.job.stage._replace(body=json.dumps(body)), attempt=attempt))


def carrier(c: Case, porter: Any) -> Carrier:
    moving = moving_of(c.lab, c.world, porter)
    inputs = PlacedInputs(world=c.world, places={}, clock=c.lab.clock)
    return Carrier(store=c.lab.store, world=c.world, moving=moving, inputs=inputs, clock=c.lab.clock)


def brought(c: Case, porter: Porter, *, tries: int = 1) -> Any:
    return carrier(c, porter).bring(c.lab.sites["nersc"], [(c.effect._replace(tries=tries), c.job)])


# -- what is brought --------------------------------------------------


def test_a_stage_that_needs_nothing_waits_for_nothing() -> None:
    c, porter = case(), Porter(UNKNOWN)
    assert json.loads(str(facts(brought(c, porter))["staged"])) == {"ok": True}
    assert porter.asked == []


def test_files_of_the_document_and_a_checkpoint_are_one_transfer_for_each_side() -> None:
    c, porter = case(files=2, restore=True), Porter(UNKNOWN, DONE)
    brought(c, porter)
    own, restore = porter.asked
    assert [(t.source_site, t.destination_site, len(t.items)) for t in (own, restore)] == [
        ("", "nersc", 2),
        ("alcf", "nersc", 1),
    ]
    directory = c.job.attempt.directory
    assert (own.items[0].destination, own.items[0].sha256) == (f"{directory}/in/setup.sh", "ab" * 32)
    assert (restore.items[0].source, restore.items[0].destination) == (
        f"{ORIGIN['path']}/",
        f"{directory}/{RESTORE}/",
    )
    assert restore.key == f"{c.job.attempt.submit_key}-in-{short_name('alcf')}"


def test_an_input_is_brought_with_the_digest_that_it_was_verified_with() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(
        Stage("make", "seconds=1 outputs=x:3,d/y:4,d/z.log:5", outputs=["x", "d/"]),
        Stage("take", inputs=[("d", "make")]),
    )
    assert lab.finish(run) == "SUCCEEDED"
    (product,) = lab.store.products_of(run, ["make"]).values()
    job = Job(stage=lab.stage(run, "take"), attempt=lab.attempts(run, "take")[0])
    porter = Porter(DONE)
    c = Case(lab, run, lab.broker.world, job, next(e for e in lab.store.effects(run) if e.kind == "stage_in"))
    porter._states = [UNKNOWN, DONE]
    carrier(c, porter).bring(lab.sites["nersc"], [(c.effect._replace(tries=1), job)])
    (transfer,) = porter.asked
    kept = {path: (size, digest) for path, size, digest in json.loads(product.manifest)["files"]}
    assert {(i.source, i.size, i.sha256) for i in transfer.items} == {
        (f"{product.path}/{path}", *kept[path]) for path in ("d/y", "d/z.log")
    }
    assert all(i.destination.startswith(f"{job.attempt.directory}/d/") for i in transfer.items)


def test_an_optional_parent_without_a_product_brings_nothing() -> None:
    c = case()
    body = {**json.loads(c.job.stage.body), "inputs": [{"name": "x", "stage": "gone", "from": "x", "match": None}]}
    job = replace(c.job, stage=c.job.stage._replace(body=json.dumps(body)))
    result = carrier(c, Porter(UNKNOWN)).bring(c.lab.sites["nersc"], [(c.effect, job)])
    assert json.loads(str(facts(result)["staged"])) == {"ok": True}


# -- how it went --------------------------------------------------

WENT = [
    # the transfer's state now -> what is told of the attempt (None: not yet), the pause in seconds
    ("arrived", DONE, {"ok": True}, None),
    ("on its way", ACTIVE, None, 0.1),
    ("forgotten by the mover", UNKNOWN, None, 0.1),
    ("missing", failed("staging", at="alcf"), {"ok": False, "fault": "staging", "site": "alcf"}, None),
    ("corrupt", failed("staging", reason="corrupt: x"), {"ok": False, "reason": "corrupt: x"}, None),
    ("no room", failed("quota", at="nersc"), {"ok": False, "fault": "quota"}, None),
    ("unsafe", failed("application"), {"ok": False, "fault": "application"}, None),
    ("canceled by somebody", failed(""), {"ok": False, "fault": "staging"}, None),
    ("a side is dark", failed("site", at="nersc"), None, DARK_PAUSE),
    ("nobody knows which side", failed("site"), None, DARK_PAUSE),
]


@pytest.mark.parametrize(("_", "state", "told", "pause"), WENT, ids=[row[0] for row in WENT])
def test_what_became_of_the_transfer_decides(
    _: str, state: Any, told: dict[str, object] | None, pause: float | None
) -> None:
    c = case(files=1)
    result = brought(c, Porter(UNKNOWN, state))
    if told is not None:
        assert json.loads(str(facts(result)["staged"])).items() >= told.items()
        assert (len(result.done), result.again) == (1, [])
    else:
        assert (result.done, result.seen) == ([], [])
        assert pause is not None
        assert result.again[0].due_at == c.lab.clock() + micros(pause)


def test_a_source_that_is_gone_is_lost_in_the_catalogue_also_where_it_is_copied_on_the_spot() -> None:
    c, source = case(files=1), f"{OWN_FILE['sha256'][:2]}/{OWN_FILE['sha256']}"
    gone = replace(failed("staging", reason=f"source missing: {source}"), bad_items=(source,))
    brought(c, Porter(UNKNOWN, gone))
    (copy,) = c.lab.store.traffic.replicas([OWN_FILE["sha256"]])[OWN_FILE["sha256"]]
    assert (copy.side, copy.path, copy.state, copy.reason) == ("", source, "lost", f"source missing: {source}")


def test_a_dark_side_is_named_while_it_is_waited_for() -> None:
    result = brought(case(files=1), Porter(UNKNOWN, failed("site", at="nersc", reason="timed out")))
    assert json.loads(result.again[0].note)["last"] == "nersc gives no answer: timed out"


def test_a_checkpoint_whose_source_is_dark_is_given_up_for_another_one() -> None:
    result = brought(case(restore=True), Porter(UNKNOWN, failed("site", at="alcf")))
    assert json.loads(str(facts(result)["staged"]))["fault"] == "staging"


def test_a_checkpoint_whose_destination_is_dark_is_waited_for() -> None:
    result = brought(case(restore=True), Porter(UNKNOWN, failed("site", at="nersc")))
    assert result.seen == []


def test_a_mover_that_refuses_says_whose_fault_it_is() -> None:
    porter = Porter(UNKNOWN, answers={"submit": Refused(reason="a path leaves its root", fault="application")})
    told = json.loads(str(facts(brought(case(files=1), porter))["staged"]))
    assert told == {"ok": False, "reason": "a path leaves its root", "fault": "application", "site": ""}


def test_what_is_under_way_is_not_begun_again() -> None:
    for state in (ACTIVE, DONE):
        porter = Porter(state)
        brought(case(files=1), porter, tries=5)
        assert porter.asked == []


def test_what_had_failed_is_begun_again_at_the_next_try_and_not_before() -> None:
    first, second = Porter(failed("site")), Porter(failed("site"), DONE)
    brought(case(files=1), first, tries=1)
    result = brought(case(files=1), second, tries=2)
    assert (len(first.asked), len(second.asked)) == (0, 1)
    assert json.loads(str(facts(result)["staged"])) == {"ok": True, "from": {"": [1, 5]}}


# -- checkpoints ahead --------------------------------------------------

ASKED = {"generation": 2, "seq": 7, "path": "runs/r/a/a1/.crossfade/g2/ckpt/7", "from": "nersc"}


def shipped(c: Case, porter: Porter) -> Any:
    effect: EffectRow = c.effect._replace(kind="ship", site="alcf", payload=json.dumps(ASKED))
    return carrier(c, porter).ship(c.lab.sites["nersc"], [(effect, c.job)])


def test_a_copy_that_arrived_is_a_verified_checkpoint_there() -> None:
    c = case()
    porter = Porter(UNKNOWN, TransferStatus(key="", state=DONE, bytes_moved=123))
    result = shipped(c, porter)
    (row,) = result.checkpoints
    folder = f"checkpoints/{c.job.attempt.submit_key}/g2/000007"
    assert (row.site, row.state, row.path, row.generation, row.seq) == ("alcf", "verified", folder, 2, 7)
    assert (row.bytes, row.verified_at) == (123, c.lab.clock())
    (transfer,) = porter.asked
    assert (transfer.source_site, transfer.destination_site) == ("nersc", "alcf")
    assert transfer.items[0].source == f"{ASKED['path']}/"
    assert json.loads(result.done[0].outcome)["arrived"] is True


def test_a_copy_that_did_not_arrive_leaves_the_checkpoint_where_it_is() -> None:
    (row,) = shipped(case(), Porter(UNKNOWN, failed("staging", reason="source missing"))).checkpoints
    assert (row.site, row.state, row.path) == ("nersc", "shipped", ASKED["path"])
    assert row.reason == "no copy at alcf: source missing"


def test_a_copy_on_its_way_is_asked_for_again() -> None:
    result = shipped(case(), Porter(ACTIVE))
    assert (result.checkpoints, result.done, len(result.again)) == ([], [], 1)


def test_a_copy_that_waits_for_a_person_says_so() -> None:
    held = TransferStatus(key="", state=TransferState.HELD, reason="log in to alcf", help="crossfade login globus")
    (later,) = shipped(case(), Porter(held)).again
    assert "held: log in to alcf" in later.note


def test_a_copy_that_failed_is_not_begun_again() -> None:
    c, porter = case(), Porter(failed("site", at="alcf"))
    effect = c.effect._replace(kind="ship", site="alcf", payload=json.dumps(ASKED), tries=3)
    result = carrier(c, porter).ship(c.lab.sites["nersc"], [(effect, c.job)])
    assert porter.asked == []
    assert [row.reason[:14] for row in result.checkpoints] == ["no copy at alc"]


def test_two_targets_of_one_checkpoint_are_two_transfers() -> None:
    c = case()
    keys = set()
    for target in ("alcf", "olcf"):
        porter = Porter(UNKNOWN, DONE)
        effect = c.effect._replace(kind="ship", site=target, payload=json.dumps(ASKED))
        carrier(c, porter).ship(c.lab.sites["nersc"], [(effect, c.job)])
        keys |= {t.key for t in porter.asked}
    assert len(keys) == 2


# -- over simulated sites --------------------------------------------------


def test_a_stage_whose_inputs_lie_at_a_dark_site_waits_and_loses_no_try() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(
        Stage("make", "seconds=5 outputs=x:10", outputs=["x"], rules={"sites": {"allow": ["nersc"]}}),
        Stage("take", "seconds=5", inputs=[("x", "make")], rules={"sites": {"allow": ["alcf"]}}),
        Stage("hold", "seconds=40", rules={"sites": {"allow": ["alcf"]}}),
    )
    lab.run_for(7, step=1)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(600), capabilities=("transfer",)))
    assert lab.finish(run, step=2) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "take")
    assert attempt.failure == ""


def test_a_checkpoint_reaches_another_facility_before_its_site_dies() -> None:
    lab = Lab(site("nersc"), site("nersc2", facility="nersc"), site("olcf"))
    run = lab.submit(
        Stage("a", "seconds=500 checkpoint_every=100", rules={"checkpoint": CHECKPOINT, "sites": {"prefer": ["nersc"]}})
    )
    lab.run_for(250)
    copies = {(row.site, row.state) for row in lab.store.checkpoints(run) if row.state in ("verified", "shipped")}
    assert ("olcf", "verified") in copies
    assert not any(name == "nersc2" for name, _ in copies)
