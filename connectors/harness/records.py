"""The small records that a job leaves behind: written at the site by `stage.sh`, read here as foreign bytes.

RecordError          the bytes are no record of ours
└── TornRecord       the last line, `end`, is missing: half-written, or half-read; look again later

A record is text: `crossfade-<kind> 1`, then `key value` lines, then `end`. Lines rather than JSON, because a
POSIX shell must write them with nothing but `printf`. Parsing is strict and bounded; formatting is the exact
inverse, so that a simulated site writes the same bytes as a real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_RECORD_BYTES = 256 * 1024
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
MAX_ENTRIES = 200_000
MAX_PATH_BYTES = 4096
MAX_COMPONENT_BYTES = 255
MAX_NUMBER = 2**63 - 1

EXIT_KINDS = frozenset({"done", "failed", "timed_out", "stopped", "too_late", "restore_failed", "input_missing"})
SPOOL_KINDS = frozenset({"started", "checkpoint", "exit"})

_KEY = re.compile(r"[a-z0-9]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,1024}")
_SPOOL_NAME = re.compile(r"([a-z0-9]{1,64})\.([1-9][0-9]{0,8})\.([1-9][0-9]{0,8})\.(started|checkpoint|exit)")


class RecordError(ValueError):
    """These bytes are not a record that crossfade's harness wrote."""


class TornRecord(RecordError):
    """The record has no `end`: it was read or written half-way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """The payload of this generation is about to begin. `owner` is the claim's identity."""

    key: str
    generation: int
    """Counts from 1; one execution of the attempt."""
    owner: str
    host: str
    started_at: int
    native_id: str = ""
    """As the job itself knows it; empty where the site tells it nothing."""
    restore_seq: int | None = None
    """The checkpoint that was put back, verified; None: the payload begins from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """A checkpoint whose manifest is complete. It may have been pruned since: torn and absent are normal."""

    key: str
    generation: int
    seq: int
    path: str
    """The folder with `manifest` and `files/`, relative to the attempt's directory."""
    bytes: int
    manifest_digest: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How a generation ended. `done` says that the payload left with 0; whether that is success, the broker judges."""

    key: str
    generation: int
    kind: str
    """One of EXIT_KINDS."""
    exit_code: int
    signal: int | None
    started_at: int
    ended_at: int
    outputs_count: int
    """Files in `outputs.manifest`; listed only when the payload left with 0."""
    outputs_digest: str
    """sha256 of `outputs.manifest`; empty where there is none."""
    missing: tuple[str, ...] = ()
    """Required outputs that are not there, or that hold a link which leaves the directory; or, of a payload that was
    not started for that, inputs that are not there (100 at most)."""
    wrong_size: tuple[tuple[str, int], ...] = ()
    """Inputs that have not the size that they were brought with, and the bytes they have."""
    asked: str = ""
    """Why the payload was last asked to checkpoint: every, before_end, request, signal, stop, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The files of a checkpoint (or, with seq 0, of the outputs): (path, size, sha256) each."""

    files: tuple[tuple[str, int, str], ...]
    seq: int
    parent: int | None = None
    """The checkpoint that the payload had started from, or written before."""
    app: str = ""
    """The application's own version, where it said so."""


Record = StartRecord | CheckpointRecord | ExitRecord


def check_path(text: str) -> str:
    """The path itself, when it is relative and stays below its root; raises RecordError."""
    if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise RecordError(f"a path must have 1 to {MAX_PATH_BYTES} bytes")
    if "\\" in text or not _printable(text):
        raise RecordError(f"a path holds a character that is not allowed: {text[:80]!r}")
    for component in text.split("/"):
        if component in {"", ".", ".."} or len(component.encode()) > MAX_COMPONENT_BYTES:
            raise RecordError(f"a path must be relative, without `..` and empty parts: {text[:80]!r}")
    return text


def parse_record(data: bytes) -> Record:
    """The record in these bytes; raises TornRecord when its end is missing, RecordError when it is none."""
    kind, lines = _lines(data, MAX_RECORD_BYTES)
    parse = _PARSERS.get(kind)
    if parse is None:
        raise RecordError(f"unknown kind of record: {kind[:40]!r}")
    return parse(_Fields(lines, repeated=("missing", "wrong_size") if kind == "exit" else ()))


