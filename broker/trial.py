"""Trying a site, step by step: what works there, what does not, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from broker.canary import Canary, Patience, canary_specs, fly
from broker.claiming import race
from broker.clock import Clock
from broker.credentials import references
from broker.ids import RandomBits
from broker.store.base import Installation
from connectors.base import Checkable, Site
from connectors.errors import SiteError, SiteUnreachable
from connectors.model import Evidence, Finding
from connectors.registry import SiteConfig

STEPS = ("credentials", "expiry", "status", "allocation", "files", "submit", "canary", "collection", "claim")
"""In the order in which they are told."""
FOLDER = "check"
"""Below the site's root; a name of its own per check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All findings, in order. `dark`: the site gave no answer at some step."""

    findings: Sequence[Finding]
    dark: bool

    @property
    def ok(self) -> bool:
        return all(finding.ok is not False for finding in self.findings)


def try_site(
    site: Site,
    config: SiteConfig,
    installation: Installation,
    *,
    clock: Clock,
    bits: RandomBits,
    canary: Patience | None = None,
) -> Trial:
    """Everything that can be tried, going on after a failure. Nothing is submitted unless there is patience for a
    `canary`. What the connector itself knows to check counts; the other steps are walked as at any site."""
    walk = _Walk(site, config, installation, clock=clock, mark=f"{bits(64):016x}", canary=canary)
    told = list(walk.told_by_connector())
    for step in STEPS:
        if not any(finding.step == step for finding in told):
            told += walk.walked(step)
    told.sort(key=lambda finding: STEPS.index(finding.step) if finding.step in STEPS else len(STEPS))
    return Trial(findings=[_helped(finding, config.name) for finding in told], dark=walk.dark)


