"""Finding jobs by their key: by name where listings tell names, else by marks among the files.

Both answer the same three questions: which of these keys has the site, which jobs are ours at all, and may these specs
be submitted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from connectors.errors import SiteError
from connectors.iri.api import IriApi, Jobs
from connectors.iri.jobs import IriJob
from connectors.iri.marks import Known, Marks, mark_of, short_id
from connectors.iri.quirks import Quirks
from connectors.model import Accepted, Doubtful, JobSpec, JobState, JobStatus, Listing, Refused, SmallFile, SubmitAnswer
from connectors.names import NOBODY, short_digest
from connectors.registry import Clock

log = logging.getLogger(__name__)

FIRST_ACT = 300_000_000
"""µs that a job may run before its first act, the mark, has been seen. One that ran longer without is none of ours."""
_REMEMBERED = 100_000


class Finder(Protocol):
    """How one site's jobs are found."""

    def look(self, keys: Sequence[str], *, thorough: bool) -> Listing:
        """The jobs of these keys. `thorough`: look into every source anew, not only where they are known to be."""
        ...

    def everything(self, since: int) -> Listing:
        """Every job of this installation that lived at or after `since` (µs), and perhaps older ones."""
        ...

    def before(self, specs: Sequence[JobSpec]) -> tuple[dict[str, SubmitAnswer], list[SmallFile]]:
        """The answers for keys that are not to be submitted, and files to be written before the others are."""
        ...

    def accepted(self, jobs: Mapping[str, tuple[JobSpec, str]]) -> None:
        """These now have a native id. Does not fail."""
        ...

    def gone(self, keys: Sequence[str]) -> None:
        """What was asked for under these keys surely does not exist. Does not fail."""
        ...


class ByName:
    """Names are keys, and the script's first line says whose job it is and what it runs."""

    def __init__(self, api: IriApi, *, owner: str, clock: Clock) -> None:
        self._api, self._owner, self._clock = api, owner or NOBODY, clock

    def look(self, keys: Sequence[str], *, thorough: bool) -> Listing:
        now, wanted = self._clock(), set(keys)
        jobs = self._named(enough=None if thorough else self._has_all(wanted))
        return Listing(items=self._items(jobs, wanted), complete=jobs.complete, as_of=now)

    def _named(self, enough: Callable[[Sequence[IriJob]], bool] | None = None) -> Jobs:
        """All jobs with their names. Where not one has a name, the site does not tell them, and nothing is certain."""
        jobs = self._api.jobs(spec=True, enough=enough)
        told = not jobs.items or any(job.name for job in jobs.items)
        return Jobs(jobs.items, complete=jobs.complete and told)

    def _has_all(self, keys: set[str]) -> Callable[[Sequence[IriJob]], bool]:
        return lambda jobs: keys <= {job.name for job in jobs}

    def everything(self, since: int) -> Listing:  # noqa: ARG002 - one listing tells all there is
        now = self._clock()
        jobs = self._named()
        return Listing(items=self._items(jobs, None), complete=jobs.complete, as_of=now)

    def _items(self, jobs: Jobs, wanted: Collection[str] | None) -> list[JobStatus]:
        return [
            job.status(job.name) for job in jobs.items if self._ours(job) and (wanted is None or job.name in wanted)
        ]

    def _ours(self, job: IriJob) -> bool:
        return job.label is not None and job.label.key == job.name and job.label.owner in {self._owner, NOBODY}

    def before(self, specs: Sequence[JobSpec]) -> tuple[dict[str, SubmitAnswer], list[SmallFile]]:
        by_name: dict[str, list[IriJob]] = {}
        for job in self._api.jobs(spec=True).items:
            by_name.setdefault(job.name, []).append(job)
        return {spec.key: self._held(spec, by_name[spec.key]) for spec in specs if spec.key in by_name}, []

    def _held(self, spec: JobSpec, jobs: Sequence[IriJob]) -> SubmitAnswer:
        for job in jobs:
            if self._ours(job) and job.label is not None and job.label.matches(spec):
                return Accepted(native_id=job.native_id, adopted=True)
        return Refused(reason=f"the site has another job, {jobs[0].native_id}, under the key {spec.key}")

    def accepted(self, jobs: Mapping[str, tuple[JobSpec, str]]) -> None:
        """The site itself tells their names."""

    def gone(self, keys: Sequence[str]) -> None:
        """Nothing was kept of them."""


