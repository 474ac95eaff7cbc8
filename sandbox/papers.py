"""What a job's control files tell the harness: its bounds, its declared outputs, and the payload."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

from connectors.harness import Manifest, format_manifest
from connectors.model import SmallFile
from sandbox.blob import Blob
from sandbox.payload import Payload, parse_payload, sim_lines

_NUMBERS = re.compile(rb"^cf_([a-z_]+)='([0-9]{1,18})'$", re.MULTILINE)
_WORDS = re.compile(rb"^cf_(ask_kind|duplicates)='([a-z]+)'$", re.MULTILINE)
_SECOND = 1_000_000
_OWN_LINES = 2
"""`cf_key` and `cf_digest` lead `job.conf`, and are the only lines that all jobs of a sweep have different."""


class Papers:
    """Read once for all jobs that say the same; never changed."""

    def __init__(self, *, payload: Payload, conf: bytes, outputs: bytes) -> None:
        numbers = {name.decode(): int(value) for name, value in _NUMBERS.findall(conf)}
        words = {name.decode(): value.decode() for name, value in _WORDS.findall(conf)}
        self.payload = payload
        self.beat = numbers.get("beat", 15)
        self.fence = numbers.get("fence", 60)
        """Seconds."""
        self.grace = numbers.get("grace", 10)
        self.before_end = numbers.get("before_end", 0)
        self.every = numbers.get("every")
        self.keep = numbers.get("keep", 2)
        self.can_ask = words.get("ask_kind", "") != ""
        """Did the document say how this payload is asked for a checkpoint?"""
        self.one_generation = words.get("duplicates", "allow") != "allow"
        """A requeue may not begin without a person."""
        self.restore_seq = numbers.get("restore")
        self.restores = self.restore_seq is not None or not conf
        """Without `job.conf` a checkpoint that lies in the restore folder is used as it is."""
        self._start_before = numbers.get("start_before")
        self._stop_before = numbers.get("stop_before")
        self._walltime = numbers.get("walltime")
        self.made = _made(payload, outputs)
        """Path and content of every file that the payload leaves."""
        self.manifest = _manifest(self.made, outputs)
        """`outputs.manifest` of those among them that are declared: its bytes, its digest, its count."""
        self.missing = _missing(self.made, outputs)
        """Required outputs of which the payload leaves no file."""

    def too_late(self, now: int) -> bool:
        if self._start_before is not None and now // _SECOND > self._start_before:
            return True
        end = self.end(now)
        return end is not None and now >= end

    def end(self, started_at: int) -> int | None:
        """When the wrapper tells the payload to end (µs); None: never."""
        bound = self._bound(started_at)
        return None if bound is None else bound - self.lead(started_at)

    def lead(self, started_at: int) -> int:
        """Microseconds kept for the payload's ending."""
        bound = self._bound(started_at)
        return 0 if bound is None else min(self.grace * _SECOND, max(0, bound - started_at) // 10)

    def _bound(self, started_at: int) -> int | None:
        bounds = [] if self._stop_before is None else [self._stop_before * _SECOND]
        if self._walltime is not None:
            bounds.append(started_at + self._walltime * _SECOND)
        return min(bounds, default=None)


def read_papers(files: Sequence[SmallFile]) -> Papers:
    """From a job's own files. Raises BadSimLine."""
    conf = payload = outputs = b""
    for item in files:
        if item.path == ".crossfade/payload.sh":
            payload = item.content
        elif item.path == ".crossfade/job.conf":
            conf = item.content.split(b"\n", _OWN_LINES)[-1]
        elif item.path == ".crossfade/outputs":
            outputs = item.content
    return _papers(sim_lines(payload), conf, outputs)


@lru_cache(maxsize=512)
def _papers(lines: tuple[bytes, ...], conf: bytes, outputs: bytes) -> Papers:
    return Papers(payload=parse_payload(lines), conf=conf, outputs=outputs)


@lru_cache(maxsize=512)
def _declared(outputs: bytes) -> tuple[tuple[bool, str], ...]:
    pairs = [line.partition(" ") for line in outputs.decode("utf-8", "replace").splitlines()]
    return tuple((word == "required", path) for word, _, path in pairs if word in ("required", "optional") and path)


def _made(payload: Payload, outputs: bytes) -> tuple[tuple[str, Blob], ...]:
    """What the `: sim` line says; without one, a line of text for each declared output, so that a document
    written for real sites can be rehearsed as it is."""
    if payload.scripted:
        return tuple((path, payload.output(path, size)) for path, size in payload.outputs)
    return tuple((path, payload.output(path)) for _, path in _declared(outputs))


def _manifest(made: tuple[tuple[str, Blob], ...], outputs: bytes) -> tuple[bytes, str, int]:
    declared = [path for _, path in _declared(outputs)]
    files = tuple(
        (path, blob.size, blob.sha256)
        for path, blob in sorted(made, key=lambda item: item[0].encode())
        if any(_covers(name, path) for name in declared)
    )
    if not files:
        return b"", "", 0
    content = format_manifest(Manifest(files=files, seq=0))
    return content, hashlib.sha256(content).hexdigest(), len(files)


def _missing(made: tuple[tuple[str, Blob], ...], outputs: bytes) -> tuple[str, ...]:
    return tuple(
        name for required, name in _declared(outputs) if required and not any(_covers(name, path) for path, _ in made)
    )


def _covers(declared: str, path: str) -> bool:
    return path == declared or path.startswith(declared + "/")
