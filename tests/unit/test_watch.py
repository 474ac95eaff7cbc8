"""Looking at a site: few calls however many jobs, nothing believed that is torn or foreign, silence told once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from broker_kit import Lab, Stage, site
from effects_kit import wired
from simulation.seams import Seam

from broker.clock import micros
from broker.store.base import AttemptRow, AttemptSeen, Sightings
from broker.watch import GATED_EXIT, LOG_BYTES, SPOOL, Watcher
from connectors.errors import SiteUnreachable
from connectors.harness import ExitRecord, StartRecord, format_record, spool_name
from connectors.model import JobState, JobStatus, Listing
from sandbox.faults import AccountingPurged, DisksGone, NodeFailure, Partition


class Told(Seam):
    """The simulated site, but its status call says what the test says."""

    def __init__(self, behind: Any, *items: JobStatus, complete: bool = True) -> None:
        self._site = behind
        self.items, self.complete = list(items), complete

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)

    def status(self, _: Sequence[str]) -> Listing:
        return Listing(items=self.items, complete=self.complete, as_of=0)


def running(lab: Lab, **stage: Any) -> AttemptRow:
    """One attempt whose job is under way, its start recorded."""
    run = lab.submit(Stage("a", "seconds=5000", **stage))
    lab.run_for(11, step=5)
    (attempt,) = lab.attempts(run, "a")
    assert attempt.state == "RUNNING"
    return attempt


def told(lab: Lab, row: AttemptRow, *items: JobStatus, complete: bool = True) -> dict[str, Any]:
    """The facts that one look finds when the site says this."""
    sites = {"nersc": Told(lab.sites["nersc"], *items, complete=complete)}
    watcher = Watcher(store=lab.store, setups=lab.broker.world.sites, sites=sites, clock=lab.clock)
    looked = watcher.look("nersc")
    found: dict[str, Any] = {}
    for seen in looked.sightings.attempts:
        assert (seen.run_id, seen.n, seen.number) == (row.run_id, row.n, row.number)
        found |= seen.facts
    return found


def watcher(lab: Lab) -> Watcher:
    return Watcher(store=lab.store, setups=lab.broker.world.sites, sites=lab.sites, clock=lab.clock)


def status(row: AttemptRow, state: JobState, **more: Any) -> JobStatus:
    return JobStatus(**{"key": row.submit_key, "native_id": row.native_id, "state": state, **more})


def exit_of(
    key: str,
    *,
    generation: int = 1,
    kind: str = "done",
    missing: tuple[str, ...] = (),
    wrong_size: tuple[tuple[str, int], ...] = (),
) -> bytes:
    return format_record(
        ExitRecord(
            key=key, generation=generation, kind=kind, exit_code=0, signal=None, started_at=1, ended_at=2,
            outputs_count=0, outputs_digest="", missing=missing, wrong_size=wrong_size,
        )
    )  # fmt: skip


def spool(lab: Lab, name: str, data: bytes) -> str:
    lab.sites["nersc"].write(f"{SPOOL}/{name}", data)
    return f"{SPOOL}/{name}"


def spooled(lab: Lab) -> list[str]:
    return [info.path for info in lab.sites["nersc"].list(SPOOL)]


# -- how many calls ----------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 60])
def test_one_look_makes_as_many_calls_for_sixty_jobs_as_for_one(jobs: int) -> None:
    lab, wire = wired(site("nersc", slots=100))
    lab.submit(*[Stage(f"s{n}", "seconds=5000") for n in range(jobs)])
    lab.run_for(11, step=5)
    lab.clock.advance(2)  # between two looks at the logs
    wire.calls.clear()
    lab.broker.look("nersc")
    assert wire.verbs() == ["status", "list"]


def test_what_is_new_in_the_spool_costs_one_read_and_one_removal_together() -> None:
    lab, wire = wired(site("nersc", slots=100))
    lab.submit(*[Stage(f"s{n}", "seconds=5000") for n in range(60)])
    lab.settle()
    wire.calls.clear()
    lab.broker.look("nersc")
    assert wire.verbs() == ["status", "list", "read_many", "remove"]
    assert spooled(lab) == []


@pytest.mark.parametrize("jobs", [1, 30])
def test_the_logs_of_thirty_jobs_are_brought_by_one_call_like_those_of_one(jobs: int) -> None:
    lab, wire = wired(site("nersc", slots=100))
    run = lab.submit(*[Stage(f"s{n}", "seconds=5000") for n in range(jobs)])
    lab.run_for(11, step=5)
    for row in lab.store.attempts(run):
        lab.sites["nersc"].write(f"{row.directory}/.crossfade/g1/stdout", row.submit_key.encode())
    lab.clock.advance(10)
    wire.calls.clear()
    lab.broker.look("nersc")
    assert wire.verbs() == ["status", "list", "read_many"]
    lab.settle()
    tails = [tail.tail for row in lab.store.attempts(run) for tail in lab.store.log_tails(run, row.n, row.number)]
    assert sorted(tails) == sorted(row.submit_key.encode() for row in lab.store.attempts(run))


def test_the_spool_is_read_after_the_status_call() -> None:
    """A job that is shown as ended has written its record before: read the other way round, it could be missed."""
    lab, wire = wired(site("nersc"))
    run = lab.submit(Stage("a", "seconds=5"))
    lab.finish(run)
    order = [v for v in wire.verbs("status", "list", "read_many") if v]
    looks = [order[at : at + 2] for at, verb in enumerate(order) if verb == "status"]
    assert all(look == ["status", "list"] for look in looks)


def test_a_site_where_nothing_is_asked_of_jobs_is_still_asked_whether_it_answers() -> None:
    lab, wire = wired(site("nersc"))
    lab.broker.look("nersc")
    assert wire.verbs() == ["list"]
    assert lab.store.sites()[0].last_ok_at == lab.clock()


def test_a_quiet_site_is_looked_at_ever_more_rarely_and_soon_again_when_something_was_done() -> None:
    lab = Lab(site("nersc", poll=1.0))
    running(lab)
    watcher = lab.broker.watcher
    gaps = []
    for _ in range(14):
        lab.clock.advance_to(watcher.next_look("nersc"))
        watcher.look("nersc")
        gaps.append((watcher.next_look("nersc") - lab.clock()) / 1e6)
    assert max(gaps) <= 8.0  # eight times its poll interval at the most
    assert gaps[-1] > 2.0
    watcher.hasten("nersc")
    assert watcher.next_look("nersc") == lab.clock() + micros(1)


# -- silence and recovery ----------------------------------------------------


def test_silence_is_noted_with_its_beginning_and_every_look_in_vain() -> None:
    lab = Lab(site("nersc"))
    lab.broker.look("nersc")
    lab.clock.advance(5)
    began = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=began, end=began + micros(1000)))
    for probes in (1, 2, 3):
        lab.broker.look("nersc")
        (row,) = lab.store.sites()
        assert (row.cannot_ask_since, row.probes) == (began, probes)
        assert row.detail
        lab.clock.advance(5)
    assert row.last_ok_at == began - micros(5)
    assert [e.kind for e in lab.store.events("site:nersc")] == ["silent"]  # told once
    assert [row.ok for row in lab.store.evidence("nersc")].count(False) == 3


def test_the_stages_there_are_woken_at_the_first_silence_and_when_both_budgets_are_spent() -> None:
    lab = Lab(site("nersc", unreachable_probes=3, unreachable_seconds=30.0))
    lab.broker.look("nersc")
    lab.clock.advance(1)
    lab.sites["nersc"].model.inject(Partition(start=lab.clock(), end=None))
    woken = []
    for _ in range(8):
        woken.append(bool(lab.broker.watcher.look("nersc").sightings.wake_sites))
        lab.store.record(lab.broker.watcher.look("nersc").sightings, now=lab.clock())
        lab.clock.advance(6)
    # at 0 s, and at 30 s, the first look after both budgets (3 looks by then)
    assert woken == [True, False, False, False, False, True, False, False]


def test_a_site_that_answers_again_says_so_and_wakes_what_is_there() -> None:
    lab = Lab(site("nersc"))
    running(lab)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(60)))
    lab.broker.look("nersc")
    lab.clock.advance(60)
    looked = lab.broker.watcher.look("nersc")
    assert looked.sightings.wake_sites == ["nersc"]
    lab.store.record(looked.sightings, now=lab.clock())
    (row,) = lab.store.sites()
    assert (row.cannot_ask_since, row.probes, row.detail, row.last_ok_at) == (None, 0, "", lab.clock())
    events = [(e.kind, json.loads(e.data)) for e in lab.store.events("site:nersc")]
    assert events[-1] == ("answers", {"silent_for": 60.0})


def test_half_a_look_is_no_look() -> None:
    """The status call answered, the spool did not: what the first said is not recorded without the second."""
    lab, wire = wired(site("nersc"))
    running(lab)
    wire.lose_request("list", error=SiteUnreachable("gone"))
    looked = lab.broker.watcher.look("nersc")
    assert looked.sightings.attempts == []
    assert [row.probes for row in looked.sightings.sites] == [1]


def test_records_are_not_removed_before_they_are_recorded() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    path = spool(lab, spool_name(row.submit_key, 1, 9, "exit"), exit_of(row.submit_key))
    looked = lab.broker.watcher.look("nersc")
    assert path in spooled(lab)
    lab.broker.watcher.forget("nersc", looked)
    assert path not in spooled(lab)


# -- the spool ----------------------------------------------------


def test_what_is_not_ours_is_left_alone() -> None:
    lab, wire = wired(site("nersc"))
    running(lab)
    foreign = [
        spool(lab, "README", b"hands off"),
        spool(lab, ".nfs0000001", b""),
        spool(lab, spool_name("cfotherinstalla", 1, 1, "exit"), exit_of("cfotherinstalla")),
    ]
    for _ in range(3):
        lab.step(60)
    assert set(spooled(lab)) == set(foreign)
    wire.calls.clear()
    lab.clock.advance(1)
    lab.broker.look("nersc")
    assert "read_many" not in wire.verbs()  # and is not read again and again


def test_a_record_that_is_no_record_changes_nothing_and_stays_for_whoever_looks_into_it() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    path = spool(lab, spool_name(row.submit_key, 1, 9, "exit"), b"crossfade-exit 1\nkind rubbish\nend\n")
    lab.step(60)
    assert lab.store.open_attempts("nersc")[0].exit == ""
    assert path in spooled(lab)


def test_a_record_under_another_attempts_name_is_not_believed() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    spool(lab, spool_name(row.submit_key, 1, 9, "exit"), exit_of("cfsomebodyelses"))
    lab.step(60)
    assert lab.store.open_attempts("nersc")[0].exit == ""


def test_a_torn_record_is_read_when_it_is_whole() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    whole = exit_of(row.submit_key)
    name = spool_name(row.submit_key, 1, 9, "exit")
    spool(lab, name, whole[:-9])
    lab.step(60)
    assert lab.attempts(row.run_id, "a")[0].state == "RUNNING"
    spool(lab, name, whole)
    lab.step(60)
    assert lab.attempts(row.run_id, "a")[0].state == "SUCCEEDED"


def test_a_record_that_never_became_whole_goes_with_its_attempt() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    torn = spool(lab, spool_name(row.submit_key, 1, 9, "checkpoint"), b"crossfade-checkpoint 1\nkey ")
    lab.step(60)
    assert torn in spooled(lab)
    lab.command(row.run_id, "cancel")
    lab.finish(row.run_id)
    lab.run_for(60)
    assert spooled(lab) == []


def test_records_of_attempts_that_are_over_are_removed() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=5"))
    lab.finish(run)
    (over,) = lab.attempts(run, "a")
    spool(lab, spool_name(over.submit_key, 1, 9, "exit"), exit_of(over.submit_key))
    lab.clock.advance(60)
    lab.broker.look("nersc")
    assert spooled(lab) == []


def test_a_record_with_a_long_list_is_read_whole() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    missing = tuple(f"{'out' * 60}/{n}" for n in range(500))  # some 95 kB
    data = exit_of(row.submit_key, missing=missing)
    assert len(data) > 1 << 16
    spool(lab, spool_name(row.submit_key, 1, 9, "exit"), data)
    lab.step(60)
    assert lab.attempts(row.run_id, "a")[0].failure == "application"


def test_the_newest_generations_records_count_in_whatever_order_they_come() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    start = StartRecord(key=row.submit_key, generation=2, owner="x", host="n1", started_at=77)
    spool(lab, spool_name(row.submit_key, 2, 1, "started"), format_record(start))
    spool(lab, spool_name(row.submit_key, 3, 1, "exit"), exit_of(row.submit_key, generation=3))
    spool(lab, spool_name(row.submit_key, 1, 9, "exit"), exit_of(row.submit_key, generation=1, kind="stopped"))
    found = told(lab, row, status(row, JobState.RUNNING))
    assert json.loads(found["started"])["generation"] == 2
    assert json.loads(found["exit"])["generation"] == 3


# -- what the site says of its jobs ----------------------------------------------------


def test_a_word_that_is_said_again_is_no_news() -> None:
    lab = Lab(site("nersc"))
    running(lab)
    lab.look()
    for _ in range(3):
        lab.clock.advance(1)
        assert lab.broker.watcher.look("nersc").sightings.attempts == []


def test_a_word_that_is_not_known_is_not_kept() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    assert "job" not in told(lab, row, status(row, JobState.UNKNOWN, native_state="FROBNICATED"))


@pytest.mark.parametrize("complete", [True, False])
def test_absence_counts_only_in_a_complete_listing(complete: bool) -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    found = told(lab, row, complete=complete)
    assert ("job" in found) is complete
    if complete:
        assert json.loads(found["job"])["state"] == "lost"


def test_several_jobs_under_one_key_are_followed_to_the_one_that_was_not_turned_away() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    gated = status(row, JobState.FAILED, native_id="9", exit_code=GATED_EXIT, started_at=99)
    ended = status(row, JobState.FAILED, native_id="8", exit_code=1, started_at=50)
    alive = status(row, JobState.RUNNING, native_id="7", started_at=10)
    for items, followed in (
        ([gated, alive], "7"),
        ([alive, gated], "7"),
        ([gated, ended], "8"),
        ([ended, alive, gated], "7"),
        ([gated], "9"),
    ):
        assert told(lab, row, *items)["native_id"] == followed


def test_a_job_that_was_turned_away_is_over_only_when_whoever_holds_its_attempt_has_fallen_silent() -> None:
    """The holder may be an execution that the site's books know nothing of: on a node that was given up, say."""
    lab = Lab(site("nersc", settle=5.0, heartbeat=5, fence=10))
    row = running(lab)
    gated = status(row, JobState.FAILED, exit_code=GATED_EXIT)
    watcher = Watcher(
        store=lab.store,
        setups=lab.broker.world.sites,
        sites={"nersc": Told(lab.sites["nersc"], gated)},
        clock=lab.clock,
    )

    def confirmed_after(seconds: int) -> bool:
        lab.clock.advance(seconds)
        lab.store.record(watcher.look("nersc").sightings, now=lab.clock())
        return bool(json.loads(lab.store.attempts(row.run_id, row.n)[0].job)["confirmed"])

    assert not any(confirmed_after(5) for _ in range(12))
    lab.sites["nersc"].model.inject(NodeFailure(start=lab.clock(), requeue=False))
    assert [confirmed_after(5) for _ in range(3)] == [False, False, True]  # settle and fence after the last beat


