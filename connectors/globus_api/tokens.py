"""A person's Globus tokens, in one file that nobody else may read. Processes and threads may share it.

<home>/globus/<client id>.json     mode 0600; replaced whole, under a lock beside it
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from connectors.errors import CredentialError
from connectors.globus_api.faults import GLOBUS, NeedsLogin
from connectors.secrets import private_file, remember

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """For one resource server. `expires_at`: seconds since 1970."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: int
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a person's login has given."""

    tokens: Mapping[str, Token] = field(default_factory=dict)
    """By resource server."""
    identity: str = ""
    name: str = ""
    """As Globus writes it: somebody@example.org."""
    consents: Sequence[str] = ()
    """Collections whose data_access was consented to."""
    without: Sequence[str] = ()
    """Collections that were looked at, and want no such consent."""
    at: int = 0
    """µs."""


class TokenFile:
    """Reading and replacing it."""

    def __init__(self, folder: Path, client_id: str) -> None:
        if not _NAME.fullmatch(client_id):
            raise CredentialError("globus.client_id is no client's id", site=GLOBUS)
        self.path = folder / f"{client_id}.json"

    def stamp(self) -> tuple[int, int]:
        """Differs after every change."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def read(self) -> Login:
        """Raises NeedsLogin where there is none, CredentialError where others might read it or it makes no sense."""
        if not self.path.exists():
            raise NeedsLogin("globus: nobody has logged in yet")
        try:
            return _login(json.loads(private_file(self.path, site=GLOBUS)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise NeedsLogin(f"globus: {self.path} cannot be read as tokens; log in anew") from error

    def write(self, login: Login) -> None:
        """Replace it whole."""
        with self._locked():
            self._replace(login)

    def change(self, how: Callable[[Login], Login]) -> None:
        """Read, change and write, with nobody in between."""
        with self._locked():
            self._replace(how(self.read()))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, login: Login) -> None:
        content = json.dumps({"format": FORMAT, **asdict(login)}).encode()
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)


def refreshed(login: Login, server: str, token: Token) -> Login:
    """With a newer token; an answer without a refresh token keeps the one there is."""
    old = login.tokens.get(server)
    kept = replace(token, refresh=token.refresh or (old.refresh if old else ""))
    return replace(login, tokens={**login.tokens, server: kept})


def _login(raw: Mapping[str, object]) -> Login:
    if raw["format"] != FORMAT:
        raise ValueError("format")
    found = raw["tokens"]
    if not isinstance(found, dict):
        raise TypeError("tokens")
    tokens = {str(server): _token(values) for server, values in found.items()}
    return Login(
        tokens=tokens,
        identity=str(raw.get("identity", "")),
        name=str(raw.get("name", "")),
        consents=_texts(raw.get("consents")),
        without=_texts(raw.get("without")),
        at=int(str(raw.get("at", 0))),
    )


def _token(values: Mapping[str, object]) -> Token:
    access, refresh = str(values["access"]), str(values["refresh"])
    remember(access)
    remember(refresh)
    ends = int(str(values["expires_at"]))
    return Token(access=access, refresh=refresh, expires_at=ends, scope=str(values["scope"]))


def _texts(value: object) -> Sequence[str]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()
