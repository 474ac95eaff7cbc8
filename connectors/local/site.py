"""The local site: jobs are processes of this machine, its disk is the site's disk.

    <root>/.crossfade-site      marker with a random id: says that this is the root we know
    <root>/jobs/<key>           who has which key (`records.py`)
    <root>/spool/               where the harness reports
    <root>/runs/...             the jobs' folders, as the broker names them

Needs Linux's /proc, and one pid namespace for all that share a root. Words under `submit:` mean nothing here and are
not looked at, so that a document written for another site can be rehearsed; walltimes are the harness's to keep.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import CredentialError, Fault, SiteUnreachable, UnsafePath
from connectors.files.folder import FolderFiles, writable
from connectors.files.root import FULL, JOBS, Root
from connectors.local.children import Children
from connectors.local.ending import Target, end
from connectors.local.launch import launch
from connectors.local.options import LocalOptions
from connectors.local.probe import probe
from connectors.local.process import KEY_VARIABLE
from connectors.local.records import DIGEST, KEY, Record, Records
from connectors.local.secret_values import NO_SECRETS, JobSecrets
from connectors.local.status import is_running, judge
from connectors.model import Accepted, Doubtful, Evidence, JobSpec, Listing, Refused, SubmitAnswer
from connectors.paths import file_path, join
from connectors.registry import Clock
from connectors.tree import Tree

LARGEST_FILE = 1 << 20
"""Bytes of a control file."""
_WRAPPER_LOG = ".crossfade/wrapper.log"


class _Unfit(Exception):
    """This job cannot be started here, and nothing was."""


class LocalSite(FolderFiles):
    """The port `connectors.base.Site`, and `Preparable`."""

    inline = True
    claim = "atomic_fs"

    def __init__(
        self,
        *,
        name: str,
        root: Path,
        options: LocalOptions,
        clock: Clock,
        secrets: Mapping[str, str] = NO_SECRETS,
    ) -> None:
        self.name = name
        self._secrets = JobSecrets(name, secrets)
        self._place = Root(site=name, path=root, identity=options.identity)
        super().__init__(self._place)
        self._options = options
        self._clock = clock
        self._children = Children()

    def prepare(self) -> str:
        """Make the root, once in a site's life; answers its identity. Every other verb needs it to be there."""
        return self._place.prepare()

    def live_root(self) -> Path:
        """Where the root is, having looked that it is there. Raises SiteUnreachable. For the copy mover."""
        self._place.check()
        return self._place.path

    # -- jobs ------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        with self._open() as (tree, records):
            env = self._options.environment(hidden=self._secrets.variables)
            return {spec.key: self._submit(spec, tree, records, env) for spec in specs}

    def find(self, keys: Sequence[str]) -> Listing:
        """The records are all the sources there are: the same answer as `status`."""
        return self.status(keys)

    def status(self, keys: Sequence[str]) -> Listing:
        with self._open() as (_, records):
            return self._listing([record for key in keys if (record := records.get(key))], records)

    def list_mine(self, since: int) -> Listing:
        with self._open() as (_, records):
            found = [record for key in records.keys(since) if (record := records.get(key))]
            return self._listing([it for it in found if not it.tombstone or it.at >= since], records)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """The first call asks politely, one that comes after the grace insists. A key that no job has is taken out
        of use: a submission on its way finds it taken."""
        with self._open() as (_, records):
            wanted = [key for key in keys if KEY.fullmatch(key)]
            buried = [records.get(key) or records.bury(key, at=self._clock()) for key in wanted]
            targets = [_target(record, records) for record in buried if not record.tombstone]
            grace = self._options.cancel_grace
            ended = end(targets, records, now=self._clock(), grace=grace) if targets else {}
            self._children.reap(records)
            # a key that cannot exist here was never there
            return {key: ended.get(key, True) for key in keys}

    def probe(self) -> Sequence[Evidence]:
        return probe(site=self.name, place=self._place, free=self._options.min_free, clock=self._clock)

    # -- behind ----------------------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[tuple[Tree, Records]]:
        with self._place.open() as tree:
            try:
                jobs = tree.below(JOBS)
            except FileNotFoundError as error:
                what = f"site {self.name}: {tree.path}/{JOBS} is gone: the root is damaged"
                raise SiteUnreachable(what, site=self.name) from error
            with jobs:
                records = Records(jobs.fd)
                self._children.reap(records)
                yield tree, records

    def _listing(self, found: Sequence[Record], records: Records) -> Listing:
        items = judge(found, records, self._children)
        return Listing(items=tuple(items), complete=True, as_of=self._clock())

    def _submit(self, spec: JobSpec, tree: Tree, records: Records, env: Mapping[str, str]) -> SubmitAnswer:
        try:
            _check(spec)
            holder = records.get(spec.key)
            if holder:
                return _adopt(spec, holder)
            return self._start(spec, tree, records, {**env, **self._secrets.told(spec.secrets)})
        except (UnsafePath, _Unfit) as error:
            return Refused(reason=str(error), fault=Fault.APPLICATION.value)
        except CredentialError as error:
            return Refused(reason=str(error), fault=error.fault.value)
        except OSError as error:
            self._place.check()  # a root that went away refuses nothing: that raises
            fault = Fault.QUOTA if error.errno in FULL else Fault.SITE
            return Refused(reason=f"{error.strerror}: {error.filename or spec.directory}", fault=fault.value)

    def _start(self, spec: JobSpec, tree: Tree, records: Records, env: Mapping[str, str]) -> SubmitAnswer:
        with tree.below(spec.directory, create=True) as folder:
            for file in spec.files:
                folder.write(file.path, file.content, mode=file.mode)
            _check_entry(spec, folder)
            folder.below(".crossfade", create=True).close()
            up = "../" * len(join(spec.directory).split("/"))
            launched = launch(
                folder=folder,
                entry=spec.entry,
                link=f"{up}{JOBS}/{spec.key}",
                trace=f"{up}{JOBS}/{spec.key}.exit",
                log=_WRAPPER_LOG,
                env={**env, KEY_VARIABLE: spec.key},
            )
        record = None
        try:
            record = records.claim(spec.key, launched.process, at=self._clock(), digest=spec.digest)
        finally:
            self._children.add(launched.process, spec.key if record else None)
            if record is None:
                launched.leave()
        if record is not None:
            launched.go()
            return Accepted(native_id=record.native_id)
        holder = records.get(spec.key)
        return _adopt(spec, holder) if holder else Doubtful(reason=f"key {spec.key} was taken, but not any more")