def test_a_job_that_was_turned_away_where_nobody_ever_began_is_over_in_time() -> None:
    lab = Lab(site("nersc", settle=5.0, heartbeat=5, fence=10))
    row = running(lab)
    site_ = lab.sites["nersc"]
    site_.model.inject(DisksGone(start=lab.clock(), end=lab.clock() + 1, wiped=True))
    gated = status(row, JobState.FAILED, exit_code=GATED_EXIT)
    lab.clock.advance(1)
    for expected in (False, True):
        facts = told(lab, row, gated)
        assert json.loads(facts["job"])["confirmed"] is expected
        lab.store.record(
            Sightings(attempts=[AttemptSeen(run_id=row.run_id, n=row.n, number=row.number, facts=facts)]),
            now=lab.clock(),
        )
        lab.clock.advance(15)


def test_a_job_that_the_site_has_lost_is_looked_for_in_its_own_exit_record() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    folder = f"{row.directory}/.crossfade"
    lab.sites["nersc"].write(f"{folder}/g1/2.exit", exit_of(row.submit_key, kind="stopped"))
    lab.sites["nersc"].write(f"{folder}/g2/2.exit", exit_of(row.submit_key, generation=2))
    found = told(lab, row)
    assert (json.loads(found["job"])["state"], json.loads(found["exit"])["generation"]) == ("lost", 2)


