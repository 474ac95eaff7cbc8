"""Where a server listens: a socket in the home, or a port on loopback. Opened by us, so that no other rights apply."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.errors import BrokerError, Unwritable, UsageError

UNIX, NONE = "unix", "none"
BACKLOG = 128
LONGEST_PATH = 100
"""Bytes. The kernel takes 107 for a socket's path, some others 103."""

_PORT = re.compile(r"[0-9]{1,5}")


class AlreadyListening(BrokerError):
    """Another server has this place."""


@dataclass(frozen=True, slots=True)
class Port:
    """On loopback; port 0: any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_place(text: str) -> Port | None:
    """HOST:PORT on loopback; None: the socket in the home. Raises UsageError."""
    if text == UNIX:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not _PORT.fullmatch(port) or int(port) > 65_535:
        raise UsageError(f"cannot listen on {text!r}", help="--listen unix, none, or HOST:PORT such as 127.0.0.1:8787")
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if name.lower() == "localhost":
        return Port("127.0.0.1", int(port))
    try:
        loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UsageError(
            f"will not listen on {text!r}: {name} is no loopback address",
            help="the token would travel unencrypted; use 127.0.0.1 or [::1], and a tunnel from elsewhere: "
            "ssh -L 8787:127.0.0.1:8787 HOST",
        )
    return Port(name, int(port))


@contextmanager
def open_port(place: Port) -> Iterator[socket.socket]:
    """A listening socket there. Raises AlreadyListening, UsageError."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((place.host, place.port))
            opened.listen(BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AlreadyListening(f"another process listens on {place}", help="choose another port") from error
            raise UsageError(f"cannot listen on {place}: {error.strerror}", help="choose another place") from error
        yield opened


@contextmanager
def open_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, for its owner alone. What a dead server left there is taken over.

    Raises AlreadyListening for a live one, Unwritable, UsageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path), _bound(path) as opened:
            yield opened
    except OSError as error:
        raise Unwritable(f"cannot listen at {path}: {error.strerror or error}", help="check the folder") from error


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for `path` that is short enough for a socket's address, while the context lasts. Raises UsageError."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    if sys.platform != "linux":
        raise UsageError(f"{path} is too long for a socket", help="set CROSSFADE_HOME to a shorter path, or use a port")
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    status = path.parent.stat()
    if status.st_mode & 0o022:
        raise UsageError(f"others may write to {path.parent}, and put a socket of theirs there", help="chmod go-w it")
    with reachable(path) as name, contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as opened:
        _make_room(path, name)
        # before bind: there is no moment at which others may connect; the umask belongs to all threads
        os.fchmod(opened.fileno(), 0o600)
        opened.bind(name)
        path.chmod(0o600)
        opened.listen(BACKLOG)
        mine = path.lstat().st_ino
        try:
            yield opened
        finally:
            with contextlib.suppress(OSError):
                if path.lstat().st_ino == mine:
                    path.unlink()


def _make_room(path: Path, name: str) -> None:
    """Remove the socket of a server that is dead. Raises AlreadyListening, UsageError."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path} is there, and no socket", help="move it away")
    except FileNotFoundError:
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1)
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AlreadyListening(f"something listens at {path}: {error}") from error
    raise AlreadyListening(f"another process listens at {path}", help="stop it, or use --listen none")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Between two that start at once, the kernel chooses; it lets go when the process ends, however it ends."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "another"
            raise AlreadyListening(
                f"process {holder} listens at {path}", help="stop it, or use --listen none"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
