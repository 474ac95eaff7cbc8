"""The installation's token: 256 bits in a file that its owner alone may read. Who shows it may do everything."""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from broker.config import Settings
from broker.errors import NotFound, Unwritable, UsageError

BYTES = 32
LONGEST = 1024
"""Bytes of a token's file."""

_TOKEN = re.compile(r"[A-Za-z0-9_~.+/-]{32,512}={0,2}")
_BEARER = re.compile(rb"bearer +([\x21-\x7e]{1,1024}) *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Token:
    """What a client must show. Never shown by itself."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "***"

    @property
    def header(self) -> str:
        """For a client's `Authorization`."""
        return f"Bearer {self.value}"

    def is_shown_by(self, authorization: bytes) -> bool:
        """Is this the header of somebody who has the token? Takes as long for a wrong one as for the right one."""
        found = _BEARER.fullmatch(authorization)
        return hmac.compare_digest(found[1] if found else b"", self.value.encode())


def shown_token(authorization: bytes) -> bytes | None:
    """What a header shows, where it has the form of a token."""
    found = _BEARER.fullmatch(authorization)
    return found[1] if found and _TOKEN.fullmatch(found[1].decode("ascii")) else None


def read_or_make_token(settings: Settings) -> Token:
    """The installation's token, made at first use; two who make it at once get the same one.

    Raises UsageError for a file that others may read, Unwritable.
    """
    path = settings.token
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise Unwritable(f"cannot use {path}: {error.strerror}", help="check the folder and its disk") from error


def read_token(settings: Settings) -> Token:
    """The token that a server made. Raises NotFound, UsageError."""
    path = settings.token
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise NotFound(f"there is no token at {path}", help="a server makes it: crossfade serve") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", help="become the user who serves") from error


def _make(path: Path) -> None:
    """Written whole beside its place, then linked there: whoever is second finds the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> Token:
    # NONBLOCK: a pipe in its place must not hold us up
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is no plain file", help="remove it; the next `crossfade serve` makes another")
        if status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):o}"
            cure = f"remove it, so that a new one is made, or, if nobody has read it, chmod 600 {path}"
            raise UsageError(f"others may read {path} (mode {mode}): the token in it may be known", help=cure)
        if status.st_uid not in (os.geteuid(), 0):
            raise UsageError(f"{path} belongs to somebody else", help="become the user who serves")
        text = file.read(LONGEST + 1).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(text):
        raise UsageError(f"{path} holds no token", help="32 to 512 letters, digits, `-`, `_`, or remove it")
    return Token(text)
