"""Persons who ask over HTTP under names of their own, each with a token that nobody else has.

The server knows the tokens' digests alone: who reads its file cannot ask as somebody else.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.api.auth import shown_token
from broker.config import Settings
from broker.errors import UsageError

LARGEST = 1 << 20
"""Bytes of the file."""

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63})[ \t]+(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class People:
    """Names by the SHA-256 of their tokens, as hex."""

    names: Mapping[str, str] = field(default_factory=dict, repr=False)

    def who(self, authorization: bytes) -> str | None:
        """Whose token this header shows; None: nobody's. A digest is looked up, so the time that it takes tells nothing
        of a token."""
        token = shown_token(authorization)
        return None if token is None else self.names.get(hashlib.sha256(token).hexdigest())


NOBODY = People()


def read_people(settings: Settings) -> People:
    """Those of the file; nobody where there is none. Raises UsageError for a file that others may write to, or that
    cannot be read or understood."""
    path = settings.people
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return NOBODY
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", help="become the user who serves") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
            cure = f"it must be a plain file of the user who serves: chmod go-w {path}"
            raise UsageError(f"others may change {path}, and with it who may confirm what", help=cure)
        return People(_names(path, file.read(LARGEST + 1)))


def _names(path: Path, content: bytes) -> dict[str, str]:
    if len(content) > LARGEST:
        raise UsageError(f"{path} is too large")
    names: dict[str, str] = {}
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise UsageError(f"{path}:{number}: write NAME and the SHA-256 of that person's token, as hex")
        if names.setdefault(found["digest"].lower(), found["name"]) != found["name"]:
            raise UsageError(f"{path}:{number}: two persons have the same token", help="each makes one of his own")
    return names
