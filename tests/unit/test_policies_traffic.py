"""Which way files take, what goes together, and when a transfer is begun."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies.traffic import FEW, MOST_FILES, WINDOW, Batch, Plan, UnderWay, Wanted, Way, best, plan

SLOTS = {"globus": 3}
LATER = 10 * WINDOW


def way(mover: str = "globus", source: str = "east", **said: Any) -> Way:
    return Way(mover=mover, source=source, rank={"copy": 0, "globus": 1, "relay": 2}[mover], **said)


def wanted(key: str, *ways: Way, to: str = "west", **said: Any) -> Wanted:
    return Wanted(key=key, destination=to, ways=ways or (way(),), **said)


def planned(*asked: Wanted, under_way: tuple[UnderWay, ...] = (), now: int = LATER) -> Plan:
    return plan(asked, under_way, slots=SLOTS, now=now)


def keys(batch: Batch) -> list[str]:
    return list(batch.keys)


# -- the way ---------------------------------------------------------------------------------------------


def test_a_service_goes_before_what_would_pass_through_this_machine() -> None:
    chosen = best([way("relay", seconds=1.0), way("globus", seconds=60.0)])
    assert chosen is not None
    assert chosen.mover == "globus"


def test_of_two_sources_the_quicker_one_is_taken() -> None:
    chosen = best([way(source="east", seconds=60.0), way(source="north", seconds=20.0)])
    assert chosen is not None
    assert chosen.source == "north"


def test_a_closed_way_is_not_taken_however_quick() -> None:
    made = planned(wanted("a", way(seconds=1.0, refusal="east has no collection"), way("relay", seconds=99.0)))
    assert made.direct["a"].mover == "relay"


def test_with_every_way_closed_each_refusal_is_told() -> None:
    made = planned(wanted("a", way(refusal="no collection"), way("relay", refusal="too large")))
    assert [reason.fact for reason in made.impossible["a"]] == ["no collection", "too large"]


# -- together --------------------------------------------------------------------------------------------


def test_movements_of_one_link_go_together() -> None:
    made = planned(*[wanted(f"m{n}") for n in range(50)])
    assert [len(batch.keys) for batch in made.batches] == [50]


def test_movements_of_different_links_do_not() -> None:
    made = planned(wanted("a"), wanted("b", way(source="north")), wanted("c", to="south"))
    assert sorted(keys(batch) for batch in made.batches) == [["a"], ["b"]]
    assert made.waits["c"].rule == "slots"


def test_what_others_may_see_at_once_does_not_go_with_what_is_private() -> None:
    made = planned(wanted("a", private=True), wanted("b", private=False))
    assert sorted((keys(batch), batch.private) for batch in made.batches) == [(["a"], True), (["b"], False)]


def test_one_request_holds_only_so_many_files() -> None:
    made = planned(*[wanted(f"m{n}", files=MOST_FILES // 2) for n in range(3)])
    assert [len(batch.keys) for batch in made.batches] == [2, 1]


def test_what_failed_in_company_goes_in_small_company_and_then_alone() -> None:
    once = [wanted(f"a{n:02}", tries=1) for n in range(FEW + 1)]
    twice = [wanted(f"b{n}", tries=2) for n in range(2)]
    made = plan([*once, *twice], (), slots={"globus": 99}, now=LATER)
    assert sorted(len(batch.keys) for batch in made.batches) == [1, 1, 1, FEW]


# -- when ------------------------------------------------------------------------------------------------


def test_an_ordinary_movement_waits_a_moment_for_company() -> None:
    made = planned(wanted("a", asked_at=LATER))
    assert made.batches == []
    assert (made.waits["a"].rule, made.until) == ("window", LATER + WINDOW)


def test_an_urgent_one_does_not() -> None:
    made = planned(wanted("a", asked_at=LATER, urgent=True))
    assert [keys(batch) for batch in made.batches] == [["a"]]


def test_one_of_three_places_is_kept_for_urgent_work() -> None:
    busy = (UnderWay(mover="globus", destination="x"),) * 2
    assert planned(wanted("a"), under_way=busy).batches == []
    made = planned(wanted("a"), wanted("u", urgent=True), under_way=busy)
    assert [(keys(batch), batch.urgent) for batch in made.batches] == [(["u"], True)]


def test_a_service_with_one_place_gives_it_to_whoever_comes() -> None:
    made = plan([wanted("a")], (), slots={"globus": 1}, now=LATER)
    assert [keys(batch) for batch in made.batches] == [["a"]]


def test_urgent_links_are_begun_before_older_ones() -> None:
    made = plan(
        [wanted("old"), wanted("u", way(source="north"), urgent=True, asked_at=5)],
        (UnderWay(mover="globus", destination="x"),),
        slots={"globus": 2},
        now=LATER,
    )
    assert [keys(batch) for batch in made.batches] == [["u"]]


# -- the same files ----------------------------------------------------------------------------------------


def test_the_same_files_go_to_a_side_once_and_the_others_wait_for_them() -> None:
    same = frozenset({"d1", "d2"})
    made = planned(wanted("a", digests=same), wanted("b", digests=same), wanted("c", digests=frozenset({"d1"})))
    assert [keys(batch) for batch in made.batches] == [["a"]]
    assert {key: reason.rule for key, reason in made.waits.items()} == {"b": "same_files", "c": "same_files"}


def test_they_wait_for_a_transfer_under_way_too() -> None:
    busy = (UnderWay(mover="globus", destination="west", digests=frozenset({"d1"})),)
    assert planned(wanted("a", digests=frozenset({"d1"})), under_way=busy).batches == []
    assert planned(wanted("a", digests=frozenset({"d1", "d2"})), under_way=busy).batches != []


def test_what_lies_at_the_side_already_waits_for_nobody() -> None:
    busy = (UnderWay(mover="globus", destination="west", digests=frozenset({"d1"})),)
    made = planned(wanted("a", way(source="west"), digests=frozenset({"d1"})), under_way=busy)
    assert [keys(batch) for batch in made.batches] == [["a"]]


# -- of any plan --------------------------------------------------------------------------------------------

SOURCES, TARGETS, MOVERS = ("east", "north"), ("west", "south"), ("globus", "relay")
ANY_WAY = st.builds(way, st.sampled_from(MOVERS), st.sampled_from(SOURCES), refusal=st.sampled_from(["", "", "closed"]))
ANY = st.lists(
    st.builds(
        lambda number, ways, **said: wanted(f"m{number}", *ways, **said),
        st.integers(0, 10**6),
        st.lists(ANY_WAY, min_size=1, max_size=4),
        to=st.sampled_from(TARGETS),
        urgent=st.booleans(),
        private=st.booleans(),
        files=st.integers(1, 3 * MOST_FILES),
        tries=st.integers(0, 4),
        asked_at=st.integers(0, LATER),
        digests=st.frozensets(st.sampled_from("abc"), max_size=2),
    ),
    max_size=30,
    unique_by=lambda one: one.key,
)
BUSY = st.lists(
    st.builds(UnderWay, mover=st.just("globus"), destination=st.sampled_from(TARGETS), urgent=st.booleans()), max_size=4
)


@given(ANY, BUSY)
def test_each_movement_has_exactly_one_fate_and_no_service_more_than_its_places(
    asked: list[Wanted], busy: list[UnderWay]
) -> None:
    made = plan(asked, busy, slots=SLOTS, now=LATER)
    fates = [*(key for batch in made.batches for key in batch.keys), *made.direct, *made.waits, *made.impossible]
    assert sorted(fates) == sorted(one.key for one in asked)
    if made.batches:
        assert len(busy) + len(made.batches) <= SLOTS["globus"]
        ordinary = sum(not one.urgent for one in busy) + sum(not batch.urgent for batch in made.batches)
        assert ordinary <= SLOTS["globus"] - 1 or all(batch.urgent for batch in made.batches)


@given(ANY)
def test_whoever_goes_together_takes_a_way_that_is_open_to_each(asked: list[Wanted]) -> None:
    by_key = {one.key: one for one in asked}
    for batch in plan(asked, (), slots=SLOTS, now=LATER).batches:
        for key in batch.keys:
            one = by_key[key]
            assert (batch.destination, batch.urgent, batch.private) == (one.destination, one.urgent, one.private)
            assert any((w.mover, w.source, w.refusal) == (batch.mover, batch.source, "") for w in one.ways)
