"""One pass over what is due: claim an entry, look at all its sides, judge, remove, and write down what was done.

Entries are taken one at a time in the whole installation, so that of two copies, each of which is the other's proof,
never both go. Whoever holds an entry says so again between two calls; a pass that dies lets its claim lapse, and what
it has left undone is done again, harmlessly.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.clock import Clock, micros
from broker.retention.enrol import enrol, kept_for
from broker.retention.looking import AT_ONCE, Sides, below, files_of, inner_of
from broker.spec.compile import delivery_of
from broker.states import RunState, StageState
from broker.store.base import NewEvent, RetentionRow, RunRow, StageRow, Store
from connectors.base import PlaceFiles, Sweepable
from connectors.errors import SiteError
from connectors.registry import PlaceConfig, SiteConfig
from policies.model import Decision, Reason
from policies.retention import Case, Copy, Files, judge

log = logging.getLogger(__name__)

CLAIM_SECONDS = 900.0
"""How long an entry is held without a word; one call to a site or place takes less."""
ASK_AGAIN = 3600.0
"""Seconds until what was kept is looked at again."""
OURS = "runs/"
"""At a site only what lies below it may ever be removed."""


class ClaimLost(Exception):
    """Another pass has taken the entry over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass made of one entry."""

    row: RetentionRow
    decision: Decision
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be judged, and what would be removed."""

    case: Case
    names: Sequence[str] = ()
    bytes: int = 0


