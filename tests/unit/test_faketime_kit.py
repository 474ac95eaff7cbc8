"""The clock of a child process, seen from inside and from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

from faketime_kit import SLEEPS, clock

HOUR = 3600.0
TELL = """
import json, sys, threading, time
began = time.monotonic()
wall = time.time()
threading.Event().wait(float(sys.argv[1]))
print(json.dumps([wall, began, time.time() - wall, time.monotonic() - began]))
"""


class Seen(NamedTuple):
    """A child's clocks: wall clock and monotonic one less ours (seconds), and how far each went in a wait."""

    wall: float
    monotonic: float
    wall_went: float
    monotonic_went: float
    lasted: float


def child(*, waits: float = 0.2, **options: float) -> Seen:
    wall, monotonic = time.time(), time.monotonic()
    environment = os.environ | clock(**options)
    done = subprocess.run(
        [sys.executable, "-I", "-c", TELL, str(waits)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""  # the loader tells of a library that it does not find
    there, counted, wall_went, counted_went = json.loads(done.stdout)
    return Seen(there - wall, counted - monotonic, wall_went, counted_went, time.monotonic() - monotonic)


def test_a_child_lives_an_hour_ahead_and_counts_seconds_as_we_do() -> None:
    seen = child(ahead=HOUR)
    assert HOUR <= seen.wall <= HOUR + seen.lasted
    assert 0 <= seen.monotonic <= seen.lasted


def test_a_child_lives_an_hour_behind() -> None:
    seen = child(ahead=-HOUR)
    assert -HOUR <= seen.wall <= -HOUR + seen.lasted
    assert 0 <= seen.monotonic <= seen.lasted


def test_the_clock_for_timeouts_is_shifted_too_where_that_is_wanted() -> None:
    assert abs(child(ahead=HOUR, monotonic_too=True, waits=0).monotonic) > HOUR / 2


def test_a_child_s_wall_clock_goes_faster_than_the_seconds_it_counts() -> None:
    seen = child(pace=10.0)
    assert seen.wall_went > 5 * seen.monotonic_went > 0


def test_a_child_sleeps_as_long_as_it_wants_to() -> None:
    program = f"{SLEEPS}\nbefore = time.monotonic()\ntime.sleep(0.05)\nassert time.monotonic() - before >= 0.05\n"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **clock(ahead=3600)}, check=False, timeout=30
    )
    assert done.returncode == 0
