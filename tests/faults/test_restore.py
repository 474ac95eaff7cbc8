"""A backup is restored: what the lost hours did has happened all the same, and is not done again."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from postgres_kit import Server
from restore_kit import assert_clean, back_up, begun, go_back, kinds, lab, put_back

from broker.audit import Checked, check_all
from broker.clock import micros
from broker.engine import decide
from broker.ids import submit_key
from broker.store.base import NewEvent
from broker.store.sql import SqlStore
from connectors.model import JobState
from sandbox.faults import AccountingPurged, CredentialExpired, IncompleteListing, NodeFailure, Partition

pytestmark = pytest.mark.fault("F46")

CHAIN = (
    Stage("a", "seconds=30 outputs=x:10", outputs=["x"]),
    Stage("b", "seconds=30 outputs=y:10", inputs=[("x", "a")], outputs=["y"]),
)


def quarantined(made: Lab) -> list[str]:
    return [row.site for row in made.store.sites() if row.quarantined]


def lose_hours(made: Lab, folder: Path, *stages: Stage, after: float = 20.0, lost: float = 0.0) -> tuple[str, Path]:
    """Submit, go on for a while, back up, and go on: for `lost` seconds, or to the end."""
    run = made.submit(*stages)
    made.run_for(after)
    file = back_up(made, folder)
    if lost:
        made.run_for(lost)
    else:
        assert made.finish(run) == "SUCCEEDED"
    return run, file


def test_what_ended_in_the_lost_hours_is_found_and_not_run_again(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        run, file = lose_hours(made, tmp_path, *CHAIN)
        before = begun(made)
        go_back(made, file)
        assert made.state(run) == "RUNNING"
        assert made.finish(run) == "SUCCEEDED"
        assert begun(made) == before
        assert set(before.values()) == {1}
        assert_clean(made, run)


def test_a_job_that_was_started_in_the_lost_hours_and_still_runs_is_taken_up(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        run, file = lose_hours(made, tmp_path, *CHAIN, lost=25)
        (lost,) = made.attempts(run, "b")
        go_back(made, file)
        assert made.attempts(run, "b") == []
        assert made.finish(run) == "SUCCEEDED"
        (found,) = made.attempts(run, "b")
        assert (found.submit_key, found.directory, found.native_id) == (
            lost.submit_key,
            lost.directory,
            lost.native_id,
        )
        assert set(begun(made).values()) == {1}
        assert [row.outcome for row in made.store.strays()] == ["taken up"]
        assert_clean(made, run)


def test_further_attempts_of_the_lost_hours_are_taken_up_where_they_are(tmp_path: Path) -> None:
    dark = Partition(start=Lab().clock() + micros(25), end=Lab().clock() + micros(900))
    rules = {"failover": {"after": 60.0}, "sites": {"prefer": ["nersc"]}}
    with lab(tmp_path, site("nersc", poll=5.0), site("alcf")) as made:
        made.sites["nersc"].model.inject(dark)
        run, file = lose_hours(made, tmp_path, Stage("a", "seconds=400", rules=rules), lost=180)
        assert [row.site for row in made.attempts(run, "a")] == ["nersc", "alcf"]
        go_back(made, file)
        assert made.finish(run) == "SUCCEEDED"
        assert len(begun(made)) == 2
        assert set(begun(made).values()) == {1}
        assert_clean(made, run)


def wanted(made: Lab, **said: Any) -> str:
    """A run whose only submission was decided, and has not been performed (or what else is said of its effect)."""
    run = made.submit(Stage("a", "seconds=300"))
    lease = made.store.acquire(run, owner="w", ttl=60.0)
    assert lease is not None
    with made.store.deciding(lease, ttl=60.0) as tx:
        seen = tx.snapshot(now=made.clock(), limit=10, room=lambda _: 4)
        nobody = dataclasses.replace(made.broker.world, claimant="")
        changes = decide(nobody, seen, now=made.clock(), checkpoints={})
        changes.effects[:] = [effect._replace(**said) for effect in changes.effects]
        tx.apply(changes, now=made.clock())
    made.store.release(lease, due_at=made.clock())
    return run


def accepted(made: Lab) -> int:
    return sum(len(each.model.journal.accepted) for each in made.sites.values())


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_submission_that_the_backup_still_wants_is_looked_up_before_it_is_sent(tmp_path: Path, by_hand: bool) -> None:
    with lab(tmp_path, site("nersc", adopts=False)) as made:
        run = wanted(made)
        file = back_up(made, tmp_path)
        made.run_for(20)
        assert accepted(made) == 1
        go_back(made, file)
        if by_hand:
            made.store.lift_quarantine("nersc", NewEvent(kind="released", actor="ann"), now=made.clock())
        assert made.finish(run) == "SUCCEEDED"
        assert accepted(made) == 1
        assert_clean(made, run)


def test_what_was_certain_of_a_submission_is_in_doubt_after_the_lost_hours(tmp_path: Path) -> None:
    """The site had been busy, so nothing had happened. Then it did, and no listing shows it for a while."""
    with lab(tmp_path, site("nersc", adopts=False, settle=30.0, listing_lag=20.0)) as made:
        run = wanted(made, tries=1, note='{"clean":true,"last":"busy","try":1}')
        file = back_up(made, tmp_path)
        made.settle()
        assert accepted(made) == 1
        go_back(made, file)
        made.store.lift_quarantine("nersc", NewEvent(kind="released", actor="ann"), now=made.clock())
        assert made.finish(run) == "SUCCEEDED"
        assert accepted(made) == 1
        assert_clean(made, run)


def test_a_submission_that_was_decided_before_waits_for_the_end_of_the_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab(tmp_path, site("nersc")) as made:
        wanted(made)
        file = back_up(made, tmp_path)
        made.submit(Stage("lost", "seconds=4000"))
        made.run_for(20)
        (mine, lost) = made.sites["nersc"].model.journal.accepted
        made.sites["nersc"].model.cancel([mine.key], made.clock())
        made.sites["nersc"].model.inject(AccountingPurged(start=made.clock()))
        go_back(made, file)
        dying = dict.fromkeys([lost.key], False)
        with monkeypatch.context() as patched:
            patched.setattr(made.sites["nersc"], "cancel", lambda _: dying)
            made.run_for(300)
            assert (quarantined(made), accepted(made)) == (["nersc"], 2)
        made.run_for(60)
        assert (quarantined(made), accepted(made)) == ([], 3)


def test_a_record_that_only_the_gate_knows_of_still_ends_the_stage(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        run, file = lose_hours(made, tmp_path, Stage("a", "seconds=30 outputs=x:1", outputs=["x"]))
        made.sites["nersc"].model.inject(AccountingPurged(start=made.clock()))
        go_back(made, file)
        assert made.finish(run) == "SUCCEEDED"
        assert list(begun(made).values()) == [1]
        assert_clean(made, run)


@pytest.mark.parametrize("lost_stage", ["a", "b"])
def test_checkpoints_of_the_lost_hours_are_not_lost(tmp_path: Path, lost_stage: str) -> None:
    """Of an attempt that the backup knows (a), and of one that it does not (b)."""
    saves = {"checkpoint": CHECKPOINT}
    stages = {
        "a": Stage("a", "seconds=4000 checkpoint_every=100", rules=saves),
        "b": Stage("b", "seconds=4000 checkpoint_every=100", needs=["a"], rules=saves),
    }
    first = stages["a"] if lost_stage == "a" else Stage("a", "seconds=10")
    with lab(tmp_path, site("nersc")) as made:
        run, file = lose_hours(made, tmp_path, first, stages["b"], after=5, lost=1050)
        go_back(made, file)
        made.run_for(20)  # the next one is not written yet
        made.sites["nersc"].model.inject(NodeFailure(start=made.clock(), count=1, requeue=False))
        assert made.finish(run) == "SUCCEEDED"
        _, again = made.attempts(run, lost_stage)
        assert json.loads(again.restore)["seq"] == 10
        assert_clean(made, run)


@pytest.mark.parametrize("seed", range(12))
def test_whenever_the_backup_is_taken_and_restored_every_payload_begins_once(tmp_path: Path, seed: int) -> None:
    """Two sites, a diamond with a tail, moments drawn from the seed; every third restore is done twice."""
    dice = random.Random(seed)
    stages = (
        Stage("a", f"seconds={dice.randint(5, 60)} outputs=x:9", outputs=["x"]),
        *(
            Stage(f"b{n}", f"seconds={dice.randint(5, 90)} outputs=x:9", inputs=[("x", "a")], outputs=["x"])
            for n in "123"
        ),
        Stage("c", f"seconds={dice.randint(5, 60)}", needs=["b1", "b2", "b3"]),
        Stage("d", f"seconds={dice.randint(5, 60)}", needs=["c"]),
    )
    with lab(tmp_path, site("nersc", slots=2), site("alcf", slots=2, settle=7.0)) as made:
        run, file = lose_hours(made, tmp_path, *stages, after=dice.randint(0, 150), lost=dice.randint(1, 150))
        for _ in range(2 if seed % 3 == 0 else 1):
            go_back(made, file)
            made.run_for(dice.randint(0, 60))
        assert made.finish(run) == "SUCCEEDED"
        assert list(begun(made).values()) == [1] * len(stages)
        assert_clean(made, run)
        assert {row.outcome for row in made.store.strays()} <= {"taken up"}


def test_an_installation_moves_to_a_server_while_its_jobs_run(tmp_path: Path, postgres: Server) -> None:
    with lab(tmp_path, site("nersc"), site("alcf")) as made:
        run, file = lose_hours(made, tmp_path, *CHAIN, lost=25)
        made.store.close()
        made.store = SqlStore(postgres.url(postgres.empty()), clock=made.clock)
        go_back(made, file)
        assert made.finish(run) == "SUCCEEDED"
        assert set(begun(made).values()) == {1}
        assert_clean(made, run)
        assert list(check_all(made.store, Checked())) == []


# -- jobs that nobody knows any more -------------------------------------------------------------------------------


def test_jobs_of_runs_that_the_backup_does_not_know_are_ended_before_anything_starts(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc", cancel_grace=60.0)) as made:
        file = back_up(made, tmp_path)
        made.submit(Stage("lost", "seconds=4000 deaf=yes"))  # takes its time to die
        made.run_for(20)
        go_back(made, file)
        run = made.submit(Stage("new", "seconds=10"))
        assert made.finish(run) == "SUCCEEDED"
        (lost,) = made.store.strays()
        assert (lost.fate, lost.outcome) == ("cancel", "canceled, surely dead")
        old, new = made.sites["nersc"].model.journal.executions
        assert (old.how, new.how) == ("stopped", "done")
        assert old.ended_at is not None
        assert old.ended_at <= new.started_at
        told = [json.loads(e.data) for e in made.store.events("site:nersc") if e.kind == "stray"]
        assert [(one["key"], one["fate"]) for one in told] == [(lost.key, "cancel")]


def test_they_are_left_alone_where_the_restore_was_told_so(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        file = back_up(made, tmp_path)
        made.submit(Stage("lost", "seconds=400"))
        made.run_for(20)
        go_back(made, file, keep_strays=True)
        made.run_for(30)
        assert quarantined(made) == []
        assert [(row.fate, row.outcome) for row in made.store.strays()] == [("keep", "left to a person")]
        assert [e.how for e in made.executions()] == [""]


def test_a_job_with_a_name_of_another_kind_is_none_of_ours(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        made.submit(Stage("a", "seconds=600"))
        file = back_up(made, tmp_path)
        made.run_for(10)
        spec = made.sites["nersc"].model.journal.executions[0].job.spec
        made.sites["nersc"].submit([dataclasses.replace(spec, key="weather2026", directory="other")])
        go_back(made, file)
        made.run_for(60)
        (status,) = made.sites["nersc"].find(["weather2026"]).items
        assert status.state is JobState.RUNNING
        assert "weather2026" not in {row.key for row in made.store.strays()}


def test_a_copy_that_its_stage_no_longer_needs_is_reaped(tmp_path: Path) -> None:
    """The first attempt comes to a good end after all; the second one of the lost hours must not run on for nobody."""
    start = Lab().clock()
    dark = Partition(start=start + micros(25), end=start + micros(230))
    rules = {"failover": {"after": 60.0}, "sites": {"prefer": ["nersc"]}}
    with lab(tmp_path, site("nersc"), site("alcf")) as made:
        made.sites["nersc"].model.inject(dark)
        run, file = lose_hours(made, tmp_path, Stage("a", "seconds=200", rules=rules), lost=140)
        assert [row.site for row in made.attempts(run, "a")] == ["nersc", "alcf"]
        made.clock.advance(80)  # nersc answers again, and its job has ended well
        go_back(made, file)
        assert made.finish(run) == "SUCCEEDED"
        made.run_for(60)
        assert [row.site for row in made.attempts(run, "a")] == ["nersc"]
        assert [row.outcome for row in made.store.strays()] == ["canceled, surely dead"]
        assert [e.how for e in made.sites["alcf"].model.journal.executions] == ["canceled"]
        assert_clean(made, run)


# -- quarantine ----------------------------------------------------------------------------------------------------


def test_nothing_is_submitted_before_every_site_has_listed_its_jobs(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc"), site("alcf")) as made:
        file = back_up(made, tmp_path)
        go_back(made, file)
        run = made.submit(Stage("a", "seconds=5"))
        made.settle()
        assert quarantined(made) == ["alcf", "nersc"]
        assert made.attempts(run, "a") == []
        assert "hours that the restored backup does not know" in made.stage(run, "a").reason
        made.broker.look("nersc")
        made.settle()
        assert made.attempts(run, "a") == []
        assert made.finish(run) == "SUCCEEDED"
        assert quarantined(made) == []
        for name in ("nersc", "alcf"):
            assert kinds(made, f"site:{name}") == ["quarantined", "reconciled"]


def test_a_listing_that_is_not_complete_ends_no_quarantine(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        file = back_up(made, tmp_path)
        made.sites["nersc"].model.inject(IncompleteListing(start=made.clock(), end=made.clock() + micros(120)))
        go_back(made, file)
        made.run_for(100)
        assert quarantined(made) == ["nersc"]
        made.run_for(60)
        assert quarantined(made) == []


def test_one_listing_is_not_enough_where_listings_lag(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc", settle=30.0, listing_lag=20.0)) as made:
        file = back_up(made, tmp_path)
        made.submit(Stage("lost", "seconds=4000"))
        made.run_for(10)  # accepted, and not yet to be seen in any listing
        go_back(made, file)
        made.step(1)
        assert made.store.strays() == []
        assert quarantined(made) == ["nersc"]
        made.run_for(120)
        assert quarantined(made) == []
        assert [e.how for e in made.executions()] == ["canceled"]


def test_a_dark_site_stays_in_quarantine_and_others_go_on_where_copies_may_overlap(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc"), site("alcf")) as made:
        file = back_up(made, tmp_path)
        made.sites["nersc"].model.inject(Partition(start=made.clock()))
        go_back(made, file)
        free = made.submit(Stage("a", "seconds=5"))
        never = made.submit(Stage("a", "seconds=5", rules={"duplicates": "never"}))
        made.run_for(600)
        assert quarantined(made) == ["nersc"]
        assert made.state(free) == "SUCCEEDED"
        assert made.attempts(never, "a") == []
        assert made.state(never) == "WAITING"


def test_a_site_that_asks_who_we_are_stays_in_quarantine_until_it_knows(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        file = back_up(made, tmp_path)
        made.sites["nersc"].model.inject(CredentialExpired(start=made.clock(), end=made.clock() + micros(200)))
        go_back(made, file)
        run = made.submit(Stage("a", "seconds=5"))
        made.run_for(150)
        assert (quarantined(made), made.attempts(run, "a")) == (["nersc"], [])
        assert made.finish(run) == "SUCCEEDED"


def test_an_operator_may_end_a_quarantine_and_is_told_of(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        file = back_up(made, tmp_path)
        made.sites["nersc"].model.inject(IncompleteListing(start=made.clock()))
        go_back(made, file)
        run = made.submit(Stage("a", "seconds=5"))
        made.run_for(60)
        assert made.attempts(run, "a") == []
        told = NewEvent(kind="released", actor="ann", data='{"reason":"nothing ran there"}')
        assert made.store.lift_quarantine("nersc", told, now=made.clock())
        made.run_for(30)
        assert [row.site for row in made.attempts(run, "a")] == ["nersc"]
        assert kinds(made, "site:nersc") == ["quarantined", "released"]


def test_a_site_that_was_added_in_the_lost_hours_is_in_quarantine_too(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        file = back_up(made, tmp_path)
        go_back(made, file)
        made.store.ensure_sites(["alcf"])
        assert quarantined(made) == ["alcf", "nersc"]


# -- what the restore itself writes --------------------------------------------------------------------------------


def test_the_incarnation_grows_and_new_attempts_have_new_keys_and_folders(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        run, file = lose_hours(made, tmp_path, *CHAIN, after=5, lost=1)
        restored = go_back(made, file)
        assert (restored.old_incarnation, restored.incarnation) == (0, 1)
        assert made.finish(run) == "SUCCEEDED"
        home, (old,), (new,) = made.store.installation(), made.attempts(run, "a"), made.attempts(run, "b")
        assert old.submit_key == submit_key(home.id, 0, run, "a", 1, "d-a")
        assert new.submit_key == submit_key(home.id, 1, run, "b", 1, "d-b")
        assert (old.directory, new.directory) == (f"runs/{run}/a/a1", f"runs/{run}/b/a1-1")


def test_restored_twice_from_one_backup_the_keys_still_differ(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        run, file = lose_hours(made, tmp_path, *CHAIN)
        before = begun(made)
        assert [go_back(made, file).incarnation for _ in range(3)] == [1, 2, 3]
        assert made.finish(run) == "SUCCEEDED"
        assert begun(made) == before
        assert_clean(made, run)


def test_leases_claims_and_heartbeats_of_the_past_hold_nobody_up(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        run = made.submit(Stage("a", "seconds=5"))
        made.store.acquire(run, owner="gone", ttl=1e9)
        file = back_up(made, tmp_path)
        go_back(made, file)
        row = made.store.run(run)
        assert row is not None
        assert (row.lease_owner, row.lease_until, row.due_at) == (None, None, made.clock())
        assert made.store.workers() == []
        assert made.finish(run) == "SUCCEEDED"


def test_the_restore_is_told_where_operators_look(tmp_path: Path) -> None:
    with lab(tmp_path, site("nersc")) as made:
        _, file = lose_hours(made, tmp_path, *CHAIN)
        restored = put_back(file, made.store, clock=made.clock)
        (told,) = made.store.events("operators")
        data = json.loads(told.data)
        assert (told.kind, told.actor, data["file"]) == ("restored", "ann", restored.digest)
        assert (data["from"], data["to"], data["strays"]) == (0, 1, "cancel")
