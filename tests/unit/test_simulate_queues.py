"""Queue logs: reading them, rotating them, what could be known of a wait, and what a broker makes of it."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from broker.errors import UsageError
from broker.simulate.queues import LAST, QueueLog, read_queue, rotated
from broker.simulate.setting import Setting
from broker.simulate.stage import NamedPolicy, preferring, prefers, usual_policy
from broker.simulate.waiting import Gain, compare_waits, gains

HOUR = 3600.0
THETA = Path(__file__).parents[3] / "shared" / "data" / "traces" / "theta-2023" / "jobs.swf.gz"


def swf(jobs: list[tuple[float, float]]) -> str:
    lines = [f"{i} {at:g} {wait:g} 60 1 -1 -1 1 60 -1 1 1 1 1 1 1 -1 -1" for i, (at, wait) in enumerate(jobs, 1)]
    return "; UnixStartTime: 0\n\n" + "\n".join(lines) + "\n"


def log_of(days: float, *, seed: int = 1) -> QueueLog:
    """A queue that is empty for a day or two and full for a day or two, a job every ten minutes."""
    rng, at, full, jobs = random.Random(seed), 0.0, False, []
    while at < days * 86_400:
        for _ in range(rng.randint(150, 400)):
            jobs.append((at, rng.uniform(2, 4) * HOUR if full else rng.uniform(0, 60)))
            at += 600
        full = not full
    return QueueLog("q", jobs, at)


def test_a_log_is_read_plain_and_packed(tmp_path: Path) -> None:
    jobs = [(1000.0 + 10 * i, 5.0) for i in range(150)] + [(1001.0, -1.0)]
    plain, packed = tmp_path / "theta.swf", tmp_path / "theta.swf.gz"
    plain.write_text(swf(jobs))
    packed.write_bytes(gzip.compress(swf(jobs).encode()))
    found = read_queue(plain)
    assert found == read_queue(packed)
    assert (found.site, len(found.jobs), found.jobs[0], found.length) == ("theta", 150, (0.0, 5.0), 1491.0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"; nothing\n",
        b"1 2\n",
        b"1 two 3\n",
        b"1 nan 3\n",
        b"1 1e300 3\n",
        b"\x1f\x8b broken",
        b"\x00\xff\n" * 200,
    ],
)
def test_what_is_no_log_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.swf"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"odd\.swf"):
        read_queue(path)


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_queue(tmp_path / "none.swf")


def test_a_rotated_log_has_the_same_jobs_at_other_times() -> None:
    log = log_of(3)
    first, second = rotated(log, 2)
    assert first.jobs == log.jobs
    assert sorted(wait for _, wait in second.jobs) == sorted(wait for _, wait in log.jobs)
    assert second.wait_at(0) == log.wait_at(log.length / 2)


def test_a_prediction_knows_only_jobs_that_have_started() -> None:
    log = QueueLog("q", [(0.0, 10.0), (1.0, 500.0), (2.0, 20.0)], 1000.0)
    assert log.predicted_at(5) == 0
    assert log.predicted_at(30) == 15
    assert log.predicted_at(501) == 20


def test_a_prediction_forgets_what_is_long_ago() -> None:
    log = QueueLog("q", [(i, 1000.0) for i in range(50)] + [(5000.0 + i, 1.0) for i in range(LAST)], 9000.0)
    assert log.predicted_at(4000) == 1000
    assert log.predicted_at(6000) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_bound_is_exceeded_about_as_often_as_it_says(seed: int) -> None:
    rng = random.Random(seed)
    log = QueueLog("q", [(600.0 * i, rng.lognormvariate(5, 2)) for i in range(3000)], 600.0 * 3000)
    exceeded = log.exceeded()
    assert exceeded is not None
    assert 0.02 <= exceeded <= 0.06


def test_a_short_log_has_no_bound() -> None:
    assert QueueLog("q", [(0.0, 1.0)], 10.0).exceeded() is None


def test_an_order_is_given_to_a_policy_that_has_none() -> None:
    policy = usual_policy(Setting())
    assert not prefers(policy)
    assert prefers(preferring(policy, ["b", "a"]))
    assert not prefers(NamedPolicy("p", {"policy": {"sites": {"deny": ["x"]}}}))


def test_predicted_waits_get_at_least_half_of_what_racing_saves() -> None:
    setting = Setting(stage=HOUR, every=1200.0, starts=16, limit=12 * HOUR)
    found = compare_waits(rotated(log_of(30), 3), setting, [usual_policy(setting)])
    told = found.policies["crossfade"]
    assert told.done == 1
    assert (told.double_submissions, told.products_not_one) == (0, 0)
    assert told.over_oracle is not None
    assert told.over_oracle >= 1 - 1e-9
    assert gains(found)["crossfade"].mean >= 0.5
    assert gains(found)["race"] == Gain(1, 1)
    assert gains(found)["stay"] == Gain(0, 0)


@pytest.mark.slow
def test_predicted_waits_on_a_recorded_log() -> None:
    if not THETA.is_file():
        pytest.skip("the recorded queue log is not here; it is not ours to ship")
    setting = Setting(stage=2 * HOUR)
    log = read_queue(THETA)
    exceeded = log.exceeded()
    assert exceeded is not None
    assert 0.03 <= exceeded <= 0.07
    found = compare_waits(rotated(log, 3), setting, [usual_policy(setting)])
    assert gains(found)["crossfade"].median >= 0.5
    assert found.policies["crossfade"].products_not_one == 0
