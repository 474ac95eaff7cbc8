"""Removing: whatever lies where, the last good copy of nothing ever goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.retention import Case, Copy, judge

CONTENT = st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]))
FILES = st.dictionaries(st.sampled_from(["x", "d/y", ""]), CONTENT, max_size=3)
COPIES = st.lists(
    st.builds(Copy, side=st.sampled_from(["cfs:", "data:", "nersc"]), files=st.none() | FILES), max_size=3
)
CASES = st.builds(
    Case,
    side=st.just("spot:"),
    path=st.just("raw/"),
    there=st.booleans(),
    protected=FILES,
    brought=st.none() | FILES,
    needed=COPIES,
    others=COPIES,
)


@given(CASES)
def test_every_file_that_goes_was_seen_elsewhere_with_the_same_content(case: Case) -> None:
    if judge(case).outcome == "remove":
        seen = [copy.files or {} for copy in (*case.needed, *case.others)]
        for path, content in case.protected.items():
            assert any(files.get(path) == content for files in seen)


@given(CASES)
def test_every_place_that_was_named_as_proof_holds_everything_that_goes(case: Case) -> None:
    if judge(case).outcome == "remove":
        for copy in case.needed:
            assert copy.files is not None
            assert all(copy.files.get(path) == content for path, content in case.protected.items())


@given(CASES)
def test_what_keeps_it_is_always_said(case: Case) -> None:
    decision = judge(case)
    assert decision.outcome in ("remove", "keep", "gone")
    assert decision.reasons
    assert all(reason.fact for reason in decision.reasons)


@given(CASES)
def test_a_side_that_cannot_be_looked_at_proves_nothing(case: Case) -> None:
    blind = Case(
        side=case.side,
        path=case.path,
        there=True,
        protected=case.protected,
        needed=[Copy(side=copy.side, files=None) for copy in case.needed],
        others=[Copy(side=copy.side, files=None) for copy in case.others],
    )
    if case.protected or case.needed:
        assert judge(blind).outcome == "keep"
