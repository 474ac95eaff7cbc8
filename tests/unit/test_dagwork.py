"""The benchmark's graphs are fixed for ever: a figure measured last year is of the same work."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.dagwork import LEAST_STAGES, SHAPES, check, layers, make, stage

PINNED = {  # shape: (stages, edges, depth) at n=1000, seed 1
    "fan": (1000, 1996, 3),
    "chain": (1000, 999, 1000),
    "layered": (1000, 2167, 31),
    "montage": (997, 2235, 8),
}
PINNED_LAYERED = "0c27a7506eb60659"


def edges(graph):
    return sum(len(parents) for _, parents in graph)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_thousand_stages_have_the_counts_that_were_published(shape):
    graph = make(shape, 1000, seed=1)
    assert (len(graph), edges(graph), len(layers(graph))) == PINNED[shape]


def test_the_random_shape_is_the_same_graph_edge_by_edge_on_every_machine():
    text = repr(make("layered", 1000, seed=1)).encode()
    assert hashlib.sha256(text).hexdigest().startswith(PINNED_LAYERED)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_seed_makes_the_same_graph(shape):
    assert make(shape, 200, seed=7) == make(shape, 200, seed=7)


def test_another_seed_makes_another_layered_graph():
    assert make("layered", 200, seed=1) != make("layered", 200, seed=2)


@given(shape=st.sampled_from(SHAPES), extra=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_numbers_are_counted_from_zero_and_parents_come_before_their_children(shape, extra, seed):
    graph = make(shape, LEAST_STAGES[shape] + extra, seed)
    assert [number for number, _ in graph] == list(range(len(graph)))
    for number, parents in graph:
        assert all(0 <= parent < number for parent in parents)
        assert len(set(parents)) == len(parents)


@given(extra=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_a_layered_graph_has_one_source_and_one_sink(extra, seed):
    graph = make("layered", 3 + extra, seed)
    parents_of_somebody = {parent for _, parents in graph for parent in parents}
    assert [number for number, parents in graph if not parents] == [0]
    assert [number for number, _ in graph if number not in parents_of_somebody] == [graph[-1][0]]


@pytest.mark.parametrize("shape", ["fan", "chain", "layered"])
def test_a_graph_has_exactly_as_many_stages_as_were_asked_for(shape):
    assert [len(make(shape, n)) for n in (3, 4, 17, 100)] == [3, 4, 17, 100]


def test_a_montage_has_the_largest_number_of_stages_of_the_form_4w_and_5():
    assert [len(make("montage", n)) for n in (17, 20, 21, 100)] == [17, 17, 21, 97]


@pytest.mark.parametrize("shape", SHAPES)
def test_too_few_stages_are_refused_with_the_least_number(shape):
    with pytest.raises(ValueError, match=f"at least {LEAST_STAGES[shape]}"):
        make(shape, LEAST_STAGES[shape] - 1)


def test_an_unknown_shape_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="fan, chain, layered, montage"):
        make("spiral", 10)


def test_stages_run_in_order_make_a_valid_tally(tmp_path):
    graph = make("layered", 50)
    for number, _ in graph:
        assert stage(tmp_path / "events", number) == number
    tally = check(graph, tmp_path / "events")
    assert tally.valid
    assert tally.first <= tally.last


def test_the_check_tells_missing_repeated_and_early_stages_apart(tmp_path):
    # chain 0-1-2-3: 2 ran before 1, 1 ran twice, 3 never ran
    for number in (0, 2, 1, 1):
        stage(tmp_path / "events", number)
    tally = check(make("chain", 4), tmp_path / "events")
    assert (tally.missing, tally.repeated, tally.out_of_order) == (1, 1, 1)
    assert not tally.valid


def test_a_stage_whose_parent_never_ran_is_out_of_order(tmp_path):
    stage(tmp_path / "events", 1)
    assert check(make("chain", 2), tmp_path / "events").out_of_order == 1


def test_a_stage_that_the_graph_does_not_hold_is_an_error_and_hides_no_missing_one(tmp_path):
    stage(tmp_path / "events", 99)
    with pytest.raises(ValueError, match="stage 99"):
        check(make("chain", 1), tmp_path / "events")


def test_an_empty_events_file_is_an_error(tmp_path):
    (tmp_path / "events").touch()
    with pytest.raises(ValueError, match="no stage ran"):
        check(make("chain", 1), tmp_path / "events")
