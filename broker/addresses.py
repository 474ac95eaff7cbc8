"""Addresses of servers with their secrets: parsed once, shown without what must not be seen."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

from broker.errors import UsageError

LONGEST_SECRET = 4096
"""Bytes of a file that holds a password."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's URL. Its text, as `str` and in every message, holds no password."""

    url: str = field(repr=False)
    """With the password: for the driver alone."""

    @property
    def shown(self) -> str:
        """The URL with the password left out."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        user, host = quote(unquote(parts.username or "")), parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    def __str__(self) -> str:
        return self.shown


def read_address(environ: Mapping[str, str], variable: str, schemes: tuple[str, ...]) -> Address | None:
    """The address in `variable`, its password from the file that `variable`_PASSWORD_FILE names; None: not set.

    Raises UsageError without repeating what might be a password.
    """
    url = environ.get(variable, "").strip()
    if not url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed when asked for
    except ValueError as error:
        raise UsageError(f"{variable} is no address", help=f"write {schemes[0]}://user@host/...") from error
    if parts.scheme not in schemes:
        raise UsageError(
            f"{variable} begins with {parts.scheme or 'no scheme'}", help=f"one of: {', '.join(schemes)} (then ://...)"
        )
    if (
        parts.scheme.startswith("redis") and "ssl_" in parts.query
    ):  # these would win over what we ask for, and might switch verification off
        raise UsageError(
            f"{variable} holds ssl_ options", help=f"name the CA in {variable}_CA_FILE; rediss:// verifies"
        )
    _check_rest(parts, variable)
    file = environ.get(f"{variable}_PASSWORD_FILE", "").strip()
    if not file:
        return Address(url)
    if parts.password is not None:
        raise UsageError(
            f"{variable} holds a password, and {variable}_PASSWORD_FILE names another", help="keep the file"
        )
    netloc = (
        f"{parts.username or ''}:{quote(read_secret(Path(file), variable), safe='')}@{parts.netloc.rpartition('@')[2]}"
    )
    return Address(urlunsplit(parts._replace(netloc=netloc)))


def _check_rest(parts: SplitResult, variable: str) -> None:
    """What drivers would notice late, in words of their own, or in a thread of theirs. Raises UsageError."""
    if parts.scheme in ("redis", "rediss") and not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise UsageError(f"{variable} ends with no number of a database", help=f"write {parts.scheme}://user@host/0")
    for name, value in parse_qsl(parts.query):
        if name == "pool_size" and not (re.fullmatch(r"[0-9]{1,4}", value) and int(value) > 0):
            raise UsageError(f"{variable}: pool_size is no number of connections", help="write ?pool_size=16")


def read_secret(path: Path, variable: str) -> str:
    """The one line of a file that not everybody may read. Raises UsageError."""
    where = f"{variable}_PASSWORD_FILE"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = file.read(LONGEST_SECRET + 1)
    except OSError as error:
        raise UsageError(
            f"{where}: cannot read {path}: {error.strerror}",
            help="write the password there, as one line, in a file that the user of this process may read",
        ) from error
    if mode & stat.S_IROTH and not str(path).startswith("/run/secrets/"):
        raise UsageError(f"{where}: everybody may read {path}", help=f"chmod 600 {path}")
    try:
        secret = data.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: {path} holds no text", help="write the password there, as one line") from error
    if not secret or len(data) > LONGEST_SECRET or "\n" in secret:
        raise UsageError(f"{where}: {path} must hold one line", help="write the password there, and nothing else")
    return secret