class ByMarks:
    """Marks tell native ids by key. A key that was asked for and has no mark may be any job that nobody explains:
    while there is one, its absence is not certain."""

    def __init__(self, api: IriApi, marks: Marks, quirks: Quirks, *, owner: str, clock: Clock) -> None:
        self._api, self._marks, self._quirks = api, marks, quirks
        self._owner, self._clock = owner or NOBODY, clock
        self._cache: dict[str, tuple[str, ...]] = {}
        """Short native ids by key, as marks once told them; a fact once written does not change."""
        self._first_seen: dict[str, int] = {}
        """When an unexplained job was first seen running, µs; a restart only makes us wait longer."""
        self._asked: dict[str, str] = {}
        """Marks of what was asked for and has not been seen yet, by key."""

    # -- the two looks -----------------------------------------------------------------------------------------

    def look(self, keys: Sequence[str], *, thorough: bool) -> Listing:
        now = self._clock()
        if not thorough and all(key in self._cache for key in keys):
            found = {key: self._cache[key] for key in keys}
            jobs = self._jobs([native for natives in found.values() for native in natives], short_of=found)
            return Listing(items=_items(found, jobs), complete=jobs.complete, as_of=now)
        known, _ = self._marks.read()
        return self._listing({key: known[key] for key in keys if key in known}, now)

    def everything(self, since: int) -> Listing:
        now = self._clock()
        known, _ = self._marks.read(since)
        return self._listing(known, now)

    def _listing(self, known: Mapping[str, Known], now: int) -> Listing:
        found = {key: tuple(one.natives) for key, one in known.items() if one.natives}
        found |= self._told_by_the_harness([key for key, one in known.items() if one.open], known)
        self._remember(found)
        open_keys = {key: one for key, one in known.items() if key not in found}
        self._asked.update({key: one.asked[0].path for key, one in open_keys.items() if one.asked})
        natives = [native for one in found.values() for native in one]
        if not open_keys:
            jobs = self._jobs(natives)
            return Listing(items=_items(found, jobs), complete=jobs.complete, as_of=now)
        jobs = self._all_or_these(natives)
        later, explained = self._marks.read()  # after the jobs: one that began and ended meanwhile has its mark now
        if any(later[key].natives for key in open_keys if key in later):
            return Listing(items=_items(found, jobs), complete=False, as_of=now)
        doubted = self._doubted(open_keys, jobs, explained.union(natives))
        for key, strangers in doubted.items():
            if self._quirks.sole_user and len(doubted) == 1 and len(strangers) == 1 and jobs.complete:
                found[key] = (short_id(strangers[0].native_id),)
                doubted = {}
                break
        return Listing(items=_items(found, jobs), complete=jobs.complete and not doubted, as_of=now)

    def _told_by_the_harness(self, keys: Sequence[str], known: Mapping[str, Known]) -> dict[str, tuple[str, ...]]:
        """Second source for what was asked for and has no mark: the harness's own records in the spool."""
        told = self._marks.from_spool(keys) if keys else {}
        marks = [mark for key, native in told.items() for mark in known[key].asked[:1]]
        if marks:
            named = [type(mark)(mark.key, mark.digest, mark.owner, told[mark.key]) for mark in marks]
            self._marks.write(named)  # the spool is emptied once it was read
        return {key: (short_id(native),) for key, native in told.items()}

    def _jobs(self, natives: Sequence[str], *, short_of: Mapping[str, Collection[str]] | None = None) -> Jobs:
        """The jobs with these short ids, in one call where the site can."""
        if self._quirks.listing == "single" or not natives:
            return self._api.each(natives)
        wanted = set(natives)
        enough = None if short_of is None else lambda jobs: wanted <= {short_id(job.native_id) for job in jobs}
        return self._api.jobs(enough=enough)

    def _all_or_these(self, natives: Sequence[str]) -> Jobs:
        """The whole listing, which alone can show what nobody has explained; without it the answer is not complete."""
        try:
            return self._api.jobs()
        except SiteError:
            if self._quirks.listing == "bulk":
                raise
            return Jobs(self._api.each(natives).items, complete=False)

    def _remember(self, found: Mapping[str, tuple[str, ...]]) -> None:
        if len(self._cache) > _REMEMBERED:
            self._cache.clear()
        self._cache.update(found)

    # -- who is unexplained --------------------------------------------------------------------------------------

    def _doubted(
        self, open_keys: Mapping[str, Known], jobs: Jobs, explained: Collection[str]
    ) -> dict[str, Sequence[IriJob]]:
        """By key: the jobs that may be what was asked for."""
        strangers = [job for job in jobs.items if short_id(job.native_id) not in explained and self._fresh(job)]
        if not strangers:
            return {}
        before = self._marks.there_before([mark for one in open_keys.values() for mark in one.asked])
        doubted = {
            key: [job for job in strangers if short_id(job.native_id) not in before.get(key, frozenset())]
            for key in open_keys
        }
        return {key: found for key, found in doubted.items() if found}

    def _fresh(self, job: IriJob) -> bool:
        """May it still be about to say who it is? One that has ended would have said so."""
        if job.state.final:
            return False
        if job.state is not JobState.RUNNING:
            return True
        now = self._clock()
        if len(self._first_seen) > _REMEMBERED:
            self._first_seen.clear()
        return now - self._first_seen.setdefault(job.native_id, now) < FIRST_ACT

    # -- submitting ----------------------------------------------------------------------------------------------

    def before(self, specs: Sequence[JobSpec]) -> tuple[dict[str, SubmitAnswer], list[SmallFile]]:
        known, explained = self._marks.read()
        answers = {spec.key: self._held(spec, known[spec.key]) for spec in specs if spec.key in known}
        held = {key: answer for key, answer in answers.items() if answer is not None}
        fresh = [spec for spec in specs if spec.key not in held]
        if not fresh:
            return held, []
        jobs = self._jobs_before()
        again = {spec.key: known[spec.key] for spec in fresh if spec.key in known}
        if self._quirks.idempotency == "yes":
            again = {}  # the site itself answers a repeated request with the job that it has
        for key, strangers in (self._doubted(again, jobs, explained) if again else {}).items():
            held[key] = Doubtful(reason=f"it was asked for before, and job {strangers[0].native_id} may be it")
        fresh = [spec for spec in fresh if spec.key not in held]
        there = {short_id(job.native_id) for job in jobs.items if not job.state.final}
        files = self._marks.ask(fresh, there - explained)
        self._asked.update({spec.key: file.path for spec, file in zip(fresh, files, strict=True)})
        return held, files

    def _jobs_before(self) -> Jobs:
        return Jobs((), complete=False) if self._quirks.listing == "single" else self._api.jobs()

    def _held(self, spec: JobSpec, known: Known) -> SubmitAnswer | None:
        digest = short_digest(spec.digest)
        for native_id, runs in known.natives.items():
            if runs == digest:
                return Accepted(native_id=native_id, adopted=True)
        if known.natives or known.digests - {digest}:
            return Refused(reason=f"another job was asked for under the key {spec.key}")
        return None

    def accepted(self, jobs: Mapping[str, tuple[JobSpec, str]]) -> None:
        self._remember({key: (short_id(native_id),) for key, (_, native_id) in jobs.items()})
        try:
            self._marks.write([mark_of(spec, self._owner, short_id(native_id)) for spec, native_id in jobs.values()])
        except SiteError as error:
            log.warning("jobs were accepted and their marks not written: %s; they write their own", error)
        for key in jobs:
            self._asked.pop(key, None)

    def gone(self, keys: Sequence[str]) -> None:
        # left where it is, it would make us look out for that job for ever
        paths = [path for key in keys if (path := self._asked.pop(key, None)) is not None]
        try:
            if paths:
                self._marks.remove(paths)
        except SiteError as error:
            log.info("marks of what does not exist were not removed: %s", error)


def _items(found: Mapping[str, Iterable[str]], jobs: Jobs) -> list[JobStatus]:
    by_id = {short_id(job.native_id): job for job in jobs.items}
    return [by_id[native].status(key) for key, natives in found.items() for native in natives if native in by_id]
