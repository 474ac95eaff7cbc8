"""Marks: small files whose names say which job runs a key, for sites whose listings do not tell names.

    .crossfade-jobs/KEY.DIGEST.OWNER.asked      written before the request; holds the ids of strangers there by then
    .crossfade-jobs/KEY.DIGEST.OWNER.NATIVEID   written by the job as its first act, and by us when it is accepted

One listing of the folder tells all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote

from connectors.base import SiteFiles
from connectors.errors import NotThere, SiteUnreachable
from connectors.harness import RecordError, StartRecord, parse_record, parse_spool_name
from connectors.model import JobSpec, SmallFile
from connectors.names import NOBODY, short_digest

FOLDER = ".crossfade-jobs"
MARKER = ".crossfade-site"
"""In a site's root from its first preparation on."""
ASKED = "asked"
SPOOL = "spool"
_NAME = re.compile(r"([a-z0-9]{1,64})\.([0-9A-Za-z]{1,16})\.([A-Za-z0-9-]{1,32})\.([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
LONGEST_LIFE = 60 * 86_400 * 1_000_000
"""µs between a mark's last writing and its job's end: no queue and no walltime together are longer."""
_LONGEST_LIST = 1 << 20
"""Bytes of ids in one mark."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One name in the folder."""

    key: str
    digest: str
    owner: str
    native_id: str
    """Empty: only asked for so far."""

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.key}.{self.digest}.{self.owner}.{self.native_id or ASKED}"


@dataclass(slots=True)
class Known:
    """What the marks say of one key."""

    digests: set[str] = field(default_factory=set)
    natives: dict[str, str] = field(default_factory=dict)
    """Native id, in short, to the digest of what runs."""
    asked: list[Mark] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Was it asked for, and nobody has said yet what became of that?"""
        return bool(self.asked) and not self.natives


def short_id(native_id: str) -> str:
    """An id as it can be compared: PBS tells `4711` and `4711.server` of the same job."""
    found = re.match(r"([0-9]+)[._]", native_id)
    return found[1] if found else native_id


def mark_of(spec: JobSpec, owner: str, native_id: str = "") -> Mark:
    return Mark(spec.key, short_digest(spec.digest), owner or NOBODY, native_id)


def marking(spec: JobSpec, *, owner: str, root: str, variable: str) -> Iterator[str]:
    """Lines of shell with which a job says which id it runs under."""
    folder = quote(f"{root.rstrip('/')}/{FOLDER}")
    mark = mark_of(spec, owner)
    yield f"case ${{{variable}:-.}} in .* | *[!A-Za-z0-9._-]*) ;;"
    yield f"*) mkdir -p {folder} && : >{folder}/{mark.key}.{mark.digest}.{mark.owner}.${{{variable}}} ;; esac"


class Marks:
    """The folder of marks of one owner, through the port for small files."""

    def __init__(self, files: SiteFiles, owner: str) -> None:
        self._files = files
        self._owner = owner or NOBODY

    def read(self, since: int = 0) -> tuple[Mapping[str, Known], frozenset[str]]:
        """What is known by key, and the short ids that anybody's marks explain. One listing. `since`: leave out keys of
        jobs that can not have lived then any more (µs)."""
        mine: dict[str, Known] = {}
        explained = set()
        found = self._files.list(FOLDER)
        if not found:
            self._look_for_the_root()
        for info in found:
            mark = _read_name(info.path.rpartition("/")[2])
            if mark is None or info.is_dir:
                continue
            if mark.native_id:
                explained.add(short_id(mark.native_id))
            if mark.owner != self._owner or 0 < info.modified_at < since - LONGEST_LIFE:
                continue
            known = mine.setdefault(mark.key, Known())
            if mark.native_id:
                known.natives[short_id(mark.native_id)] = mark.digest
            else:
                known.asked.append(mark)
            known.digests.add(mark.digest)
        return mine, frozenset(explained)

    def _look_for_the_root(self) -> None:
        """No mark at all: a new site, or one whose file system is away. Raises SiteUnreachable for the latter."""
        try:
            self._files.read(MARKER, limit=64)
        except NotThere as error:
            raise SiteUnreachable(
                f"the root holds no {MARKER}: its file system is away, or the site was never prepared"
            ) from error

    def ask(self, specs: Sequence[JobSpec], there: Iterable[str]) -> list[SmallFile]:
        """The marks to be written before these are asked for. `there`: ids of living jobs that nobody explains, and
        that can be none of them."""
        content = "\n".join(sorted(there)).encode()[:_LONGEST_LIST]
        return [SmallFile(path=mark_of(spec, self._owner).path, content=content) for spec in specs]

    def there_before(self, asked: Sequence[Mark]) -> Mapping[str, frozenset[str]]:
        """By key: the ids that were there before it was asked for."""
        found = self._files.read_many([mark.path for mark in asked], limit=_LONGEST_LIST)
        return {
            mark.key: frozenset(found[mark.path].decode("utf-8", "replace").split())
            for mark in asked
            if mark.path in found
        }

    def write(self, marks: Sequence[Mark]) -> None:
        """Say under which ids these run."""
        if marks:
            self._files.write_many([SmallFile(path=mark.path, content=b"") for mark in marks])

    def remove(self, paths: Sequence[str]) -> None:
        """Take these marks away."""
        self._files.remove(paths)

    def from_spool(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Native ids that our harness has told in its records of having started."""
        wanted: dict[str, str] = {}
        for info in self._files.list(SPOOL):
            try:
                key, _, _, kind = parse_spool_name(info.path.rpartition("/")[2])
            except RecordError:
                continue
            if kind == "started" and key in keys:
                wanted[info.path] = key
        found = {}
        for path, content in (self._files.read_many(list(wanted)) if wanted else {}).items():
            try:
                record = parse_record(content)
            except RecordError:
                continue
            if isinstance(record, StartRecord) and record.native_id and _NAME.fullmatch(f"a.a.a.{record.native_id}"):
                found[wanted[path]] = record.native_id
        return found


def _read_name(name: str) -> Mark | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    key, digest, owner, native_id = found.groups()
    return Mark(key, digest, owner, "" if native_id == ASKED else native_id)