def test_a_purged_accounting_does_not_turn_success_into_failure() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=30"))
    lab.run_for(11, step=5)
    lab.clock.advance(60)  # it ends unseen
    here = lab.sites["nersc"]
    here.model.inject(AccountingPurged(start=lab.clock()))
    (path,) = spooled(lab)
    # somebody swept the spool; where it was first written, the record lies still
    here.write(f"{lab.attempts(run, 'a')[0].directory}/.crossfade/g1/2.exit", here.read(path))
    here.remove([path])
    assert lab.finish(run) == "SUCCEEDED"
    assert len(lab.attempts(run, "a")) == 1


# -- logs ----------------------------------------------------


def test_the_end_of_a_log_is_kept_and_readable_when_the_site_is_dark() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    text = b"".join(b"line %06d\n" % n for n in range(20_000))  # 240 kB
    lab.sites["nersc"].write(f"{row.directory}/.crossfade/g1/stderr", text)
    lab.run_for(20)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=None))
    lab.run_for(20)
    tails = {tail.name: tail.tail for tail in lab.store.log_tails(row.run_id, row.n, row.number)}
    assert tails["stderr"] == text[-LOG_BYTES:]
    assert LOG_BYTES == 65_536


def test_a_log_that_cannot_be_read_spoils_nothing() -> None:
    lab, wire = wired(site("nersc"))
    row = running(lab)
    wire.lose_request("read_many")
    lab.run_for(10)
    (standing,) = lab.store.sites()
    assert standing.cannot_ask_since is None
    assert lab.attempts(row.run_id, "a")[0].state == "RUNNING"


# -- the catalogue ----------------------------------------------------


@pytest.mark.fault("F48")
def test_copies_that_a_job_did_not_find_where_they_were_brought_are_told() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    absent = exit_of(row.submit_key, kind="input_missing", missing=("in/a",), wrong_size=(("in/b", 3),))
    spool(lab, spool_name(row.submit_key, 1, 9, "exit"), absent)
    copies = [(one.side, one.path, one.state) for one in watcher(lab).look("nersc").sightings.copies]
    assert copies == [("nersc", f"{row.directory}/in/a", "lost"), ("nersc", f"{row.directory}/in/b", "bad")]


def test_outputs_that_are_missing_say_nothing_of_copies() -> None:
    lab = Lab(site("nersc"))
    row = running(lab)
    spool(lab, spool_name(row.submit_key, 1, 9, "exit"), exit_of(row.submit_key, missing=("out/a",)))
    assert watcher(lab).look("nersc").sightings.copies == []