def _target(record: Record, records: Records) -> Target:
    ended = is_running(record) is None and records.trace(record.key) is not None
    return Target(record=record, ended=ended, mark=records.cancel_mark(record.key))


def _check(spec: JobSpec) -> None:
    if not KEY.fullmatch(spec.key):
        raise _Unfit(f"submit key {spec.key!r} is not 1 to 64 letters, digits, `_` or `-`")
    if not DIGEST.fullmatch(spec.digest):
        raise _Unfit(f"digest {spec.digest!r} holds characters that no digest has")
    if not writable(spec.directory):
        raise _Unfit("a job needs a folder of its own below the site's root")
    if file_path(spec.entry).startswith("-"):
        raise _Unfit(f"entry {spec.entry!r} would be taken for an option of the shell; rename it")
    for file in spec.files:
        writable(join(spec.directory, file_path(file.path)))
        if len(file.content) > LARGEST_FILE:
            raise _Unfit(f"file {file.path} has {len(file.content)} bytes; at most {LARGEST_FILE} go with a job")


def _check_entry(spec: JobSpec, folder: Tree) -> None:
    try:
        os.close(folder.open(spec.entry))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Unfit(f"entry {spec.entry} is not in {spec.directory} and not among the job's files") from error


def _adopt(spec: JobSpec, holder: Record) -> SubmitAnswer:
    """The key is taken: by the same job, or by a cancelation that came first (`status` says CANCELED)."""
    if not holder.tombstone and holder.digest != spec.digest:
        return Refused(reason=f"key {spec.key} belongs to another job here (digest {holder.digest}, not {spec.digest})")
    return Accepted(native_id=holder.native_id, adopted=True)
