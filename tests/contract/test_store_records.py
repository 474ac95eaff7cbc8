"""Recording what was seen: facts only gain, effects are performed under a claim, and whoever is concerned wakes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from store_kit import (
    RUN,
    apply,
    attempt_row,
    checkpoint_row,
    effect_row,
    new_run,
    quiet,
    run_of,
    stage_of,
    stage_row,
)

from broker.clock import SECOND, VirtualClock
from broker.store.base import (
    AttemptRow,
    AttemptSeen,
    Changes,
    EffectAgain,
    EffectDone,
    EffectRow,
    EvidenceRow,
    LogTail,
    NewEvent,
    Sightings,
)
from broker.store.sql import SqlStore


@pytest.fixture(autouse=True)
def _one_run(store: SqlStore) -> None:
    store.create_run(new_run(stages=[stage_row(0), stage_row(1)], due_at=None))
    apply(store, Changes(new_attempts=[attempt_row(0), attempt_row(1, site="alcf")]))


def see(store: SqlStore, now: int = 100, n: int = 0, **facts: Any) -> AttemptRow:
    store.record(Sightings(attempts=[AttemptSeen(run_id=RUN, n=n, number=1, facts=facts)]), now=now)
    return store.attempts(RUN, n)[0]


def claim(store: SqlStore, name: str = "me", ttl: float = 10, **wanted: Any) -> list[EffectRow]:
    return list(store.claim_effects(claim=name, ttl=ttl, now=store.now(), limit=wanted.pop("limit", 99), **wanted))


# -- attempts ----------------------------------------------------------------------------------------------


def test_facts_are_written_and_wake_their_stage_and_run(store: SqlStore) -> None:
    row = see(store, now=100, native_id="j1", job="{}", seen_at=90)
    assert (row.native_id, row.job, row.seen_at) == ("j1", "{}", 90)
    assert [stage_of(store, n).due_at for n in (0, 1)] == [100, None]
    assert run_of(store).due_at == 100


def test_recording_names_the_runs_that_are_concerned(store: SqlStore) -> None:
    seen = [AttemptSeen(run_id=RUN, n=n, number=1, facts={"native_id": "j"}) for n in (0, 1)]
    assert set(store.record(Sightings(attempts=seen), now=1)) == {RUN}
    assert set(store.record(Sightings(), now=1)) == set()


def test_an_older_look_replaces_nothing_and_fills_what_is_empty(store: SqlStore) -> None:
    see(store, job='"new"', seen_at=90)
    row = see(store, job='"old"', exit='{"code": 0}', seen_at=80)
    assert (row.job, row.exit, row.seen_at) == ('"new"', '{"code": 0}', 90)
    assert see(store, exit='{"code": 1}', seen_at=85).exit == '{"code": 0}'
    assert see(store, exit='{"code": 1}', seen_at=95).exit == '{"code": 1}'


def test_the_same_report_twice_changes_nothing(store: SqlStore) -> None:
    first = see(store, job='"x"', native_id="j1", seen_at=90)
    assert see(store, job='"x"', native_id="j1", seen_at=90) == first


def test_sightings_leave_versions_and_decided_columns_alone(store: SqlStore) -> None:
    before = store.attempts(RUN, 0)[0]
    assert see(store, answer="{}") == before._replace(answer="{}")


def test_a_decided_column_cannot_be_seen(store: SqlStore) -> None:
    with pytest.raises(ValueError, match="state is decided"):
        see(store, state="SUCCEEDED")
    assert store.attempts(RUN, 0)[0].state == "PLANNED"


def test_attempts_seen_with_different_facts_are_all_written(store: SqlStore) -> None:
    seen = [
        AttemptSeen(run_id=RUN, n=0, number=1, facts={"native_id": "a"}),
        AttemptSeen(run_id=RUN, n=1, number=1, facts={"exit": "e", "seen_at": 5}),
        AttemptSeen(run_id=RUN, n=0, number=1, facts={"job": "j", "seen_at": 5}),
        AttemptSeen(run_id="gone", n=0, number=1, facts={"job": "j"}),
    ]
    store.record(Sightings(attempts=seen), now=1)
    first, second = store.attempts(RUN)
    assert (first.native_id, first.job, second.exit) == ("a", "j", "e")


def test_open_attempts_of_a_site_are_those_not_final(store: SqlStore) -> None:
    apply(store, Changes(new_attempts=[attempt_row(0, 2, orphan=1), attempt_row(0, 3, open=0)]))
    assert [(row.n, row.number) for row in store.open_attempts("nersc")] == [(0, 1), (0, 2)]


def test_an_attempt_is_found_by_its_key(store: SqlStore) -> None:
    assert store.attempt_by_key(f"cf-{RUN}-1-1") == store.attempts(RUN, 1)[0]


# -- effects -----------------------------------------------------------------------------------------------


def test_due_effects_are_claimed_oldest_first_and_once(store: SqlStore) -> None:
    rows = [effect_row("late", due_at=5), effect_row("first", due_at=1), effect_row("future", due_at=10**9)]
    apply(store, Changes(effects=rows))
    assert [(row.key, row.tries, row.claim) for row in claim(store)] == [("first", 1, "me"), ("late", 1, "me")]
    assert claim(store, "other") == []


def test_claiming_can_be_for_one_run_or_one_site(store: SqlStore) -> None:
    store.create_run(new_run(run_id="two"))
    apply(store, Changes(effects=[effect_row("a"), effect_row("b", site="alcf")]))
    apply(store, Changes(effects=[effect_row("c", run_id="two")]), run_id="two")
    assert [row.key for row in claim(store, run_id="two")] == ["c"]
    assert [row.key for row in claim(store, site="alcf")] == ["b"]
    assert [row.key for row in claim(store, run_id=RUN, site="nersc")] == ["a"]


def test_a_limit_leaves_the_rest_for_others(store: SqlStore) -> None:
    apply(store, Changes(effects=[effect_row(key) for key in "abc"]))
    assert [row.key for row in claim(store, limit=2)] == ["a", "b"]
    assert [row.key for row in claim(store, "other")] == ["c"]


def test_claiming_nothing_commits_nothing(store: SqlStore) -> None:
    before = store.counts.commits
    assert claim(store) == []
    assert store.counts.commits == before


def test_a_lapsed_claim_goes_to_another_and_the_first_can_no_longer_finish(
    store: SqlStore, clock: VirtualClock
) -> None:
    apply(store, Changes(effects=[effect_row("e")]))
    claim(store, "slow", ttl=10)
    clock.advance(9)
    assert claim(store, "next") == []
    clock.advance(1)
    (row,) = claim(store, "next")
    assert (row.key, row.tries) == ("e", 2)
    store.record(Sightings(effects_done=[EffectDone(key="e", claim="slow", outcome="late")]), now=1)
    effect = store.effect("e")
    assert effect
    assert (effect.state, effect.claim) == ("pending", "next")


def test_a_performed_effect_is_done_and_wakes_its_stage(store: SqlStore) -> None:
    apply(store, Changes(effects=[effect_row("e", n=1)]))
    claim(store)
    concerned = store.record(Sightings(effects_done=[EffectDone(key="e", claim="me", outcome="ok")]), now=200)
    assert set(concerned) == {RUN}
    effect = store.effect("e")
    assert effect
    assert (effect.state, effect.outcome, effect.done_at, effect.due_at, effect.claim) == ("done", "ok", 200, None, "")
    assert stage_of(store, 1).due_at == 200
    assert claim(store) == []


def test_a_done_effect_is_not_done_again(store: SqlStore) -> None:
    apply(store, Changes(effects=[effect_row("e")]))
    claim(store)
    for outcome in ("first", "second"):
        store.record(Sightings(effects_done=[EffectDone(key="e", claim="me", outcome=outcome)]), now=1)
    effect = store.effect("e")
    assert effect
    assert effect.outcome == "first"


def test_an_effect_to_be_tried_again_waits_and_keeps_its_note(store: SqlStore, clock: VirtualClock) -> None:
    apply(store, Changes(effects=[effect_row("e")]))
    claim(store)
    later = store.now() + 5 * SECOND
    again = EffectAgain(key="e", claim="me", due_at=later, note='{"looks": 1}')
    store.record(Sightings(effects_again=[again]), now=store.now())
    assert claim(store) == []
    clock.advance(5)
    (row,) = claim(store)
    assert (row.note, row.tries) == ('{"looks": 1}', 2)


@pytest.mark.parametrize("kind", ["stage_in", "submit", "cancel", "verify"])
def test_an_effect_is_not_tried_again_when_its_attempt_was_closed_meanwhile(store: SqlStore, kind: str) -> None:
    apply(store, Changes(effects=[effect_row("e", kind=kind)]))
    claim(store)
    apply(store, Changes(attempts=[attempt_row(0, state="FAILED", open=0)], dropped_effects=["e"]))
    store.record(Sightings(effects_again=[EffectAgain(key="e", claim="me", due_at=5, note="{}")]), now=100)
    effect = store.effect("e")
    assert effect
    assert (effect.state, effect.due_at, effect.done_at, effect.claim) == ("dropped", None, 100, "")
    assert claim(store) == []


@pytest.mark.parametrize("kind", ["ship", "check"])
def test_what_outlives_an_attempt_is_tried_again_after_its_end(store: SqlStore, kind: str) -> None:
    apply(store, Changes(effects=[effect_row("e", kind=kind)], attempts=[attempt_row(0, state="FAILED", open=0)]))
    claim(store)
    store.record(Sightings(effects_again=[EffectAgain(key="e", claim="me", due_at=5, note="{}")]), now=100)
    assert [row.key for row in claim(store)] == ["e"]


def test_an_effect_that_comes_claimed_is_performed_by_its_claimant(store: SqlStore, clock: VirtualClock) -> None:
    lapses = store.now() + 10 * SECOND
    apply(store, Changes(effects=[effect_row("e", claim="engine", claim_until=lapses, tries=1)]))
    assert claim(store, "other") == []
    clock.advance(10)
    assert [row.key for row in claim(store, "other")] == ["e"]


def test_of_eight_threads_that_claim_one_gets_each_effect(store: SqlStore) -> None:
    apply(store, Changes(effects=[effect_row(f"e{k}") for k in range(40)]))
    start, got = threading.Barrier(8), []

    def work(name: str) -> None:
        start.wait()
        while rows := claim(store, name, limit=3):
            got.extend(row.key for row in rows)

    threads = [threading.Thread(target=work, args=(f"t{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(f"e{k}" for k in range(40))


# -- checkpoints, logs, sites --------------------------------------------------------------------------------


def test_a_checkpoints_state_only_moves_on(store: SqlStore) -> None:
    def after(state: str, **said: Any) -> tuple[str, str]:
        store.record(Sightings(checkpoints=[checkpoint_row(0, 1, state=state, **said)]), now=1)
        (row,) = store.checkpoints(RUN)
        return row.state, row.manifest

    assert after("seen") == ("seen", "")
    assert after("verified", manifest="m", verified_at=3) == ("verified", "m")
    assert after("seen") == ("verified", "m")
    assert after("checking") == ("verified", "m")
    assert after("bad", manifest="m", reason="torn") == ("bad", "m")
    assert after("verified", manifest="other") == ("bad", "m")


def test_what_was_verified_once_keeps_its_time_when_it_is_found_gone_later(store: SqlStore) -> None:
    store.record(Sightings(checkpoints=[checkpoint_row(0, 1, state="verified", verified_at=3)]), now=3)
    store.record(Sightings(checkpoints=[checkpoint_row(0, 1, state="bad", reason="no such file")]), now=9)
    (row,) = store.checkpoints(RUN)
    assert (row.state, row.verified_at) == ("bad", 3)


def test_a_decision_takes_no_checks_word_back(store: SqlStore) -> None:
    """What was recorded since the decision looked stands: a checkpoint that is verified is not «checking» again."""
    seen = checkpoint_row(0, 1)
    store.record(Sightings(checkpoints=[seen]), now=1)
    store.record(Sightings(checkpoints=[seen._replace(state="verified", verified_at=2)]), now=2)
    apply(store, Changes(checkpoint_states=[seen._replace(state="checking")]))
    assert store.checkpoints(RUN)[0].state == "verified"
    apply(store, Changes(checkpoint_states=[seen._replace(state="shipped", reason="kept here")]))
    assert store.checkpoints(RUN)[0].state == "shipped"


def test_a_state_gets_a_reason_once(store: SqlStore) -> None:
    """Why a copy did not arrive is told of one that is «shipped» already; what it waits for, of one that is good."""
    good = checkpoint_row(0, 1, state="verified", verified_at=2)
    store.record(Sightings(checkpoints=[good]), now=2)
    apply(store, Changes(checkpoint_states=[good._replace(reason="waits")]))
    assert store.checkpoints(RUN)[0].reason == "waits"
    apply(store, Changes(checkpoint_states=[good._replace(state="shipped", reason="")]))
    assert (store.checkpoints(RUN)[0].state, store.checkpoints(RUN)[0].reason) == ("shipped", "")
    for reason in ("no copy at alcf", "another one"):
        store.record(Sightings(checkpoints=[good._replace(state="shipped", reason=reason)]), now=3)
        assert store.checkpoints(RUN)[0].reason == "no copy at alcf"


def test_a_new_checkpoint_wakes_its_stage(store: SqlStore) -> None:
    store.record(Sightings(checkpoints=[checkpoint_row(1, 1)]), now=40)
    assert stage_of(store, 1).due_at == 40


def test_the_newest_tail_of_a_log_replaces_the_former_and_wakes_nobody(store: SqlStore) -> None:
    for size, tail in ((3, b"abc"), (5, b"\x00\xffde")):
        store.record(Sightings(logs=[LogTail(RUN, 0, 1, "stdout", tail, size, 9)]), now=50)
    assert list(store.log_tails(RUN, 0, 1)) == [LogTail(RUN, 0, 1, "stdout", b"\x00\xffde", 5, 9)]
    assert stage_of(store, 0).due_at is None
    assert store.logged_sizes("nersc") == {(RUN, 0, 1, "stdout"): 5}
    assert store.logged_sizes("alcf") == {}
    apply(store, Changes(attempts=[attempt_row(0, open=0)]))
    assert store.logged_sizes("nersc") == {}


def test_a_look_at_a_site_leaves_its_mode_alone(store: SqlStore) -> None:
    assert set(store.ensure_sites(["nersc", "alcf"])) == {"nersc", "alcf"}
    assert set(store.ensure_sites(["alcf", "olcf"])) == {"olcf"}
    store.set_site_mode("nersc", mode="drained", by="ann", reason="works")
    before = next(row for row in store.sites() if row.site == "nersc")
    seen = before._replace(mode="up", probes=3, cannot_ask_since=7, detail="timeout", last_ok_at=2)
    store.record(Sightings(sites=[seen]), now=1)
    after = next(row for row in store.sites() if row.site == "nersc")
    assert after == seen._replace(mode="drained", ver=before.ver + 1)


def test_a_look_that_began_before_another_one_was_told_says_nothing_of_the_site(store: SqlStore) -> None:
    """Else it would bring back a silence that had ended meanwhile, with all its looks in vain."""
    store.ensure_sites(["nersc"])
    before = next(row for row in store.sites() if row.site == "nersc")
    told = [("site:nersc", NewEvent(kind="silent"))]
    store.record(Sightings(sites=[before._replace(last_ok_at=20, probes=0)]), now=20)
    store.record(Sightings(sites=[before._replace(cannot_ask_since=1, probes=9)], events=told), now=21)
    after = next(row for row in store.sites() if row.site == "nersc")
    assert (after.last_ok_at, after.cannot_ask_since, after.probes) == (20, None, 0)
    assert store.events("site:nersc") == []


def test_evidence_is_told_newest_first_and_a_failure_outweighs_a_success_of_the_same_instant(store: SqlStore) -> None:
    seen = [(1, True, ""), (2, False, "down"), (2, True, "")]
    looks = [EvidenceRow("nersc", at, "status", ok, 5, why) for at, ok, why in seen]
    store.record(Sightings(evidence=looks), now=1)
    assert list(store.evidence("nersc")) == [looks[1], looks[0]]
    assert len(store.evidence("nersc", limit=1)) == 1


def test_evidence_keeps_its_source_and_is_read_from_a_time_on(store: SqlStore) -> None:
    rows = [
        EvidenceRow("nersc", 10, "status", ok=True, latency_us=5, detail="answers", source="look"),
        EvidenceRow("nersc", 20, "compute", ok=True, latency_us=0, detail="power", source="feed", word="maintenance"),
        EvidenceRow("nersc", 30, "compute", ok=False, latency_us=0, detail="exit 1", source="job", subject="a\tb\tc"),
        EvidenceRow("alcf", 30, "status", ok=True, latency_us=0, detail=""),
    ]
    rows[1] = rows[1]._replace(until=99)
    store.record(Sightings(evidence=rows), now=1)
    assert store.evidence("nersc") == rows[2::-1]
    assert store.evidence("nersc", since=20) == [rows[2], rows[1]]
    assert store.evidence("nersc", since=31) == []


def test_what_took_longer_than_the_column_holds_is_kept_as_its_longest(store: SqlStore) -> None:
    hours = EvidenceRow("nersc", 10, "transfer", ok=True, latency_us=10**11, detail="", source="transfer")
    store.record(Sightings(evidence=[hours]), now=1)
    assert store.evidence("nersc")[0].latency_us == 2**31 - 1


def test_old_evidence_is_forgotten(store: SqlStore) -> None:
    rows = [EvidenceRow("nersc", at, "status", ok=True, latency_us=0, detail="") for at in (10, 20, 30)]
    store.record(Sightings(evidence=rows), now=1)
    assert store.forget_evidence(20) == 1
    assert [row.at for row in store.evidence("nersc")] == [30, 20]


def test_an_override_has_an_owner_a_reason_an_end_and_an_event(store: SqlStore) -> None:
    store.override_site("nersc", state="down", by="kim", reason="water", until=99)
    (row,) = [row for row in store.sites() if row.site == "nersc"]
    assert row[12:16] == ("down", "kim", "water", 99)
    store.override_site("nersc", state="", by="lee", reason="dry", until=None)
    (row,) = [row for row in store.sites() if row.site == "nersc"]
    assert (row.override, row.override_until) == ("", None)
    assert [(e.kind, e.actor) for e in store.events("site:nersc")] == [("override", "kim"), ("override", "lee")]


def test_when_a_sites_standing_changes_all_stages_running_there_wake(store: SqlStore) -> None:
    quiet(store, 0, 1)
    assert set(store.record(Sightings(wake_sites=["alcf"]), now=60)) == {RUN}
    assert [stage_of(store, n).due_at for n in (0, 1)] == [None, 60]


def test_a_batch_of_facts_is_one_commit_and_few_statements(store: SqlStore) -> None:
    seen = [AttemptSeen(run_id=RUN, n=n, number=1, facts={"native_id": "j"}) for n in (0, 1)] * 100
    commits, statements = store.counts.commits, store.counts.statements
    store.record(Sightings(attempts=seen), now=1)
    # runs' hints, stages' hints, attempts; a server holds the runs first
    wanted = 3 if store._database.sqlite else 4
    assert (store.counts.commits - commits, store.counts.statements - statements) == (1, wanted)
