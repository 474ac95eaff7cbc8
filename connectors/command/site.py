"""A site that is reached by commands: a scheduler's dialect and the site's files, both over one transport.

Every verb is one call of a script at the site, or few: looking up, writing the files, submitting are one each for a
batch. A script that submits is run once; whether it was is then looked up by name, never assumed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from connectors.command.calls import Caller
from connectors.command.check import run_canary, walk
from connectors.command.dialect import BATCH, AskAgain, Dialect, Found, Job
from connectors.command.options import CommandOptions
from connectors.command.pbs import PbsDialect
from connectors.command.slurm import SlurmDialect
from connectors.errors import (
    BadReply,
    CredentialError,
    Fault,
    QuotaError,
    RequestRefused,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.files.held import HoldsFiles
from connectors.files.shell import ShellFiles, writable
from connectors.model import (
    Accepted,
    Doubtful,
    Evidence,
    Finding,
    JobSpec,
    Listing,
    Refused,
    Script,
    SmallFile,
    SubmitAnswer,
)
from connectors.names import KEY, NOBODY
from connectors.paths import file_path, join
from connectors.registry import Clock, SiteConfig
from connectors.ssh.openssh import OpenSshTransport
from connectors.ssh.reach import Reach
from connectors.ssh.transport import LocalTransport, Transport

LARGEST_FILE = 1 << 20
"""Bytes of a control file."""
_ByKey = dict[str, list[Job]]
_LONG_AGO = 10 * 365 * 86_400.0


def make(config: SiteConfig, clock: Clock) -> CommandSite:
    """The connector `command`, for the registry. Raises ValueError, naming the option."""
    options = CommandOptions.read(config.name, config.options)
    transport: Transport = (
        OpenSshTransport(site=config.name, options=options) if options.host else LocalTransport(site=config.name)
    )
    return CommandSite(config=config, options=options, transport=transport, clock=clock)


class CommandSite(HoldsFiles[ShellFiles]):
    """The ports `Site`, `Preparable`, `Scripted` and `Checkable`."""

    inline = False
    claim = "atomic_fs"

    def __init__(self, *, config: SiteConfig, options: CommandOptions, transport: Transport, clock: Clock) -> None:
        self.name = config.name
        self._clock = clock
        self._owner = config.installation or NOBODY
        self._transport, self._options, self._umask = transport, options, config.umask or "077"
        self._caller = Caller(site=config.name, transport=transport, options=options)
        self.files = ShellFiles(
            self._caller.run_plain,
            site=config.name,
            root=config.root,
            umask=self._umask,
            identity=options.identity,
        )
        dialect = SlurmDialect if options.scheduler == "slurm" else PbsDialect
        self._dialect: Dialect = dialect(
            site=config.name, root=self.files.root, owner=config.installation, umask=config.umask, options=options
        )

    def prepare(self) -> str:
        """Make the root and its spool; answers the root's identity."""
        return self.files.prepare()

    def close(self) -> None:
        """End the shared connection."""
        self._caller.transport.close()

    def login(self) -> Sequence[str]:
        """The command by which a person opens the connection where a second factor is asked; empty: none is needed."""
        return self._caller.transport.login()

    def reach(self) -> Reach | None:
        """The way to its files by ssh; None: its commands are run on this machine."""
        if not isinstance(self._transport, OpenSshTransport):
            return None
        return Reach(
            transport=self._transport,
            options=self._options,
            root=self.files.root,
            umask=self._umask,
            identity=self._options.identity,
            prelude=self._caller.prelude(),
        )

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        answers: dict[str, SubmitAnswer] = {}
        wanted: dict[str, tuple[JobSpec, str]] = {}
        for spec in specs:
            try:
                wanted.setdefault(spec.key, (spec, self._checked(spec)))
            except (UnsafePath, RequestRefused) as error:
                answers[spec.key] = Refused(reason=str(error), fault=Fault.APPLICATION.value)
        if not wanted:
            return answers
        held = self._named(self._ask(list(wanted), everywhere=True))
        for key, jobs in held.items():
            if key in wanted:
                spec, _ = wanted.pop(key)
                answers[key] = self._adopted(spec, jobs)
        asked = False
        for batch in _batches(wanted, BATCH):
            try:
                answers |= self._submit(batch)
            except SiteError as error:
                if not asked:
                    raise
                # an error would hide what the batches before have been answered
                return answers | {key: Doubtful(reason=str(error)) for key in wanted if key not in answers}
            asked = True
        return answers

    def find(self, keys: Sequence[str]) -> Listing:
        return self._listing(keys, everywhere=True)

    def status(self, keys: Sequence[str]) -> Listing:
        return self._listing(keys, everywhere=False)

    def list_mine(self, since: int) -> Listing:
        past = max(0.0, (self._clock() - since) / 1_000_000) if since else _LONG_AGO
        found = self._ask([], everywhere=True, since=past)
        items = []
        for key, jobs in self._named(found).items():
            known = [job.status(key) for job in jobs]
            # a job that has ended, and says when, is left out where that was before
            items += [it for it in known if not it.state.final or it.ended_at is None or it.ended_at >= since]
        return Listing(items=tuple(items), complete=found.complete, as_of=self._clock())

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        wanted = [key for key in dict.fromkeys(keys) if KEY.fullmatch(key)]
        left = self._living(wanted)
        if left:
            jobs = [job for jobs in left.values() for job in jobs]
            call = self._dialect.canceling(jobs)
            self._caller.ask(call.script, call.lines)
            left = self._living(list(left))
        # a key that cannot exist here was never there
        return {key: key not in left for key in keys}

    # -- health --------------------------------------------------------------------------------------------

    def probe(self) -> Sequence[Evidence]:
        begun = time.perf_counter()
        call = self._dialect.probing()
        try:
            sections = self._caller.ask(call.script, call.lines)
        except SiteError as error:
            latency = time.perf_counter() - begun
            concerned = ("credentials",) if isinstance(error, CredentialError) else ("submit", "status", "files")
            return tuple(self._evidence(it, str(error), latency=latency) for it in concerned)
        latency = time.perf_counter() - begun
        told = self._dialect.probed(sections, site=self.name, at=self._clock(), latency=latency)
        begun = time.perf_counter()
        wrong = self._files_wrong()
        return (*told, self._evidence("files", wrong, latency=time.perf_counter() - begun))

    def script(self, spec: JobSpec) -> Script:
        return Script(script=self._dialect.script(spec), request=self._dialect.request(spec))

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        found = walk(self._caller, self._dialect, files_wrong=self._files_wrong(), root=self.files.root)
        return [*found, run_canary(self, at=self._clock())] if canary else found

    # -- behind --------------------------------------------------------------------------------------------

    def _checked(self, spec: JobSpec) -> str:
        """The job script. Raises UnsafePath, RequestRefused."""
        if not writable(spec.directory):
            raise RequestRefused("a job needs a folder of its own below the site's root")
        if file_path(spec.entry).startswith("-"):
            raise RequestRefused(f"entry {spec.entry!r} would be taken for an option of the shell; rename it")
        for file in spec.files:
            writable(join(spec.directory, file_path(file.path)))
            if len(file.content) > LARGEST_FILE:
                raise RequestRefused(f"{file.path} has {len(file.content)} bytes; at most {LARGEST_FILE} go with a job")
        return self._dialect.script(spec)

    def _submit(self, batch: Mapping[str, tuple[JobSpec, str]]) -> dict[str, SubmitAnswer]:
        answers, ready = self._placed(batch)
        if not ready:
            return answers
        call = self._dialect.submitting({key: script for key, (_, script) in ready.items()})
        try:
            sections = self._caller.ask(call.script, call.lines)
        except SiteError as error:
            if isinstance(error, CredentialError) or not error.effect_possible:
                raise
            return answers | {key: Doubtful(reason=str(error)) for key in ready}
        return answers | {key: self._dialect.submitted(sections.get(key)) for key in ready}

    def _placed(
        self, batch: Mapping[str, tuple[JobSpec, str]]
    ) -> tuple[dict[str, SubmitAnswer], Mapping[str, tuple[JobSpec, str]]]:
        """Write the jobs' files: all at once, or, where one cannot be written, job by job to learn whose that is."""
        try:
            self.files.write_many([file for spec, _ in batch.values() for file in self._files_of(spec)])
        except (RequestRefused, UnsafePath, QuotaError) as error:
            if len(batch) == 1:
                fault = Fault.APPLICATION if isinstance(error, UnsafePath) else error.fault
                return {key: Refused(reason=str(error), fault=fault.value) for key in batch}, {}
        else:
            return {}, batch
        answers: dict[str, SubmitAnswer] = {}
        ready: dict[str, tuple[JobSpec, str]] = {}
        for key, one in batch.items():
            refused, placed = self._placed({key: one})
            answers |= refused
            ready |= placed
        return answers, ready

    def _files_of(self, spec: JobSpec) -> Iterator[SmallFile]:
        for file in spec.files:
            yield SmallFile(path=join(spec.directory, file.path), content=file.content, mode=file.mode)
        # the scheduler makes no folder for the job's own output
        yield SmallFile(path=join(spec.directory, ".crossfade/job.sh"), content=self._dialect.script(spec).encode())

    def _adopted(self, spec: JobSpec, jobs: Sequence[Job]) -> SubmitAnswer:
        mine = [job for job in jobs if self._matches(job, spec)]
        if len(mine) == len(jobs):
            living = [job for job in mine if not job.status(spec.key).state.final]
            return Accepted(native_id=(living or mine)[0].native_id, adopted=True)
        other = next(job for job in jobs if job not in mine)
        return Refused(
            reason=f"key {spec.key} belongs to another job here ({other.native_id}), which runs something else"
        )

    def _matches(self, job: Job, spec: JobSpec) -> bool:
        """An accounting that keeps no comments leaves the folder, which only this very attempt has."""
        if job.label is not None:
            return job.label.matches(spec)
        return job.folder == f"{self.files.root}/{join(spec.directory)}"

    def _ours(self, job: Job) -> bool:
        if job.label is not None:
            return job.label.owner in {self._owner, NOBODY} and job.label.key == job.name
        return KEY.fullmatch(job.name) is not None and job.folder.startswith(f"{self.files.root}/")

    def _ask(self, keys: Sequence[str], *, everywhere: bool, since: float | None = None) -> Found:
        for _ in range(2):
            call = self._dialect.asking(keys, everywhere=everywhere, since=since)
            try:
                return self._dialect.answered(self._caller.ask(call.script, call.lines))
            except AskAgain:
                continue
        raise BadReply(f"site {self.name}: the scheduler's reply could not be read", site=self.name)

    def _named(self, found: Found) -> _ByKey:
        """Our jobs by their keys."""
        named: _ByKey = {}
        for job in found.jobs:
            if self._ours(job):
                named.setdefault(job.name, []).append(job)
        return named

    def _listing(self, keys: Sequence[str], *, everywhere: bool) -> Listing:
        wanted = [key for key in dict.fromkeys(keys) if KEY.fullmatch(key)]
        if not wanted:
            return Listing(items=(), complete=True, as_of=self._clock())
        found = self._ask(wanted, everywhere=everywhere)
        named = self._named(found)
        items = tuple(job.status(key) for key in wanted for job in named.get(key, ()))
        return Listing(items=items, complete=found.complete, as_of=self._clock())

    def _living(self, keys: Sequence[str]) -> _ByKey:
        """Those of these keys' jobs that have not ended. Raises SiteUnreachable where that cannot be said."""
        if not keys:
            return {}
        found = self._ask(keys, everywhere=False)
        if not found.complete:
            raise SiteUnreachable(f"site {self.name}: not every source could be asked", site=self.name)
        named = {
            key: [job for job in jobs if not job.status(key).state.final] for key, jobs in self._named(found).items()
        }
        return {key: jobs for key, jobs in named.items() if jobs and key in keys}

    def _evidence(self, capability: str, wrong: str, *, latency: float) -> Evidence:
        return Evidence(
            site=self.name, capability=capability, ok=not wrong, at=self._clock(), latency=latency, detail=wrong
        )

    def _files_wrong(self) -> str:
        try:
            self.files.list("spool")
        except SiteError as error:
            return str(error)
        return ""


def _batches(wanted: Mapping[str, tuple[JobSpec, str]], size: int) -> Iterator[Mapping[str, tuple[JobSpec, str]]]:
    rest = iter(wanted.items())
    while batch := dict(islice(rest, size)):
        yield batch
