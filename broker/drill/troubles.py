"""What goes wrong, and when. Faults of a named site that have a time are known to it from the start, so that a planned
one can be announced; the others begin when their moment has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from broker.clock import micros
from broker.drill.document import GLOBUS, ORDAINED, ROLES, Incident
from broker.drill.ground import Ground
from broker.drill.values import Moment
from sandbox.faults import AccountingPurged, DisksGone, SiteLost, Window, parse_fault
from sandbox.job import Execution


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault has begun."""

    at: int
    kind: str
    site: str
    """Empty: at none of them."""
    hit: tuple[Execution, ...] = ()
    """What was at work there."""


@dataclass(slots=True)
class _Due:
    incident: Incident
    at: int | None
    """None: when a share of the work is done."""
    given: bool = False
    """Does the site know of it already?"""


@dataclass(slots=True)
class Troubles:
    """All faults of one play."""

    ground: Ground
    stages: dict[str, str] = field(default_factory=dict)
    """Submit keys to the stages that they belong to, as far as they are known."""
    happened: list[Happened] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """Sites that never come back."""
    wiped: set[str] = field(default_factory=set)
    """Sites whose disks came back empty, or not at all."""
    forgetful: set[str] = field(default_factory=set)
    """Sites that lose jobs which they have accepted."""
    _due: list[_Due] = field(default_factory=list)

    def plan(self, incidents: Sequence[Incident]) -> None:
        """Take up all of them."""
        for incident in incidents:
            (moment,) = incident.at
            for nth in range(incident.times):
                self._plan(incident, moment, nth * (incident.every or 0.0))

    def _plan(self, incident: Incident, moment: Moment, later: float) -> None:
        if moment.share is not None:
            self._due.append(_Due(incident, None))
            return
        at = self.ground.start + micros(moment.seconds + later)
        early = incident.site not in ROLES and incident.kind not in (*ORDAINED, GLOBUS)
        if early:
            self._bring(incident, incident.site, at)
        self._due.append(_Due(incident, at, given=early))

    def over(self) -> bool:
        """Has everything begun?"""
        return not self._due

    def next_at(self) -> int | None:
        """When the next one begins, as far as it can be told now."""
        times = [at for due in self._due if (at := self._when(due)) is not None]
        return min(times, default=None)

    def happen(self, now: int) -> None:
        """Let everything begin that is due."""
        for due in [due for due in self._due if (at := self._when(due)) is not None and at <= now]:
            self._due.remove(due)
            for site in self._where(due.incident):
                self._begin(due, site, now)

    # -- when, and where -----------------------------------------------------------------------------------------

    def _when(self, due: _Due) -> int | None:
        if due.at is not None:
            return due.at
        (moment,) = due.incident.at
        times = [self._reaches(run, moment) for _, run in self.at_work(due.incident.stage)]
        return min(times, default=None)

    @staticmethod
    def _reaches(run: Execution, moment: Moment) -> int:
        return run.when((moment.share or 0.0) * run.job.papers.payload.seconds)

    def at_work(self, stage: str | None = None) -> Iterator[tuple[str, Execution]]:
        """(site, execution) of all that works now, of that stage or of any."""
        for name, site in self.ground.sites.items():
            for run in site.model.journal.executions:
                works = run.began and run.alive and run.job.papers.payload.seconds > 0
                if works and (stage is None or self.stages.get(run.key) == stage):
                    yield name, run

    def _where(self, incident: Incident) -> list[str]:
        if incident.kind == GLOBUS:
            return [""]
        if incident.site not in ROLES:
            return [incident.site]
        names = list(self.ground.sites)
        if incident.site == "all":
            return names
        busy = list(dict.fromkeys(name for name, _ in self.at_work(incident.stage)))[:1] or names[:1]
        return busy if incident.site == "at_work" else [name for name in names if name not in busy]

    # -- what ----------------------------------------------------------------------------------------------------

    def _begin(self, due: _Due, site: str, now: int) -> None:
        incident = due.incident
        if incident.kind == GLOBUS:
            self.ground.carrier.silences.append(Window(start=now, end=_end(incident, now)))
        elif incident.kind in ORDAINED:
            self.ground.sites[site].model.ordain(ORDAINED[incident.kind])
        elif not due.given:
            self._bring(incident, site, now)
        hit = tuple(run for name, run in self._worked(now) if name == site) if incident.kind not in ORDAINED else ()
        self.happened.append(Happened(now, incident.kind, site, hit))

    def _bring(self, incident: Incident, site: str, at: int) -> None:
        words = {**incident.with_, "kind": incident.kind, "start": (at - self.ground.start) / 1e6}
        end = _end(incident, at)
        if end is not None:
            words["end"] = (end - self.ground.start) / 1e6
        fault = parse_fault(words, self.ground.start)
        if isinstance(fault, SiteLost):
            self.gone.add(site)
        if isinstance(fault, SiteLost) or (isinstance(fault, DisksGone) and fault.wiped):
            self.wiped.add(site)
        if isinstance(fault, AccountingPurged) or incident.kind == "controller_crash":
            self.forgetful.add(site)
        self.ground.sites[site].model.inject(fault)

    def _worked(self, at: int) -> Iterator[tuple[str, Execution]]:
        """What was at work at that moment, ended by it included."""
        for name, site in self.ground.sites.items():
            for run in site.model.journal.executions:
                lived = run.ended_at is None or run.ended_at >= at
                if run.began and run.started_at < at and lived and run.job.papers.payload.seconds > 0:
                    yield name, run


def _end(incident: Incident, at: int) -> int | None:
    return None if incident.for_ is None else at + micros(incident.for_)
