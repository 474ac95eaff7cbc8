"""What a simulated job would do, read from the payload's own text.

A line such as `: sim seconds=3600 checkpoint_every=900 outputs=a.txt:100` is a no-op for a real shell, so one
document runs at simulated and at real sites. Several such lines add up; without any the payload ends at once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from connectors.errors import UnsafePath
from connectors.paths import file_path
from sandbox.blob import Blob

_WORDS = "seconds, exit, outputs, checkpoint_every, checkpoint_bytes, checkpoint_notice, fail_at, oom_at, deaf, tag"
MAX_TEXT = 1 << 20
"""Bytes of payload text that are looked at."""


class BadSimLine(ValueError):
    """A `: sim` line says something that the sandbox does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The work itself. Equal `: sim` words give equal outputs, at every site and from every checkpoint.

    The rest of the text does not count: a `restart:` command and values of a site's own may differ.
    """

    fingerprint: str = "unscripted"
    scripted: bool = False
    """Is there a `: sim` line at all?"""
    seconds: float = 0.0
    exit_code: int = 0
    outputs: tuple[tuple[str, int], ...] = ()
    """Path and bytes."""
    checkpoint_every: float = 0.0
    """Seconds of work; 0: the payload writes no checkpoints."""
    checkpoint_bytes: int = 64
    checkpoint_notice: float = 0.0
    """Seconds of warning that it needs to save itself when it is asked to."""
    fail_at: float | None = None
    """Seconds of work after which it exits with `exit_code` (1 if that is 0), every time."""
    oom_at: float | None = None
    """Seconds of work after which it asks for more memory than there is."""
    deaf: bool = False
    """Does not react to signals and requests."""

    def output(self, path: str, size: int | None = None) -> Blob:
        """The content of one output; `size` None: one line of text."""
        line = f"{path} {self.fingerprint}\n".encode()
        return Blob(line, len(line)) if size is None else Blob(line[:size], size)

    def saved(self, progress: float) -> Blob:
        """The checkpoint's one file, which tells how much work is done."""
        line = f"progress={progress!r} {self.fingerprint}\n".encode()
        return Blob(line, max(len(line), self.checkpoint_bytes))

    def restored(self, content: bytes) -> float:
        """Seconds of work that a checkpoint holds. Raises ValueError when it is torn or another payload's."""
        line, end, _ = content.partition(b"\n")
        words = line.decode("ascii", "replace").split(" ")
        if not end or len(words) != 2 or words[1] != self.fingerprint or not words[0].startswith("progress="):
            raise ValueError("not a checkpoint of this payload")
        return float(words[0].removeprefix("progress="))


_SIM_LINE = re.compile(rb"^[ \t]*:[ \t]+sim(?:[ \t]+([^\r\n]*))?\r?$", re.MULTILINE)


def sim_lines(text: bytes) -> tuple[bytes, ...]:
    """The words of each `: sim` line."""
    if b" sim" not in text:
        return ()
    return tuple(_SIM_LINE.findall(text[:MAX_TEXT]))


@lru_cache(maxsize=1024)
def parse_payload(lines: tuple[bytes, ...]) -> Payload:
    """The payload that `sim_lines` tells of. Raises BadSimLine."""
    if not lines:
        return Payload()
    words = [word for line in lines for word in line.decode("utf-8", "replace").split()]
    fingerprint = hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()[:16]
    payload = Payload(scripted=True, fingerprint=fingerprint)
    for word in words:
        payload = _with(payload, word)
    return payload


def _with(payload: Payload, word: str) -> Payload:
    name, equals, value = word.partition("=")
    if not equals:
        raise BadSimLine(f"`: sim` line: {word!r} is not of the form name=value")
    try:
        return _set(payload, name, value)
    except ValueError as error:
        if isinstance(error, BadSimLine):
            raise
        raise BadSimLine(f"`: sim` line: {name} cannot be {value!r}") from None


def _set(payload: Payload, name: str, value: str) -> Payload:
    match name:
        case "seconds":
            return replace(payload, seconds=_amount(value))
        case "exit":
            return replace(payload, exit_code=int(value) & 0xFF)
        case "outputs":
            return replace(payload, outputs=payload.outputs + _outputs(value))
        case "checkpoint_every":
            return replace(payload, checkpoint_every=_amount(value))
        case "checkpoint_bytes":
            return replace(payload, checkpoint_bytes=int(_amount(value)))
        case "checkpoint_notice":
            return replace(payload, checkpoint_notice=_amount(value))
        case "fail_at":
            return replace(payload, fail_at=_amount(value))
        case "oom_at":
            return replace(payload, oom_at=_amount(value))
        case "tag":
            return payload
        case "deaf":
            return replace(payload, deaf=value not in ("0", "no", "false"))
    raise BadSimLine(f"`: sim` line: no word {name!r}; there are: {_WORDS}")


def _amount(value: str) -> float:
    amount = float(value)
    if not 0 <= amount < 1e15:
        raise ValueError("out of range")
    return amount


def _outputs(value: str) -> tuple[tuple[str, int], ...]:
    found = []
    for item in value.split(","):
        path, _, size = item.rpartition(":")
        try:
            found.append((file_path(path), int(_amount(size))))
        except (UnsafePath, ValueError) as error:
            what = f"`: sim` line: an output is path:bytes, with a relative path; not {item!r}"
            raise BadSimLine(what) from error
    return tuple(found)
