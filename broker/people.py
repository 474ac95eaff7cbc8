"""Who a person is, as the operating system knows it: for what takes two persons, no variable's word is enough."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

_LOGIN = Path("/proc/self/loginuid")
_NOBODY = (1 << 32) - 1
"""What the kernel says of a process that no login has led to."""


def whoami() -> str:
    """The user who logged in, also behind `sudo` and `su` where the kernel keeps that; else this process' user. The
    bare number where the machine knows no name for it (containers)."""
    login = _login()
    return _name(os.getuid() if login is None else login)


def _login() -> int | None:
    try:
        login = int(_LOGIN.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if login == _NOBODY else login


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
