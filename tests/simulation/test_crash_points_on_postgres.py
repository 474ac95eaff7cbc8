"""The same blows over PostgreSQL: other locks, other transactions, answers that get lost on a real wire's other end.

The database goes by the clock of the story, so that leases and claims lapse there as they do in memory. Two scenarios
whole, and of the others some pairs; `--slow` takes every scenario.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from postgres_kit import MovedClock, Server
from simulation.crashing import Ground, Scenario, Strike
from simulation.scenarios import ALL, CANCEL, FAILOVER, OPTIONAL, REFUSED
from simulation.striking import by_name, crash_free_ends, some_pairs, strikes, undisturbed, wrong_ends

from broker.clock import VirtualClock
from broker.store.schema import metadata
from broker.store.sql import SqlStore


@pytest.fixture(scope="module")
def ground(postgres: Server) -> Iterator[Ground]:
    """One database, emptied before every story. Its time goes on."""
    name = postgres.database()
    clock = MovedClock()
    store = SqlStore(clock.moves(postgres, name), clock=clock, bits=random.Random(1).getrandbits)
    store.installation()
    tables = ", ".join(table.name for table in metadata.sorted_tables if table.name != "installation")

    def empty() -> tuple[VirtualClock, SqlStore]:
        postgres.run(f"TRUNCATE {tables}", name)
        return clock, store

    yield empty
    store.close()
    clock.close()


def once(scenario: Scenario) -> list[tuple[Strike]]:
    return [(strike,) for strike in strikes(undisturbed(scenario))]


@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_a_story_goes_the_same_way_over_both_databases(scenario: Scenario, ground: Ground) -> None:
    """Call by call. So the points are the same ones, too."""
    here, there = undisturbed(scenario), undisturbed(scenario, ground)
    assert there.found == []
    assert there.ends == here.ends
    assert [call[:2] for call in there.points] == [call[:2] for call in here.points]


@pytest.mark.fault("F01", "F02", "F03", "F04", "F05")
@pytest.mark.parametrize("scenario", [REFUSED, OPTIONAL], ids=by_name)
def test_a_crash_after_any_trace_leads_to_the_end_of_a_crash_free_run(scenario: Scenario, ground: Ground) -> None:
    assert wrong_ends(scenario, once(scenario), crash_free_ends(scenario), ground) == []


@pytest.mark.parametrize("scenario", [FAILOVER, CANCEL], ids=by_name)
def test_a_sample_of_pairs_leads_to_the_end_of_a_crash_free_run(scenario: Scenario, ground: Ground) -> None:
    twice = some_pairs(scenario, firsts=5, seconds=3)
    assert wrong_ends(scenario, twice, crash_free_ends(scenario), ground) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_blows_after_all_traces_and_more_pairs_lead_to_the_end_of_a_crash_free_run(
    scenario: Scenario, ground: Ground
) -> None:
    wanted = crash_free_ends(scenario)
    assert wrong_ends(scenario, once(scenario), wanted, ground) == []
    assert wrong_ends(scenario, some_pairs(scenario, firsts=20, seconds=10), wanted, ground) == []