class _Walk:
    def __init__(
        self,
        site: Site,
        config: SiteConfig,
        installation: Installation,
        *,
        clock: Clock,
        mark: str,
        canary: Patience | None,
    ) -> None:
        self.dark = False
        self._site, self._config, self._installation = site, config, installation
        self._clock, self._mark, self._patience = clock, mark, canary
        self._probed: Sequence[Evidence] | None = None
        self._flown: Canary | None = None

    def told_by_connector(self) -> Sequence[Finding]:
        if not isinstance(self._site, Checkable):
            return ()
        try:
            return self._site.check(canary=self._patience is not None)
        except SiteError as error:
            self.dark = isinstance(error, SiteUnreachable)
            return [Finding(step="status", ok=False, detail=str(error), help=error.help)]

    def walked(self, step: str) -> list[Finding]:
        """What one step has found. After the site gave no answer, those that would ask it again are not tried."""
        steps: dict[str, Callable[[], Iterator[Finding]]] = {
            "credentials": self._credentials,
            "expiry": self._expiry,
            "collection": self._collection,
        }
        asking: dict[str, Callable[[], Iterator[Finding]]] = {
            "status": self._status,
            "files": self._files,
            "submit": self._submit,
            "canary": self._canary,
            "claim": self._claim,
        }
        if step in steps:
            return list(steps[step]())
        if step not in asking:
            return [Finding(step=step, ok=None, detail="nothing that this connector could ask")]
        if self.dark:
            return [Finding(step=step, ok=None, detail="not tried: the site gives no answer")]
        try:
            return list(asking[step]())
        except SiteError as error:
            self.dark = isinstance(error, SiteUnreachable)
            return [Finding(step=step, ok=False, detail=str(error), help=error.help)]

    # -- what is known without asking ----------------------------------------------------------------------

    def _credentials(self) -> Iterator[Finding]:
        found = references(self._config)
        bad = [reference for reference in found if not reference.ok]
        for one in bad:
            yield Finding(step="credentials", ok=False, detail=f"{one.name}: {one.detail}", help=one.help)
        if not found:
            yield Finding(step="credentials", ok=None, detail="the site document names none")
        elif not bad:
            names = ", ".join(reference.name for reference in found)
            yield Finding(step="credentials", ok=True, detail=f"there and readable: {names}")
        yield from self._evidence("credentials")

    def _expiry(self) -> Iterator[Finding]:
        now = self._clock()
        ends = [r.expires_at for r in references(self._config) if r.expires_at is not None]
        ends += [e.until for e in self._probe() if e.capability == "credentials" and e.until is not None]
        if not ends:
            yield Finding(step="expiry", ok=None, detail="nothing says when a credential ends")
            return
        first = min(ends)
        moment = datetime.fromtimestamp(first / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
        ended = first <= now
        days = (first - now) / 8.64e10
        detail = f"ended at {moment}" if ended else f"until {moment} ({days:.1f} days)"
        yield Finding(step="expiry", ok=not ended, detail=detail, help=self._login if ended else "")

    def _collection(self) -> Iterator[Finding]:
        if not self._config.collection:
            yield Finding(step="collection", ok=None, detail="the site document names none")
            return
        from broker.globus import collection_finding  # noqa: PLC0415 - brings the SDK

        yield collection_finding(self._config)

    # -- what is asked -------------------------------------------------------------------------------------

    def _status(self) -> Iterator[Finding]:
        listing = self._site.list_mine(self._clock())
        if listing.complete:
            yield Finding(step="status", ok=True, detail=f"its listing of jobs is complete; {len(listing.items)} live")
        else:
            yield Finding(step="status", ok=False, detail="its listing of jobs was not complete", help="try again")
        yield from self._evidence("status", "compute")

    def _files(self) -> Iterator[Finding]:
        path = f"{FOLDER}/crossfade-{self._mark}"
        content = f"{path} was written to try this site\n".encode()
        self._site.write(path, content)
        try:
            wrong = self._wrong_with(path, content)
        finally:
            with suppress(SiteError):
                self._site.remove([path])
        if not wrong and self._listed(path):
            wrong = "a file that was removed is still listed"
        detail = wrong or "a file was written, read, listed, hashed and removed"
        yield Finding(
            step="files", ok=not wrong, detail=detail, help="check the site's root and its quota" if wrong else ""
        )
        yield from self._evidence("files")

    def _wrong_with(self, path: str, content: bytes) -> str:
        if self._site.read(path) != content:
            return "a file that was written holds something else"
        if not self._listed(path):
            return "a file that was written is not listed"
        found = self._site.digests([path]).get(path)
        return "" if found and found[0] == len(content) else "a file that was written has another size there"

    def _listed(self, path: str) -> bool:
        return any(info.path == path for info in self._site.list(FOLDER))

    def _submit(self) -> Iterator[Finding]:
        found = list(self._evidence("submit"))
        if found:
            yield from found
        elif self._patience is None:
            help = f"`crossfade site check {self._site.name} --canary` submits jobs of seconds"  # noqa: A001
            yield Finding(step="submit", ok=None, detail="not tried", help=help)
        else:
            yield Finding(step="submit", ok=None, detail="see canary")

    def _canary(self) -> Iterator[Finding]:
        if self._patience is None:
            yield Finding(step="canary", ok=None, detail="not asked for (--canary)")
        else:
            yield self._fly().job

    def _claim(self) -> Iterator[Finding]:
        by_jobs = self._fly().claim if self._patience is not None and self._site.claim == "atomic_fs" else None
        yield race(self._site, mark=self._mark, by_jobs=by_jobs)

    # -- behind --------------------------------------------------------------------------------------------

    def _fly(self) -> Canary:
        """Once, however many steps want to know."""
        if self._flown is None and self._patience is not None:
            try:
                specs = canary_specs(self._config, self._site, self._installation, mark=self._mark, now=self._clock())
            except (LookupError, ValueError) as error:
                unfit = Finding(step="canary", ok=None, detail=f"a job of seconds does not fit there: {error}")
                self._flown = Canary(job=unfit, claim=None)
            else:
                self._flown = fly(self._site, specs, poll=self._config.poll, patience=self._patience)
        return self._flown or Canary(job=Finding(step="canary", ok=None), claim=None)

    def _evidence(self, *capabilities: str) -> Iterator[Finding]:
        """What a probe says of these, as steps; a capability that has no step of its own counts to the first."""
        for item in self._probe():
            if item.capability in capabilities:
                step = item.capability if item.capability in STEPS else capabilities[0]
                detail = item.detail or f"probed within {item.latency * 1000:.0f} ms"
                yield Finding(step=step, ok=item.ok, detail=f"{item.capability}: {detail}")

    def _probe(self) -> Sequence[Evidence]:
        if self._probed is None:
            self._probed = self._site.probe()
        return self._probed

    @property
    def _login(self) -> str:
        return f"crossfade login {self._site.name}"


def _helped(finding: Finding, site: str) -> Finding:
    """A failure always says what mends it."""
    if finding.ok is not False or finding.help:
        return finding
    helping = f"crossfade login {site}" if finding.step in ("credentials", "expiry") else f"crossfade site show {site}"
    return replace(finding, help=helping)
