"""How processes of one user talk about simulated sites: frames on a Unix socket.

A frame is four bytes of length, and a pickle that may hold plain values, paths and the nouns of `connectors.model`,
nothing else: reading one calls no code but the constructors in `_NOUNS`. Each side also asks the kernel who the other
one is; only the same user is talked to.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from connectors import errors
from connectors.errors import BadReply, SiteBusy, SiteError
from connectors.model import (
    Accepted,
    Doubtful,
    Evidence,
    FileInfo,
    JobSpec,
    JobState,
    JobStatus,
    LaneLimits,
    Listing,
    Origin,
    Refused,
    Reservation,
    Resources,
    SmallFile,
    Tariff,
    Ticket,
    Transfer,
    TransferItem,
    TransferState,
    TransferStatus,
)
from connectors.registry import GlobusConfig, SiteConfig

MAX_FRAME = 64 << 20
"""Bytes."""
_HEADER = struct.Struct(">I")
_UCRED = struct.Struct("3i")

_CLASSES: tuple[type, ...] = (
    *(Accepted, Doubtful, Evidence, FileInfo, JobSpec, JobStatus, Listing, Refused, Resources, SiteConfig, SmallFile),
    *(GlobusConfig, LaneLimits, Origin, Reservation, Tariff, Ticket, Transfer, TransferItem, TransferStatus),
)
_NAMES: dict[str, tuple[str, ...]] = {kind.__name__: tuple(item.name for item in fields(kind)) for kind in _CLASSES}
_NOUNS = {kind.__name__: kind for kind in _CLASSES}
_STATES = {"JobState": JobState, "TransferState": TransferState}
_ERRORS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, SiteError)}


class Foreign(Exception):
    """The other side is not of this user, or what it says is not of this kind."""


class Ended(OSError):
    """The other side has hung up."""


# -- values ------------------------------------------------------------------------------------------------


def _noun(name: str, *values: Any) -> Any:
    made: Any = object.__new__(_NOUNS[name])
    for field, value in zip(_NAMES[name], values, strict=True):
        object.__setattr__(made, field, value)
    return made


def _state(kind: str, value: str) -> Any:
    return _STATES[kind](value)


def _path(words: str) -> Path:
    return Path(words)


def _how(kind: type) -> Callable[[Any], tuple[Callable[..., Any], tuple[Any, ...]]]:
    name = kind.__name__
    values: Callable[[Any], Any] = attrgetter(*_NAMES[name])
    if len(_NAMES[name]) == 1:
        return lambda made: (_noun, (name, values(made)))
    return lambda made: (_noun, (name, *values(made)))


# the pickler's own way with frozen classes asks each field of each object for its name: ten times slower
_TABLE: dict[type, Callable[[Any], Any]] = {
    **{kind: _how(kind) for kind in _CLASSES},
    JobState: lambda state: (_state, ("JobState", state.value)),
    TransferState: lambda state: (_state, ("TransferState", state.value)),
    type(Path()): lambda path: (_path, (str(path),)),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name in ("_noun", "_state", "_path"):
            return globals()[name]
        raise Foreign(f"a frame that asks for {module[:40]}.{name[:40]}")


def packed(value: object) -> bytes:
    """One frame. Raises ValueError when it would be too large."""
    stream = io.BytesIO()
    stream.write(bytes(_HEADER.size))
    writer = pickle.Pickler(stream, protocol=5)
    writer.dispatch_table = _TABLE
    writer.dump(value)
    size = stream.tell() - _HEADER.size
    if size > MAX_FRAME:
        raise ValueError(f"{size} bytes are too many for one call (at most {MAX_FRAME})")
    stream.seek(0)
    stream.write(_HEADER.pack(size))
    return stream.getvalue()


def unpacked(body: bytes) -> Any:
    """What a frame's body says. Raises Foreign."""
    try:
        return _Reader(io.BytesIO(body)).load()
    except Foreign:
        raise
    except Exception as error:
        raise Foreign(f"a frame that cannot be read: {type(error).__name__}") from error


# -- frames ------------------------------------------------------------------------------------------------


def send(line: socket.socket, frame: bytes) -> None:
    line.sendall(frame)


def receive(line: socket.socket) -> Any:
    """The next frame's value. Raises Ended, Foreign, OSError (TimeoutError)."""
    (size,) = _HEADER.unpack(_exactly(line, _HEADER.size))
    if size > MAX_FRAME:
        raise Foreign(f"a frame of {size} bytes")
    return unpacked(_exactly(line, size))


def _exactly(line: socket.socket, size: int) -> bytes:
    first = line.recv(size)
    if len(first) == size:
        return first
    parts, missing = [first], size - len(first)
    while missing:
        if not parts[-1]:
            raise Ended("the other side has hung up")
        parts.append(line.recv(min(missing, 1 << 20)))
        missing -= len(parts[-1])
    return b"".join(parts)


def same_user(line: socket.socket) -> None:
    """Raises Foreign when the process at the other end is another user's. Where the kernel does not tell (not Linux),
    the folder's mode is all that keeps others out."""
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = _UCRED.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.geteuid():
            raise Foreign(f"the other side is user {uid}, not {os.geteuid()}")


# -- errors ------------------------------------------------------------------------------------------------


def told(error: SiteError) -> tuple[str, str, str, float | None]:
    """A site's error, to be raised again at the other end."""
    return type(error).__name__, str(error), error.site, getattr(error, "retry_after", None)


def raised(name: str, message: str, site: str, retry_after: float | None) -> SiteError:
    """The error that was told."""
    kind = _ERRORS.get(name, BadReply)
    if issubclass(kind, SiteBusy):
        return kind(message, site=site, retry_after=retry_after)
    return kind(message, site=site)


def close(line: socket.socket) -> None:
    with suppress(OSError):
        line.close()