class Retention:
    """Removes what is due. Two of them never harm each other."""

    def __init__(
        self,
        *,
        store: Store,
        configs: Mapping[str, SiteConfig],
        places: Mapping[str, PlaceConfig],
        files: Mapping[str, PlaceFiles],
        clock: Clock,
        serves: Collection[str] | None = None,
    ) -> None:
        """`files`: of sites by their name, of places by their side; what is not there cannot be looked at. `serves`:
        sites that this process calls; None: all."""
        self._store, self._clock = store, clock
        self._configs, self._places, self._files = configs, places, files
        self._serves = serves

    def due(self, *, limit: int = 100) -> Sequence[RetentionRow]:
        """Entries whose time has come, the sites' own enrolled first."""
        now = self._clock()
        for name, config in self._configs.items():
            if self._served(name):
                enrol(self._store, config, now=now)
        rows = self._store.due_retention(now=now, limit=limit)
        return [row for row in rows if row.side.endswith(":") or self._served(row.side)]

    def run(self, *, limit: int = 100) -> Iterator[Outcome]:
        """Take what is due, one entry after the other."""
        for row in self.due(limit=limit):
            outcome = self._take(row)
            if outcome is not None:
                yield outcome

    def rehearse(self, *, limit: int = 100) -> Iterator[Outcome]:
        """What `run` would do. Changes nothing, and claims nothing."""
        for row in self.due(limit=limit):
            found = self._look(row, Sides(self._files))
            yield Outcome(row, judge(found.case), len(found.names), found.bytes)

    # -- one entry -------------------------------------------------------------------------------------------

    def _served(self, site: str) -> bool:
        return self._serves is None or site in self._serves

    def _take(self, row: RetentionRow) -> Outcome | None:
        """None: another pass has it, or somebody removes something else just now."""
        claim = _Claim(self._store, self._clock, row)
        if not claim.begin():
            return None
        try:
            found = self._look(row, Sides(self._files, alive=claim.renew))
            decision = judge(found.case)
            if decision.outcome == "keep":
                return self._kept(claim, row, decision)
            if decision.outcome == "remove":
                self._remove(row, found.names, claim)
            return self._removed(claim, row, decision, found)
        except ClaimLost:
            return None
        except SiteError as error:
            reason = Reason("reach", "keep", f"{row.side}: {error}", row.side)
            return self._kept(claim, row, Decision("retention", "keep", (reason,)))

    def _remove(self, row: RetentionRow, names: Sequence[str], claim: _Claim) -> None:
        files = self._files[row.side]
        for start in range(0, len(names), AT_ONCE):
            claim.renew()
            files.remove(names[start : start + AT_ONCE])
        if row.path.endswith("/") and isinstance(files, Sweepable):
            claim.renew()
            files.sweep(row.path.rstrip("/"))

    def _kept(self, claim: _Claim, row: RetentionRow, decision: Decision) -> Outcome | None:
        now = self._clock()
        words = "; ".join(reason.fact for reason in decision.reasons)[:500]
        later = decision.until if decision.until is not None else now + micros(ASK_AGAIN)
        kept = claim.row._replace(state="refused", reason=words, due_at=max(later, now + 1))
        if not self._store.change_retention(claim.row, kept, now=now):
            return None
        return Outcome(row, decision)

    def _removed(self, claim: _Claim, row: RetentionRow, decision: Decision, found: _Found) -> Outcome | None:
        now = self._clock()
        words = f"{len(found.names)} files, {found.bytes} bytes" if found.names else "nothing was left"
        done = claim.row._replace(state="removed", reason=words, due_at=None, done_at=now)
        data = {"run": row.run_id, "path": row.path, "files": len(found.names), "bytes": found.bytes}
        data["why"] = "; ".join(reason.fact for reason in decision.reasons)[:500]
        stream = f"place:{row.side[:-1]}" if row.side.endswith(":") else f"site:{row.side}"
        event = NewEvent(kind="removed", data=json.dumps(data), actor="retention")
        if not self._store.change_retention(claim.row, done, now=now, told=(stream, event)):
            return None
        log.info("removed %s%s (%s)", row.side, row.path, words)
        return Outcome(row, decision, len(found.names), found.bytes)

    # -- looking ---------------------------------------------------------------------------------------------

    def _look(self, row: RetentionRow, sides: Sides) -> _Found:
        """Raises SiteError only for the side that would be removed from."""
        against, until = self._against(row)
        if against is not None:
            empty: Files = {}
            case = Case(side=row.side, path=row.path, there=True, protected=empty, against=against, until=until)
            return _Found(case)
        unless = json.loads(row.unless)
        names = sides.listed(row.side, row.path)
        if unless.get("attempt"):
            return self._whole_folder(row, sides, names)
        here = sides.digests(row.side, list(names))
        protected = {inner_of(row.path, name): content for name, content in here.items()}
        inner = sorted(protected)
        case = Case(
            side=row.side,
            path=row.path,
            there=bool(names),
            protected=protected,
            brought=files_of(json.loads(row.files)) if row.files else None,
            needed=[sides.held(side, path, inner) for side, path in unless["all"]] if names else (),
            others=[sides.held(side, path, inner) for side, path in unless["any"]] if names else (),
        )
        return _Found(case, sorted(here), sum(size for size, _ in here.values()))

    def _whole_folder(self, row: RetentionRow, sides: Sides, names: Mapping[str, int]) -> _Found:
        """An attempt's folder: what it left as its stage's product must be somewhere else, the rest need not."""
        stage = self._store.stages_at(row.run_id, [row.n])[row.n]
        products = self._store.products_of(row.run_id, [stage.path])
        product = products.get(stage.path)
        left = files_of(json.loads(product.manifest)["files"]) if product and product.attempt == row.attempt else {}
        protected = {path: content for path, content in left.items() if below(row.path, path) in names}
        others = self._delivered(row.run_id, stage, sides, sorted(protected)) if protected else []
        case = Case(side=row.side, path=row.path, there=bool(names), protected=protected, others=others)
        return _Found(case, list(names), sum(names.values()))

    def _delivered(self, run_id: str, stage: StageRow, sides: Sides, files: Sequence[str]) -> list[Copy]:
        """What was delivered of a stage's product, under the product's own paths."""
        path = delivery_of(stage.path)
        delivery = next((s for s in self._store.stages(run_id) if s.path == path), None)
        if delivery is None or delivery.state != StageState.SUCCEEDED:
            return []
        found: list[Copy] = []
        for entry in json.loads(delivery.body)["copy"]:
            (side, to), top = entry["to"], entry["from"]["path"]
            inner = {
                inner_of(top, file): file
                for file in files
                if file == top.rstrip("/") or file.startswith(f"{top.rstrip('/')}/")
            }
            copy = sides.held(side, to, list(inner))
            renamed = None if copy.files is None else {inner[name]: content for name, content in copy.files.items()}
            found.append(Copy(side=side, files=renamed, why=copy.why))
        return found

    # -- what forbids it -------------------------------------------------------------------------------------

    def _against(self, row: RetentionRow) -> tuple[Reason | None, int | None]:
        run = self._store.run(row.run_id)
        if run is None:
            return _no("run", f"its run {row.run_id} is not known here"), None
        if not RunState(run.state).final:
            return _no("run", f"run {run.run_id} goes on, and may still want it"), None
        if row.side.endswith(":"):
            return self._against_at_place(row)
        return self._against_at_site(row, run)

    def _against_at_place(self, row: RetentionRow) -> tuple[Reason | None, int | None]:
        place = self._places.get(row.side[:-1])
        if place is None:
            return _no("prune", f"{row.side[:-1]} is not in the site document"), None
        if not place.prune:
            return _no("prune", f"{place.name} is not marked `prune: true` in the site document"), None
        if row.side not in self._files:
            return _no("reach", f"{place.name}: nothing can be verified or removed there yet: kept"), None
        now = self._clock()
        newer = [
            other
            for other in self._store.retention_around(row)
            if other.state == "waiting" and other.created_at > row.created_at and (other.due_at or 0) > now
        ]
        if newer:
            later = max(newer, key=lambda other: other.due_at or 0)
            return _no("newer", f"run {later.run_id} has brought there anew what it keeps for longer"), later.due_at
        return None, None

    def _against_at_site(self, row: RetentionRow, run: RunRow) -> tuple[Reason | None, int | None]:
        config = self._configs.get(row.side)
        if config is None or row.side not in self._files:
            return _no("site", f"{row.side} is not in the site document"), None
        if not row.path.startswith(OURS):
            return _no("ours", f"{row.path} is not below {OURS}"), None
        if any(attempt.open for attempt in self._store.attempts(run.run_id)):
            return _no("open", f"an attempt of run {run.run_id} may still be alive"), None
        if not json.loads(row.unless).get("attempt"):
            if run.state == RunState.FAILED:
                fact = f"run {run.run_id} has failed and may be retried: the site's own `keep.failed` says how long"
                return _no("failed", fact), None
            return None, None
        after = kept_for(config, run.state)
        if after is None or run.ended_at is None:
            return _no("keep", f"the site document does not say how long {row.side} keeps it"), None
        due_at = run.ended_at + micros(after)
        if due_at > self._clock():
            return _no("keep", f"run {run.run_id} has ended later than it had, and is {run.state}"), due_at
        return None, None


class _Claim:
    """The right to one entry, said again and again."""

    def __init__(self, store: Store, clock: Clock, row: RetentionRow) -> None:
        self._store, self._clock = store, clock
        self.row = row

    def begin(self) -> bool:
        """Take it, if nobody removes anything anywhere."""
        return self._say(alone=True)

    def renew(self) -> None:
        """Raises ClaimLost."""
        if not self._say(alone=False):
            raise ClaimLost

    def _say(self, *, alone: bool) -> bool:
        now = self._clock()
        until = max(now + micros(CLAIM_SECONDS), (self.row.due_at or 0) + 1 if self.row.state == "removing" else 0)
        held = self.row._replace(state="removing", due_at=until)
        if not self._store.change_retention(self.row, held, now=now, alone=alone):
            return False
        self.row = held
        return True


def _no(rule: str, fact: str) -> Reason:
    return Reason(rule, "keep", fact)
