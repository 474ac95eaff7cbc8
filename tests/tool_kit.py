"""Tools that a test may need and a machine may lack: skipped at a developer's desk, failed where CI=true."""

from __future__ import annotations

import os
import shutil

import pytest


def in_ci() -> bool:
    """Is every test meant to run here?"""
    return os.environ.get("CI") == "true"


def require_tool(name: str) -> str:
    """Where that program is. Without it the test is skipped; with CI=true it fails."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is not installed (make test installs it where it may)"
    if in_ci():
        pytest.fail(reason)
    pytest.skip(reason)
