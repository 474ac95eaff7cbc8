"""Another clock for a child process, by libfaketime: shifted, or going at another pace."""

from __future__ import annotations

import subprocess

import tool_kit

SLEEPS = """
import threading, time
time.sleep = lambda seconds: threading.Event().wait(seconds) and None
"""
"""Python for a child to run first: below libfaketime every `time.sleep` fails with EINVAL, which no wrong clock does.
The lock's own wait, which Python takes for all other time-outs, is let through."""


def clock(*, ahead: float = 0.0, pace: float = 1.0, monotonic_too: bool = False) -> dict[str, str]:
    """Variables for a child's environment whose wall clock is `ahead` seconds (negative: behind) and goes at `pace`.

    The clock for time-outs stays as it is: a machine whose date is wrong still counts seconds right. With
    `monotonic_too` it is shifted as well, and then waits with a time-out end too late: Python waits until a moment of
    that clock, and the kernel, who wakes it, goes by the true one.
    """
    faked = f"{ahead:+f}s" + (f" x{pace:f}" if pace != 1.0 else "")
    own = {"FAKETIME": faked, "LD_PRELOAD": _library()}
    if not monotonic_too:
        # the second is the name that versions before 0.9.9 know
        own |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return own


def _library() -> str:
    """Where it is, for programs with threads: the program beside it knows."""
    program = tool_kit.require_tool("faketime")
    shown = subprocess.run([program, "-m", "-f", "+0s", "env"], capture_output=True, text=True, check=True, timeout=30)
    return dict(line.partition("=")[::2] for line in shown.stdout.splitlines())["LD_PRELOAD"]
