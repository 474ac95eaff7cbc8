"""The harness's own records: what lies in a site's spool, and where a record was first written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from broker.store.base import AttemptRow, CheckpointRow, CopySeen, Store
from broker.watch.looked import Facts, Looked
from connectors.base import Site
from connectors.errors import NotThere
from connectors.harness import (
    CheckpointRecord,
    ExitRecord,
    RecordError,
    StartRecord,
    TornRecord,
    parse_record,
    parse_spool_name,
)
from connectors.harness.records import MAX_RECORD_BYTES

SPOOL = "spool"
RECORDS_AT_ONCE = 1000
MAX_BEAT_BYTES = 64
_KEPT = re.compile(r"g\d+/(\d+\.started|\d+\.exit|ckpt/\d+/\d+\.checkpoint)")
"""Records in the folders of an attempt's generations."""


class Spool:
    """Reads the spools; knows again, in this process, which files there are nobody's that we know."""

    def __init__(self, store: Store, sites: Iterable[str]) -> None:
        self._store = store
        self._foreign: dict[str, set[str]] = {name: set() for name in sites}

    def read(self, site: Site, by_key: Mapping[str, AttemptRow], facts: Facts, looked: Looked) -> None:
        """Read what is new in a site's spool; `by_key`: its open attempts."""
        foreign = self._foreign[site.name]
        foreign.difference_update([path for path in foreign if _key_of(path) in by_key])  # taken up after a restore
        names = self._new(site, foreign)
        if not names:
            return
        for path, data in site.read_many(names, limit=MAX_RECORD_BYTES).items():
            key = _key_of(path)
            row = by_key.get(key)
            if row is None:
                self._not_open(path, key, foreign, looked)
                continue
            try:
                record = parse_record(data)
            except TornRecord:
                continue  # half-written or half-read: it is whole at a later look, or goes with its attempt
            except RecordError:
                foreign.add(path)
                continue
            if record.key != key:
                foreign.add(path)
                continue
            _take(row, record, facts, looked)
            looked.used.append(path)

    @staticmethod
    def _new(site: Site, foreign: set[str]) -> list[str]:
        names: list[str] = []
        for info in site.list(SPOOL):
            if info.path not in foreign and not info.is_dir:
                names.append(info.path)
                if len(names) == RECORDS_AT_ONCE:
                    break
        return names

    def _not_open(self, path: str, key: str, foreign: set[str], looked: Looked) -> None:
        """A record of no open attempt: of one that is over (it may go), or nobody's that we know (it stays)."""
        if key and self._store.attempt_by_key(key) is not None:
            looked.used.append(path)
        else:
            foreign.add(path)


def search_exit(site: Site, row: AttemptRow, found: dict[str, str | int]) -> None:
    """The site says that the job is over, and the spool holds no exit record: look where it was first written.
    The record decides, not the site's accounting, which may have been purged."""
    folder = _newest_generation(site, row)
    if not folder:
        return
    names = [info.path for info in site.list(folder) if info.path.endswith(".exit")]
    for data in site.read_many(names, limit=MAX_RECORD_BYTES).values():
        try:
            record = parse_record(data)
        except RecordError:
            continue
        if isinstance(record, ExitRecord) and record.key == row.submit_key:
            _newest(found, row.exit, "exit", _exit_fact(record))


def search_records(site: Site, row: AttemptRow, facts: Facts, looked: Looked) -> None:
    """Read again what an attempt's generations told, where it was first written: whoever took the records out of the
    spool has forgotten them, as after a restore."""
    start = f"{row.directory}/.crossfade/"
    names = [
        info.path
        for info in site.list(start.rstrip("/"), recursive=True)
        if not info.is_dir and _KEPT.fullmatch(info.path.removeprefix(start))
    ]
    for data in site.read_many(sorted(names), limit=MAX_RECORD_BYTES).values():
        try:
            record = parse_record(data)
        except RecordError:
            continue
        if record.key == row.submit_key:
            _take(row, record, facts, looked)


def heartbeat(site: Site, row: AttemptRow) -> str:
    """The last sign of life of the attempt's newest generation, as it was written; empty: there is none."""
    folder = _newest_generation(site, row)
    try:
        beat = site.read(f"{folder}/heartbeat", limit=MAX_BEAT_BYTES) if folder else b""
    except NotThere:
        beat = b""
    return f"{folder.rsplit('/', 1)[-1]} {beat.decode('ascii', 'replace').strip()}".strip()


def _newest_generation(site: Site, row: AttemptRow) -> str:
    """The folder of the attempt's newest generation; empty: there is none."""
    folders = [info.path for info in site.list(f"{row.directory}/.crossfade") if info.is_dir]
    numbered = [(int(path.rsplit("/g", 1)[1]), path) for path in folders if path.rsplit("/g", 1)[-1].isdigit()]
    return max(numbered, default=(0, ""))[1]


def _key_of(path: str) -> str:
    try:
        return parse_spool_name(path.rsplit("/", 1)[-1])[0]
    except RecordError:
        return ""


def _take(row: AttemptRow, record: StartRecord | CheckpointRecord | ExitRecord, facts: Facts, looked: Looked) -> None:
    found = facts.setdefault(row.submit_key, {})
    if isinstance(record, StartRecord):
        _newest(found, row.started, "started", _start_fact(record))
    elif isinstance(record, ExitRecord):
        _newest(found, row.exit, "exit", _exit_fact(record))
        looked.sightings.copies += copies_at_fault(row, record)
    else:
        looked.sightings.checkpoints.append(
            CheckpointRow(
                run_id=row.run_id,
                n=row.n,
                attempt=row.number,
                generation=record.generation,
                seq=record.seq,
                site=row.site,
                state="seen",
                path=f"{row.directory}/{record.path}",
                manifest="",
                bytes=record.bytes,
                created_at=record.at,
                verified_at=None,
                reason="",
            )
        )
    if not found:
        del facts[row.submit_key]


def copies_at_fault(row: AttemptRow, record: ExitRecord) -> Sequence[CopySeen]:
    """What a start that found inputs missing tells of their copies in the attempt's directory."""
    if record.kind != "input_missing":
        return ()
    lost = [(path, "lost", "it was not there when the job started") for path in record.missing]
    bad = [(path, "bad", f"it had {size} bytes when the job started") for path, size in record.wrong_size]
    return [CopySeen(row.site, f"{row.directory}/{path}", state, reason) for path, state, reason in lost + bad]


def _start_fact(record: StartRecord) -> tuple[int, str]:
    data = {"generation": record.generation, "at": record.started_at, "owner": record.owner}
    return record.generation, json.dumps(data, separators=(",", ":"))


def _exit_fact(record: ExitRecord) -> tuple[int, str]:
    data = {
        "generation": record.generation,
        "kind": record.kind,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "outputs": record.outputs_count,
        "digest": record.outputs_digest,
        "missing": list(record.missing),
    }
    if record.wrong_size:
        data["wrong_size"] = [list(one) for one in record.wrong_size]
    return record.generation, json.dumps(data, separators=(",", ":"))


def _newest(found: dict[str, str | int], known: str, column: str, fact: tuple[int, str]) -> None:
    """Keep a record unless one of a newer generation is there."""
    generation, text = fact
    for other in (known, str(found.get(column, ""))):
        if other and json.loads(other)["generation"] > generation:
            return
    if text != known:
        found[column] = text
