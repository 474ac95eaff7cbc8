"""What holds of a simulated site whatever happens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_kit import Place, at, job, key_of

from connectors.harness import ExitRecord, StartRecord, format_record
from connectors.model import Resources
from sandbox import spool
from sandbox.blob import Blob
from sandbox.faults import ComputeDown, ControllerCrash, NodeFailure, Odds, Partition, Preemption, Window
from sandbox.payload import Payload

KEYS = st.from_regex(r"cf[a-z2-7]{13}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9_.-]{1,40}", fullmatch=True)
COUNTS = st.integers(0, 2**40)
CHANCE = st.sampled_from([0.0, 0.0, 0.1, 0.5])


@st.composite
def faults(draw: st.DrawFn) -> Window:
    start = at(draw(st.integers(0, 400)))
    end = start + draw(st.integers(1, 200)) * 1_000_000
    count = draw(st.integers(1, 3))
    made = [
        Partition(start=start, end=end),
        ComputeDown(start=start, end=end, requeue=draw(st.booleans())),
        Preemption(start=start, count=count, notice=draw(st.sampled_from([0, 5, 30]))),
        NodeFailure(start=start, count=count, requeue=draw(st.booleans())),
        ControllerCrash(start=start, end=end, memory=draw(st.sampled_from([1, 50]))),
    ]
    return draw(st.sampled_from(made))


ODDS = st.builds(
    Odds,
    doubled=CHANCE,
    forgotten=CHANCE,
    id_reused=CHANCE,
    run_twice=CHANCE,
    preempted=CHANCE,
    node_failed=CHANCE,
    liar=CHANCE,
    # a lost exit record is left out: where one is missing, a second run is what the gate allows
    lies=st.just(("outputs missing", "outputs truncated")),
    reply_lost=CHANCE,
)
LOADS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 120), st.integers(1, 6)), max_size=14)


def play(fault_list: list[Window], odds: Odds, load: list[tuple[int, int, int]], seed: int) -> Place:
    """Jobs of (arrival, seconds, cores), under these faults, to the end."""
    place = Place(
        *fault_list, odds=odds, seed=seed, nodes=2, cores_per_node=4, requeue_delay=20, submit_latency=2, adopts=False
    )
    capacity = place.model.shape.capacity
    for number, (arrival, seconds, cores) in enumerate(sorted(load)):
        while (event := place.model.next_event_at()) is not None and event <= at(arrival):
            place.go_to((event - at(0)) / 1_000_000)
            assert 0 <= place.model.running_units <= capacity
        place.go_to(arrival)
        sim = f"seconds={seconds} checkpoint_every=20"
        place.model.submit([job(number, sim, resources=Resources(cores=cores))], place.clock())
        assert 0 <= place.model.running_units <= capacity
    place.go_on()
    return place


@settings(max_examples=120, deadline=None)
@given(st.lists(faults(), max_size=4), ODDS, LOADS, st.integers(0, 1000))
def test_slots_are_never_exceeded_and_all_come_free_and_no_key_overlaps_itself(
    fault_list: list[Window], odds: Odds, load: list[tuple[int, int, int]], seed: int
) -> None:
    place = play(fault_list, odds, load, seed)
    journal = place.model.journal
    assert place.model.running_units == 0
    assert journal.overlaps() == []
    assert max(journal.completions().values(), default=0) <= 1
    assert all(execution.ended_at is not None for execution in journal.executions)
    place.go_to(10_000)
    for item in place.site.list_mine(0).items:
        assert item.state.final


@settings(max_examples=40, deadline=None)
@given(st.lists(faults(), max_size=4), ODDS, LOADS, st.integers(0, 1000))
def test_the_same_seed_tells_the_same_story(
    fault_list: list[Window], odds: Odds, load: list[tuple[int, int, int]], seed: int
) -> None:
    one, two = (play(fault_list, odds, load, seed) for _ in range(2))
    assert one.model.journal.lines() == two.model.journal.lines()
    assert one.model.journal.accepted == two.model.journal.accepted
    assert one.model.disk.files_below("") == two.model.disk.files_below("")


@settings(max_examples=40, deadline=None)
@given(LOADS, st.lists(st.integers(0, 2000), max_size=20))
def test_how_often_one_looks_changes_nothing(load: list[tuple[int, int, int]], looks: list[int]) -> None:
    fault_list = [Preemption(start=at(100), count=2), NodeFailure(start=at(150), requeue=True)]
    quiet = play(fault_list, Odds(), load, 1)
    curious = Place(*fault_list, nodes=2, cores_per_node=4, requeue_delay=20, submit_latency=2, adopts=False)
    moments = sorted(
        [(arrival, 1, (arrival, seconds, cores)) for arrival, seconds, cores in load]
        + [(look, 0, (look, 0, 0)) for look in looks]
    )
    number = 0
    for moment, is_job, (_, seconds, cores) in moments:
        curious.clock.advance_to(at(moment))
        if is_job:
            sim = f"seconds={seconds} checkpoint_every=20"
            curious.site.submit([job(number, sim, resources=Resources(cores=cores))])
            number += 1
        else:
            curious.site.status([key_of(0)])
    curious.go_on()
    assert curious.model.journal.lines() == quiet.model.journal.lines()


@given(
    st.builds(
        StartRecord,
        key=KEYS,
        generation=st.integers(1, 99),
        owner=WORDS,
        host=WORDS,
        started_at=COUNTS,
        native_id=WORDS,
        restore_seq=st.none() | st.integers(0, 999),
    )
)
def test_a_start_record_has_the_bytes_that_the_harness_would_write(record: StartRecord) -> None:
    fields = {name: getattr(record, name) for name in record.__slots__}
    assert spool.started_bytes(**fields) == format_record(record)


@given(
    st.builds(
        ExitRecord,
        key=KEYS,
        generation=st.integers(1, 99),
        kind=st.sampled_from(["done", "failed", "timed_out", "stopped", "too_late", "input_missing", "restore_failed"]),
        exit_code=st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
        started_at=COUNTS,
        ended_at=COUNTS,
        outputs_count=st.integers(0, 9999),
        outputs_digest=st.sampled_from(["", "0" * 64]),
        missing=st.lists(WORDS.filter(lambda word: word not in {".", ".."}), unique=True, max_size=3).map(tuple),
        wrong_size=st.lists(st.tuples(WORDS.filter(lambda word: word not in {".", ".."}), COUNTS), max_size=3).map(
            tuple
        ),
        asked=st.sampled_from(["", "every", "signal", "stop"]),
    )
)
def test_an_exit_record_has_the_bytes_that_the_harness_would_write(record: ExitRecord) -> None:
    fields = {name: getattr(record, name) for name in record.__slots__}
    assert spool.exit_bytes(**fields) == format_record(record)


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(-250, 250), st.integers(0, 250))
def test_a_virtual_file_reads_like_a_real_one(head: bytes, extra: int, offset: int, limit: int) -> None:
    blob = Blob(head, len(head) + extra)
    whole = head + bytes(extra)
    start = max(0, len(whole) + offset) if offset < 0 else offset
    assert blob.read(offset, limit) == whole[start : start + limit]
    assert blob.sha256 == Blob(whole, len(whole)).sha256


@given(st.floats(0, 1e9), st.integers(0, 10_000))
def test_a_checkpoint_tells_the_work_that_is_done(progress: float, size: int) -> None:
    payload = Payload(fingerprint="f", checkpoint_bytes=size)
    assert payload.restored(payload.saved(progress).whole()) == progress
