"""globus-cli in an environment of its own: it wants another globus-sdk than we do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tool_kit

FOLDER = Path(__file__).resolve().parents[1] / ".venv-globus-cli"
WANTED = ("globus-cli==3.43.0", "globus-cli")
"""The one that was looked at, or else the newest that can be had."""


def require_globus_cli() -> Path:
    """The program, installed at the first call. Where that cannot be, the test is skipped; with CI=true it fails."""
    program = FOLDER / "bin" / "globus"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes run tests, too
        wrong = "" if program.exists() else _install()
    if not wrong:
        return program
    reason = f"globus-cli cannot be installed: {wrong}"
    if tool_kit.in_ci():
        pytest.fail(reason)
    pytest.skip(reason)


def _install() -> str:
    """What is wrong; empty: it is there."""
    wrong = _run(sys.executable, "-m", "venv", str(FOLDER))
    if wrong:
        return wrong
    for wanted in WANTED:
        wrong = _run(str(FOLDER / "bin" / "python"), "-m", "pip", "install", "-q", wanted)
        if not wrong:
            return ""
    return wrong


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def environment(home: Path, client_id: str, secret: str, addresses: dict[str, str]) -> dict[str, str]:
    """What it is run with: nothing of whoever runs the tests."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "GLOBUS_CLI_CLIENT_ID": client_id,
        "GLOBUS_CLI_CLIENT_SECRET": secret,
        **addresses,
    }