def format_record(record: Record) -> bytes:
    """The bytes that `stage.sh` would write; raises RecordError for a value that no reader would take."""
    match record:
        case StartRecord():
            kind, lines = "started", _start_lines(record)
        case CheckpointRecord():
            kind, lines = "checkpoint", _checkpoint_lines(record)
        case ExitRecord():
            kind, lines = "exit", _exit_lines(record)
    return _sealed(kind, lines, parse_record)


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in these bytes; raises TornRecord or RecordError. Every path is safe to join to a root."""
    kind, lines = _lines(data, MAX_MANIFEST_BYTES)
    if kind != "manifest":
        raise RecordError("this is a record, but not a manifest")
    fields = _Fields(lines, repeated=("file",))
    files = tuple(_file_entry(text) for text in fields.many["file"])
    if len({path for path, _, _ in files}) != len(files):
        raise RecordError("a manifest names a file twice")
    manifest = Manifest(
        files=files,
        seq=fields.number("seq"),
        parent=fields.optional_number("parent"),
        app=fields.text("app", default=""),
    )
    fields.nothing_left()
    return manifest


def format_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest, files in their given order."""
    lines = [f"seq {manifest.seq}"]
    if manifest.parent is not None:
        lines.append(f"parent {manifest.parent}")
    if manifest.app:
        lines.append(f"app {manifest.app}")
    lines += [f"file {sha256} {size} {path}" for path, size, sha256 in manifest.files]
    return _sealed("manifest", lines, parse_manifest)


def spool_name(key: str, generation: int, n: int, kind: str) -> str:
    """The name of a record in a site's spool; `n` counts a generation's records from 1, gaps are normal."""
    name = f"{key}.{generation}.{n}.{kind}"
    if not _SPOOL_NAME.fullmatch(name):
        raise RecordError(f"not a name for a record: {name[:120]!r}")
    return name


def parse_spool_name(name: str) -> tuple[str, int, int, str]:
    """(key, generation, n, kind); raises RecordError for every other file that lies in a spool."""
    found = _SPOOL_NAME.fullmatch(name)
    if found is None:
        raise RecordError(f"not the name of a record: {name[:120]!r}")
    key, generation, n, kind = found.groups()
    return key, int(generation), int(n), kind


# -- reading -----------------------------------------------------------------------------------------------


