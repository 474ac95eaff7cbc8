"""What is learned of links, whatever they carried before: estimates that can be trusted not to be absurd."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.links import PRIOR, Learned, Sample, learn

GB = 10**9
BYTES = st.integers(0, 10**15)
FILES = st.integers(0, 10**7)
SECONDS = st.floats(0, 1e8)
HISTORY = st.lists(st.builds(Sample, bytes=BYTES, files=FILES, seconds=SECONDS), max_size=40)


def after(history: list[Sample]) -> Learned:
    learned = PRIOR
    for sample in history:
        learned = learned.with_sample(sample)
    return learned


def link(
    *, fixed: float, per_file: float, rate: float, noise: float = 0.0, outliers: float = 0.0, count: int = 60
) -> list[Sample]:
    """Transfers of all sizes over a link like that."""
    rng = random.Random(7)
    samples = []
    for _ in range(count):
        carried, files = int(10 ** rng.uniform(3, 12)), int(10 ** rng.uniform(0, 3.5))
        lasts = (fixed + per_file * files + carried / rate) * rng.lognormvariate(0, noise)
        if rng.random() < outliers:
            lasts *= rng.choice((0.02, 50))
        samples.append(Sample(carried, files, lasts))
    return samples


@settings(max_examples=300)
@given(HISTORY, BYTES, FILES, st.integers(0, 10**12), st.integers(0, 10**6))
def test_more_bytes_or_files_never_take_less_time(
    history: list[Sample], carried: int, files: int, more_bytes: int, more_files: int
) -> None:
    learned = after(history)
    less = learned.estimate(bytes=carried, files=files)
    more = learned.estimate(bytes=carried + more_bytes, files=files + more_files)
    assert 0 <= less.p50 <= more.p50
    assert less.p50 <= less.p90 <= more.p90


@settings(max_examples=300)
@given(HISTORY)
def test_what_is_learned_survives_the_store(history: list[Sample]) -> None:
    learned = after(history)
    assert Learned.from_json(learned.json) == learned
    text: str | None = None
    for sample in history:
        text = learn(text, sample)
    assert Learned.from_json(text) == learned


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=60), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)))
def test_a_text_that_is_no_such_thing_is_a_link_never_seen(text: object) -> None:
    assert Learned.from_json(str(text)) == PRIOR


@pytest.mark.parametrize(
    "broken",
    [
        PRIOR.json.replace('"v":1', '"v":2'),
        PRIOR.json.replace('"varies":0.25', '"spread":NaN'),
        PRIOR.json.replace('"varies":0.25', '"spread":1e999'),
        PRIOR.json.replace('"samples":0', '"samples":-3'),
        PRIOR.json.replace("[0.0,0.0,0.0]", "[0.0,0.0]", 1),
        PRIOR.json.replace('"varies":0.25', '"spread":-1'),
        PRIOR.json.replace("[0.0,4.0,0.0]", "[9.0,4.0,0.0]"),
        "[" * 4000,
        "x" * 100_000,
    ],
)
def test_a_damaged_row_is_a_link_never_seen(broken: str) -> None:
    assert broken != PRIOR.json
    assert Learned.from_json(broken) is PRIOR


@pytest.mark.parametrize(
    ("fixed", "per_file", "rate"),
    [(12.0, 0.2, 5e8), (0.01, 0.0005, 3e8), (2.0, 0.0, 1e9), (0.0, 0.0, 1e8), (300.0, 1.0, 2e6)],
)
def test_a_steady_link_is_found_out_also_when_it_is_nothing_like_the_guess(
    fixed: float, per_file: float, rate: float
) -> None:
    samples = link(fixed=fixed, per_file=per_file, rate=rate, count=90)
    soon, later = after(samples[:30]), after(samples)
    for carried, files in [(GB, 1), (500 * GB, 300), (10**6, 3000), (0, 0)]:
        truth = fixed + per_file * files + carried / rate
        assert soon.estimate(bytes=carried, files=files).p50 == pytest.approx(truth, rel=0.7, abs=0.5)
        assert later.estimate(bytes=carried, files=files).p50 == pytest.approx(truth, rel=0.2, abs=0.1)


def test_a_link_that_varies_is_known_within_its_own_spread() -> None:
    learned = after(link(fixed=12, per_file=0.2, rate=5e8, noise=0.2))
    estimate = learned.estimate(bytes=100 * GB, files=100)
    truth = 12 + 20 + 200
    assert truth / 1.25 < estimate.p50 < truth * 1.25
    assert 1.15 < estimate.p90 / estimate.p50 < 2.0
    assert estimate.samples == 60


def test_nine_of_ten_transfers_last_no_longer_than_p90() -> None:
    samples = link(fixed=12, per_file=0.2, rate=5e8, noise=0.3, count=400)
    learned, late = after(samples[:60]), 0
    for sample in samples[60:]:
        late += sample.seconds > learned.estimate(bytes=sample.bytes, files=sample.files).p90
        learned = learned.with_sample(sample)
    assert 0.02 < late / 340 < 0.2


def test_one_transfer_of_ten_that_stalls_or_was_cached_does_not_spoil_the_rest() -> None:
    estimate = after(link(fixed=12, per_file=0.2, rate=5e8, noise=0.1, outliers=0.1)).estimate(bytes=100 * GB, files=10)
    assert 214 / 1.5 < estimate.p50 < 214 * 1.5


def test_one_outlier_moves_an_estimate_by_a_little_and_five_are_a_change() -> None:
    learned = after(link(fixed=10, per_file=0.0, rate=1e9))
    before = learned.estimate(bytes=100 * GB, files=10).p50
    slow = Sample(100 * GB, 10, 10 * before)
    once = learned.with_sample(slow)
    assert before < once.estimate(bytes=100 * GB, files=10).p50 < 1.2 * before
    assert after([Sample(100 * GB, 10, before)] * 3).far_off == 0
    for _ in range(5):
        learned = learned.with_sample(slow)
    assert learned.estimate(bytes=100 * GB, files=10).p50 > 6 * before


def test_tiny_transfers_say_nothing_of_the_bandwidth() -> None:
    learned = after([Sample(1000, 1, 2.0)] * 60)
    assert learned.estimate(bytes=1000, files=1).p50 == pytest.approx(2.0, rel=0.05)
    large, guess = learned.estimate(bytes=1000 * GB, files=1), PRIOR.estimate(bytes=1000 * GB, files=1)
    assert large.p50 == pytest.approx(guess.p50, rel=0.05)
    assert large.p90 > 2.5 * large.p50, "and it is said to be a guess"


@pytest.mark.parametrize(
    "impossible",
    [
        Sample(1, 1, -1.0),
        Sample(1, 1, float("nan")),
        Sample(1, 1, float("inf")),
        Sample(-1, 1, 1.0),
        Sample(1, -1, 1.0),
    ],
)
def test_a_sample_that_cannot_be_tells_nothing(impossible: Sample) -> None:
    known = after(link(fixed=10, per_file=0.0, rate=1e9))
    assert known.with_sample(impossible) is known


def test_a_link_never_seen_is_a_guess_that_says_so() -> None:
    guess = PRIOR.estimate(bytes=100 * GB, files=10)
    assert (guess.p50, guess.samples) == (30 + 0.5 + 1000, 0)
    assert 3 * guess.p50 < guess.p90 < 4 * guess.p50
