"""Notices in the store: written once, sent under one name, never lost, acknowledged once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_kit import RUN, apply, new_run

from broker.alerts.rows import FIRST_AGAIN, FIRST_RETRY, MOST_TRIES, AlertRow, Over, new_alert
from broker.store.base import Changes
from broker.store.sql import SqlStore

SECOND = 1_000_000


def alert(
    key: str = "k", to: str = "command:page", *, kind: str = "needs_person", n: int = 0, now: int = 10
) -> AlertRow:
    body = {"text": f"{kind} of {n}"}
    return new_alert(
        installation="me", key=key, kind=kind, address=to, now=now, body=body, run_id=RUN, n=n, about=f"s{n}"
    )


@pytest.fixture
def told(store: SqlStore) -> Callable[..., None]:
    store.create_run(new_run())

    def tell(*rows: AlertRow, over: tuple[Over, ...] = (), now: int = 10) -> None:
        apply(store, Changes(alerts=list(rows), alerts_over=list(over)), now=now)

    return tell


def claim(store: SqlStore, now: int, *, who: str = "me") -> list[AlertRow]:
    return list(store.alerts.claim(claim=who, now=now, limit=10, seconds=60.0))


def send(store: SqlStore, now: int, *, error: str = "") -> list[AlertRow]:
    claimed = claim(store, now)
    assert all(store.alerts.give_back(row, now=now, error=error) for row in claimed)
    return claimed


def only(store: SqlStore) -> AlertRow:
    (row,) = store.alerts.ls()
    return row


def test_a_decision_and_what_it_tells_are_kept_together_and_once(store: SqlStore, told: Callable[..., None]) -> None:
    told(alert(), alert(to="mailto:a@b.org"))
    told(alert(now=99), now=99)
    assert sorted(row.address for row in store.alerts.ls()) == ["command:page", "mailto:a@b.org"]
    assert {row.created_at for row in store.alerts.ls()} == {10}
    assert store.alerts.ls(run_id="another") == []


def test_it_is_told_again_later_and_later_until_somebody_takes_care(store: SqlStore, told: Callable[..., None]) -> None:
    told(alert())
    now, numbers, gaps = 10, [], []
    for _ in range(7):
        numbers += [row.number for row in send(store, now)]
        due = only(store).due_at
        assert due is not None
        gaps.append((due - now) // (60 * SECOND))
        assert claim(store, due - 1) == []
        now = due
    assert (numbers, gaps) == ([0, 1, 2, 3, 4, 5, 6], [15, 30, 60, 120, 240, 240, 240])
    (acked,) = store.alerts.ack([only(store).id], by="ann", reason="on it", now=now)
    assert (acked.state, acked.acked_by, acked.due_at) == ("acknowledged", "ann", None)
    assert store.alerts.ack([acked.id], by="bob", reason="me too", now=now + 1) == []
    assert claim(store, now + 10**15) == []
    event = store.events(RUN)[-1]
    assert (event.kind, event.actor) == ("acknowledged", "ann")


def test_what_happened_once_is_told_once(store: SqlStore, told: Callable[..., None]) -> None:
    told(alert(kind="moved"))
    assert len(send(store, 10)) == 1
    assert (only(store).state, only(store).due_at) == ("told", None)


def test_in_vain_it_is_tried_again_with_pauses_that_grow_and_not_for_ever(
    store: SqlStore, told: Callable[..., None]
) -> None:
    told(alert(kind="moved"))
    now, pauses = 10, []
    for _ in range(MOST_TRIES):
        send(store, now, error="503")
        row = only(store)
        if row.due_at is not None:
            pauses.append((row.due_at - now) / SECOND)
            now = row.due_at
    assert pauses[:4] == [10.0, 20.0, 40.0, 80.0]
    assert max(pauses) == 900.0
    assert (only(store).state, only(store).tries, only(store).error) == ("given_up", MOST_TRIES, "503")


def test_when_it_is_over_that_is_said_once_also_of_what_was_acknowledged(
    store: SqlStore, told: Callable[..., None]
) -> None:
    told(alert(), alert(key="k2", n=1))
    send(store, 10)
    store.alerts.ack([alert().id], by="ann", reason="on it", now=11)
    told(over=(Over(RUN, -1, "", "the run has ended"),), now=20)
    over = claim(store, 20)
    assert [(row.says_over, row.over_why) for row in over] == [(True, "the run has ended")] * 2
    assert all(store.alerts.give_back(row, now=20) for row in over)
    assert claim(store, 10**15) == []
    assert {row.state for row in store.alerts.ls()} == {"over"}


def test_what_passed_before_anybody_heard_of_it_is_not_told(store: SqlStore, told: Callable[..., None]) -> None:
    told(alert())
    told(over=(Over(RUN, 0, "needs_person", "it answers"),), now=20)
    assert claim(store, 10**15) == []
    assert only(store).state == "over"


def test_over_concerns_its_own_stage_and_kind_alone(store: SqlStore, told: Callable[..., None]) -> None:
    told(alert(), alert(key="k2", n=1), alert(key="k3", kind="deadline_at_risk"))
    told(over=(Over(RUN, 0, "needs_person", "it answers"),), now=20)
    assert [row.key for row in store.alerts.ls() if row.over_at] == ["k"]


def test_one_who_died_while_sending_is_followed_by_another_under_the_same_name(
    store: SqlStore, told: Callable[..., None]
) -> None:
    told(alert())
    (first,) = claim(store, 10, who="dead")
    assert claim(store, 10 + 59 * SECOND, who="next") == []
    (again,) = claim(store, 10 + 60 * SECOND, who="next")
    assert (again.id, again.number) == (first.id, first.number)
    assert not store.alerts.give_back(first, now=10 + 61 * SECOND)  # it comes back after all, too late
    assert store.alerts.give_back(again, now=10 + 61 * SECOND)
    assert only(store).number == 1


def test_what_happens_while_it_is_being_sent_is_not_forgotten(store: SqlStore, told: Callable[..., None]) -> None:
    told(alert(), alert(key="k2", n=1), alert(key="k3", n=2))
    claimed = {row.n: row for row in claim(store, 10)}
    store.alerts.ack([claimed[0].id], by="ann", reason="on it", now=11)
    told(over=(Over(RUN, 1, "needs_person", "it answers"), Over(RUN, 2, "needs_person", "it answers")), now=12)
    assert store.alerts.give_back(claimed[0], now=13)
    assert store.alerts.give_back(claimed[1], now=13)
    assert store.alerts.give_back(claimed[2], now=13, error="503")
    rows = {row.n: row for row in store.alerts.ls()}
    assert rows[0].due_at is None  # acknowledged: not told again
    assert rows[1].due_at == 13  # it was heard of: that it is over follows
    assert rows[2].due_at is None  # nobody has heard of it
    assert [row.n for row in claim(store, 14)] == [1]


def test_two_who_send_at_once_share_the_work(store: SqlStore, told: Callable[..., None]) -> None:
    told(*(alert(key=f"k{i}", n=i, kind="moved") for i in range(20)))
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda i: claim(store, 10, who=f"w{i}"), range(4)))
    ids = [row.id for rows in taken for row in rows]
    assert len(ids) == len(set(ids)) == 20


def standing(which: str, about: str = "nersc/token", *, run_id: str = "") -> AlertRow:
    return new_alert(
        installation="me",
        key=f"credential_ending:{about}:{which}",
        kind="credential_ending",
        address="command:page",
        now=5,
        body={"text": which},
        about=about,
        run_id=run_id,
    )


def test_what_stands_is_told_once_however_often_it_is_seen(store: SqlStore) -> None:
    for now in (5, 6, 7):
        store.alerts.keep_standing([standing("7 days")], kind="credential_ending", abouts=None, why="renewed", now=now)
    assert len(send(store, 7)) == 1
    assert only(store).due_at is None  # it does not repeat: the next step does that
    store.alerts.keep_standing([], kind="credential_ending", abouts={"alcf/token"}, why="renewed", now=8)
    assert only(store).over_at is None  # nobody has looked at it
    store.alerts.keep_standing([], kind="credential_ending", abouts={"nersc/token"}, why="renewed", now=9)
    assert (only(store).over_at, only(store).over_why, only(store).due_at) == (9, "renewed", 9)


def test_a_nearer_step_takes_the_place_of_a_former_one_without_a_word_of_its_end(store: SqlStore) -> None:
    for which, now in (("7 days", 5), ("1 day", 6)):
        store.alerts.keep_standing([standing(which)], kind="credential_ending", abouts=None, why="renewed", now=now)
        send(store, now)
    assert {row.key.rpartition(":")[2]: (row.over_at, row.due_at) for row in store.alerts.ls()} == {
        "7 days": (6, None),
        "1 day": (None, None),
    }


def test_of_one_matter_there_is_one_notice_whoever_joins_it(store: SqlStore) -> None:
    for which, now in (("100", 5), ("90", 6), ("120", 7)):
        store.alerts.keep_standing(
            [standing(which, "")], kind="credential_ending", abouts=None, why="over", now=now, one_each=True
        )
    assert [row.key.rpartition(":")[2] for row in store.alerts.ls()] == ["100"]


def test_the_first_pauses_are_what_the_pages_say() -> None:
    assert (FIRST_AGAIN, FIRST_RETRY) == (900.0, 10.0)