class _Fields:
    """`key value` lines, each key once, some keys any number of times; what is not asked for is refused."""

    def __init__(self, lines: Iterator[str], *, repeated: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        self.many: dict[str, list[str]] = {name: [] for name in repeated}
        for line in lines:
            name, space, value = line.partition(" ")
            if not space or not name or not value:
                raise RecordError(f"not a `key value` line: {line[:80]!r}")
            if (same := self.many.get(name)) is not None:
                same.append(value)
                if len(same) > MAX_ENTRIES:
                    raise RecordError(f"more than {MAX_ENTRIES} entries")
            elif name in self._values:
                raise RecordError(f"a line is there twice: {name[:40]!r}")
            else:
                self._values[name] = value

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self._values.pop(name, default)
        if value is None:
            raise RecordError(f"a line is missing: {name}")
        if not _TEXT.fullmatch(value):
            raise RecordError(f"a text is too long, or holds a control character: {name}")
        return value

    def number(self, name: str) -> int:
        return _number(self.text(name))

    def optional_number(self, name: str) -> int | None:
        return self.number(name) if name in self._values else None

    def word(self, name: str, form: re.Pattern[str]) -> str:
        value = self.text(name)
        if not form.fullmatch(value):
            raise RecordError(f"a value has not the form it should have: {name}")
        return value

    def path(self, name: str) -> str:
        value = self._values.pop(name, None)
        if value is None:
            raise RecordError(f"a line is missing: {name}")
        return check_path(value)

    def nothing_left(self) -> None:
        if self._values:
            raise RecordError(f"unknown line: {next(iter(self._values))[:40]!r}")


def _lines(data: bytes, limit: int) -> tuple[str, Iterator[str]]:
    """The kind, and the lines between head and `end`."""
    if len(data) > limit:
        raise RecordError(f"a record of {len(data)} bytes is too large (limit {limit})")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        # a cut through a character is a torn record, not a foreign one
        raise (TornRecord if not data.endswith(b"\nend\n") else RecordError)("not UTF-8") from error
    if not text.endswith("\nend\n"):
        raise TornRecord("the record has no end")
    head, *rest = text.split("\n")
    name, _, version = head.partition(" ")
    if not name.startswith("crossfade-") or version != "1":
        raise RecordError(f"not the head of a record: {head[:80]!r}")
    return name.removeprefix("crossfade-"), iter(rest[:-2])


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_NUMBER:
        raise RecordError(f"not a count: {text[:40]!r}")
    return int(text)


def _printable(text: str) -> bool:
    return all(_TEXT.fullmatch(text[at : at + 1024]) for at in range(0, len(text), 1024))


def _file_entry(text: str) -> tuple[str, int, str]:
    digest, _, rest = text.partition(" ")
    size, _, path = rest.partition(" ")
    if not _DIGEST.fullmatch(digest):
        raise RecordError("a manifest's file has no sha256")
    return check_path(path), _number(size), digest


def _sized_entry(text: str) -> tuple[str, int]:
    size, _, path = text.partition(" ")
    return check_path(path), _number(size)


def _parse_start(fields: _Fields) -> StartRecord:
    record = StartRecord(
        key=fields.word("key", _KEY),
        generation=fields.number("generation"),
        owner=fields.text("owner"),
        host=fields.text("host"),
        started_at=fields.number("started_at"),
        native_id=fields.text("native_id", default=""),
        restore_seq=fields.optional_number("restore_seq"),
    )
    fields.nothing_left()
    return record


def _parse_checkpoint(fields: _Fields) -> CheckpointRecord:
    record = CheckpointRecord(
        key=fields.word("key", _KEY),
        generation=fields.number("generation"),
        seq=fields.number("seq"),
        path=fields.path("path"),
        bytes=fields.number("bytes"),
        manifest_digest=fields.word("manifest_digest", _DIGEST),
        at=fields.number("at"),
    )
    fields.nothing_left()
    return record


def _parse_exit(fields: _Fields) -> ExitRecord:
    digest = fields.text("outputs_digest", default="")
    if digest and not _DIGEST.fullmatch(digest):
        raise RecordError("a value has not the form it should have: outputs_digest")
    record = ExitRecord(
        key=fields.word("key", _KEY),
        generation=fields.number("generation"),
        kind=fields.text("kind"),
        exit_code=fields.number("exit_code"),
        signal=fields.optional_number("signal"),
        started_at=fields.number("started_at"),
        ended_at=fields.number("ended_at"),
        outputs_count=fields.number("outputs_count"),
        outputs_digest=digest,
        missing=tuple(check_path(path) for path in fields.many["missing"]),
        wrong_size=tuple(_sized_entry(text) for text in fields.many["wrong_size"]),
        asked=fields.text("asked", default=""),
    )
    if record.kind not in EXIT_KINDS:
        raise RecordError(f"unknown kind of end: {record.kind[:40]!r}")
    fields.nothing_left()
    return record


_PARSERS: Mapping[str, Callable[[_Fields], Record]] = {
    "started": _parse_start,
    "checkpoint": _parse_checkpoint,
    "exit": _parse_exit,
}

# -- writing -----------------------------------------------------------------------------------------------


def _sealed(kind: str, lines: list[str], parse: Callable[[bytes], object]) -> bytes:
    """Head, lines, end; and read once, so that nothing is written that nobody could read."""
    text = "\n".join([f"crossfade-{kind} 1", *lines, "end", ""])
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise RecordError("a text cannot be written as UTF-8") from error
    parse(data)
    return data


def format_inputs(files: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """What says which files have to be there, (path, bytes) each, in as many records as keep each of them small. Only
    the wrapper reads them; the paths have been checked."""
    room = MAX_RECORD_BYTES - MAX_PATH_BYTES
    part: list[str] = []
    size = 0
    for number, (path, length) in enumerate(files, 1):
        part.append(f"file {length} {path}\n")
        size += len(part[-1].encode())
        if size > room - MAX_PATH_BYTES or number == len(files):
            yield f"crossfade-inputs 1\ncount {len(files)}\n{''.join(part)}end\n".encode()
            part, size = [], 0


def _start_lines(record: StartRecord) -> list[str]:
    lines = [
        f"key {record.key}",
        f"generation {record.generation}",
        f"owner {record.owner}",
        f"host {record.host}",
        f"started_at {record.started_at}",
    ]
    if record.native_id:
        lines.append(f"native_id {record.native_id}")
    if record.restore_seq is not None:
        lines.append(f"restore_seq {record.restore_seq}")
    return lines


def _checkpoint_lines(record: CheckpointRecord) -> list[str]:
    return [
        f"key {record.key}",
        f"generation {record.generation}",
        f"seq {record.seq}",
        f"path {record.path}",
        f"bytes {record.bytes}",
        f"manifest_digest {record.manifest_digest}",
        f"at {record.at}",
    ]


def _exit_lines(record: ExitRecord) -> list[str]:
    lines = [
        f"key {record.key}",
        f"generation {record.generation}",
        f"kind {record.kind}",
        f"exit_code {record.exit_code}",
    ]
    if record.signal is not None:
        lines.append(f"signal {record.signal}")
    lines += [
        f"started_at {record.started_at}",
        f"ended_at {record.ended_at}",
        f"outputs_count {record.outputs_count}",
    ]
    if record.outputs_digest:
        lines.append(f"outputs_digest {record.outputs_digest}")
    if record.asked:
        lines.append(f"asked {record.asked}")
    lines += [f"missing {path}" for path in record.missing]
    return lines + [f"wrong_size {size} {path}" for path, size in record.wrong_size]
