"""Secrets: values that reach a site and nothing else.

A `Secret` shows itself to nobody who does not ask for it by name. What it holds is remembered, so that `scrub` can
take it out of any text on its way to a log, an exception or a row.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from connectors.errors import CredentialError

LARGEST = 1 << 16
"""Bytes of a credentials file."""
MASK = "[secret]"
_SHORTEST = 8
"""Characters; a shorter value would be taken out of innocent texts."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_lock = threading.Lock()
_known: set[str] = set()


class Secret:
    """A value that is not shown. Compare and print it freely: neither tells what it is."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> str:
        """The value, for whoever sends it to the site."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not stored")


def remember(value: str) -> None:
    """Take this value out of texts from now on; of several lines, each by itself, too."""
    with _lock:
        _known.update(part for part in (value, *value.splitlines()) if len(part.strip()) >= _SHORTEST)


def scrub(text: str) -> str:
    """The text without any secret that this process knows."""
    with _lock:
        known = sorted((value for value in _known if value in text), key=len, reverse=True)
    for value in known:
        text = text.replace(value, MASK)
    return text


def scrub_bytes(data: bytes) -> bytes:
    """As `scrub`, for what need not be text."""
    with _lock:
        known = sorted((value.encode() for value in _known), key=len, reverse=True)
    for value in known:
        data = data.replace(value, MASK.encode())
    return data


def secret_from(reference: str, *, site: str = "", env: Mapping[str, str] = os.environ) -> Secret:
    """What `env:NAME` or `file:PATH` refers to. Raises CredentialError, which says how to mend it.

    A file must be ours and closed to others (mode 0600 or 0400), as ssh asks of its keys.
    """
    kind, _, rest = reference.partition(":")
    if kind == "env" and _VARIABLE.fullmatch(rest):
        value = env.get(rest, "")
        if not value:
            raise CredentialError(f"the environment variable {rest} is not set", site=site)
        return Secret(value)
    if kind == "file" and rest:
        return Secret(_read(Path(os.path.expanduser(rest)), site).strip())
    raise CredentialError("a credential is given as env:NAME or file:PATH, never as itself", site=site)


def private_file(path: Path, *, site: str = "") -> bytes:
    """The content of a credentials file, which must be ours and closed to others. Raises CredentialError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CredentialError(f"credentials file {path}: {error.strerror}", site=site) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise CredentialError(f"credentials file {path} is no regular file", site=site)
        if status.st_uid not in {os.geteuid(), 0}:
            raise CredentialError(f"credentials file {path} belongs to another user", site=site)
        if status.st_mode & 0o077:
            mode = oct(stat.S_IMODE(status.st_mode))[2:]
            raise CredentialError(f"others may use credentials file {path} (mode {mode}): chmod 600 {path}", site=site)
        content = os.read(fd, LARGEST + 1)
    finally:
        os.close(fd)
    if len(content) > LARGEST:
        raise CredentialError(f"credentials file {path} is larger than {LARGEST} bytes", site=site)
    return content


def _read(path: Path, site: str) -> str:
    try:
        return private_file(path, site=site).decode()
    except UnicodeDecodeError as error:
        raise CredentialError(f"credentials file {path} is no text", site=site) from error
