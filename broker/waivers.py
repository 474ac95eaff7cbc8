"""Waivers of where data may be: one person asks for one, another one confirms it, anybody withdraws it.

Persons are told apart by what the operating system says of them (`broker.people`), not by what a variable says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker import ids
from broker.clock import Clock, micros
from broker.engine.words import short_rule
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.facts import rules_of, side_facts, waiver_facts
from broker.service import Service
from broker.sites import Sites
from broker.states import RunState
from broker.store.base import RunRow, Store, WaiverRow
from broker.views import View, when
from policies.model import DataRule
from policies.residency import WAIVABLE, judged

DAY = 86_400.0
LONGEST = 30 * DAY
"""Seconds that a waiver may be asked for at most; what is to hold for longer belongs into the site document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for."""

    site: str
    """A site's or a place's name."""
    reason: str
    rule: str = ""
    """`stay`, `export_control`, or with `data.` before it; empty: the one that is against it."""
    seconds: float = DAY
    """From now until its end, confirmed or not."""


class Waivers:
    """The use cases, for one person."""

    def __init__(self, store: Store, sites: Sites, clock: Clock, *, person: str) -> None:
        self._store, self._sites, self._clock, self._person = store, sites, clock, person

    @classmethod
    def of(cls, service: Service) -> Waivers:
        return cls(service.store, service.sites, service.clock, person=service.person)

    def ask(self, run: RunRow, wish: Wish) -> View:
        """Ask for one; it holds once another person has confirmed it. Raises NotFound, UsageError, RefusedByPolicy."""
        row = self.wanted(run, wish)
        if not self._store.ask_waiver(row):
            known = self._open_one(row)
            raise RefusedByPolicy(
                f"{known.id if known else 'a waiver'} is there already for {row.rule} at {_name(row.side)}",
                help=f"crossfade waiver ls {run.run_id}",
            )
        return self.view(row)

    def wanted(self, run: RunRow, wish: Wish) -> WaiverRow:
        """What `ask` would keep. Raises as that does."""
        if not wish.reason.strip():
            raise UsageError("a waiver needs a reason", help='--reason "..."')
        if not 0 < wish.seconds <= LONGEST:
            raise UsageError("a waiver ends after 30 days at most", help="--for 24h")
        if RunState(run.state).final:
            raise RefusedByPolicy(f"run {run.run_id} is {run.state}: there is nothing to waive")
        side = self._side(wish.site)
        rule = _one_rule(self._against(run.run_id, side), wish.rule, run=run.run_id, site=_name(side))
        now = self._clock()
        return WaiverRow(
            id=f"w{ids.run_id(now, ids.random_bits)}",
            run_id=run.run_id,
            side=side,
            rule=rule,
            reason=wish.reason,
            asked_by=self._person,
            asked_at=now,
            ends_at=now + micros(wish.seconds),
            confirmed_by="",
            confirmed_at=None,
            confirm_reason="",
            withdrawn_by="",
            withdrawn_at=None,
            withdraw_reason="",
        )

    def confirm(self, ident: str, *, reason: str) -> View:
        """Let it hold, as a second person. Raises NotFound, UsageError, RefusedByPolicy."""
        row = self.may_confirm(ident, reason=reason)
        if not self._store.confirm_waiver(row.id, by=self._person, reason=reason, now=self._clock()):
            self.may_confirm(row.id, reason=reason)  # says what came between
            raise RefusedByPolicy(f"{row.id} has just changed", help=f"crossfade waiver ls {row.run_id}")
        return self.view(self.find(row.id))

    def may_confirm(self, ident: str, *, reason: str) -> WaiverRow:
        """The waiver, if this person may confirm it now. Raises as `confirm` does."""
        row, now = self.find(ident), self._clock()
        if not reason.strip():
            raise UsageError("a confirmation needs a reason", help='--reason "..."')
        against = ""
        if row.asked_by == self._person:
            against = f"{self._person} has asked for it, and two persons must agree"
        elif row.withdrawn_at is not None:
            against = f"{row.withdrawn_by} has withdrawn it"
        elif row.confirmed_at is not None:
            against = f"{row.confirmed_by} has confirmed it already"
        elif row.ends_at <= now:
            against = f"it ended at {when(row.ends_at)}"
        if against:
            same = row.asked_by == self._person
            other = f"another person types: crossfade waiver confirm {row.id} --reason ..."
            cure = other if same else f"crossfade waiver ls {row.run_id}"
            raise RefusedByPolicy(f"cannot confirm {row.id}: {against}", help=cure)
        return row

    def withdraw(self, ident: str, *, reason: str) -> View:
        """Let it hold no longer, whoever asked for it. Raises NotFound, RefusedByPolicy."""
        row = self.may_withdraw(ident)
        if not self._store.withdraw_waiver(row.id, by=self._person, reason=reason, now=self._clock()):
            self.may_withdraw(row.id)
        return self.view(self.find(row.id))

    def may_withdraw(self, ident: str) -> WaiverRow:
        """The waiver, if there is anything to withdraw. Raises as `withdraw` does."""
        row = self.find(ident)
        if row.withdrawn_at is not None:
            raise RefusedByPolicy(f"{row.withdrawn_by} has withdrawn {row.id} already")
        return row

    def find(self, ident: str) -> WaiverRow:
        """By its id, or the start of one. Raises NotFound, UsageError."""
        exact = self._store.waiver(ident)
        if exact is not None:
            return exact
        found = [row for row in self._store.waivers() if ident and row.id.startswith(ident)]
        if not found:
            raise NotFound(f"no waiver {ident!r}", help="see `crossfade waiver ls`")
        if len(found) > 1:
            raise UsageError(f"{ident!r} could be more than one waiver", help="type more of it")
        return found[0]

    def ls(self, run_id: str = "") -> list[View]:
        """Of a run or of all, those asked for last first."""
        return [self.view(row) for row in self._store.waivers(run_id)]

    def view(self, row: WaiverRow) -> View:
        """As people and programs read it."""
        return {
            "waiver": row.id,
            "run": row.run_id,
            "site": _name(row.side),
            "rule": row.rule,
            "state": state(row, now=self._clock()),
            "reason": row.reason,
            "asked_by": row.asked_by,
            "asked_at": when(row.asked_at),
            "ends_at": when(row.ends_at),
            "confirmed_by": row.confirmed_by or None,
            "confirmed_at": when(row.confirmed_at),
            "confirm_reason": row.confirm_reason or None,
            "withdrawn_by": row.withdrawn_by or None,
            "withdrawn_at": when(row.withdrawn_at),
            "withdraw_reason": row.withdraw_reason or None,
        }

    # -- behind ------------------------------------------------------------------------------------------------

    def _side(self, name: str) -> str:
        """As transfers call it. Raises NotFound."""
        bare = name.rstrip(":")
        if bare in self._sites.configs and not name.endswith(":"):
            return bare
        if bare in self._sites.places:
            return f"{bare}:"
        known = ", ".join(sorted({*self._sites.configs, *self._sites.places}))
        raise NotFound(f"no site and no place {name!r}", help=f"there are: {known}")

    def _against(self, run_id: str, side: str) -> Sequence[str]:
        """The rules that any stage's data has against that side, whatever is waived."""
        texts = {stage.rules for stage in self._store.stages(run_id)}
        facts = side_facts(side, sites=self._sites.configs, places=self._sites.places)
        found = (judged(rule, side, facts) for rule in _rules(texts))
        return sorted({reason.rule for reasons in found for reason in reasons})

    def _open_one(self, wanted: WaiverRow) -> WaiverRow | None:
        alike = [row for row in self._store.waivers(wanted.run_id) if (row.side, row.rule) == wanted[2:4]]
        return next((row for row in alike if row.withdrawn_at is None and row.ends_at > wanted.asked_at), None)


def state(row: WaiverRow, *, now: int) -> str:
    """asked, in_force, ended or withdrawn."""
    if row.withdrawn_at is not None:
        return "withdrawn"
    if row.ends_at <= now:
        return "ended"
    return "in_force" if waiver_facts(row).holds(now) else "asked"


def _rules(texts: Iterable[str]) -> Iterable[DataRule]:
    return {rule for text in texts if (rule := rules_of(text).data) is not None}


def _one_rule(against: Sequence[str], wished: str, *, run: str, site: str) -> str:
    """The rule to be waived. Raises UsageError."""
    if not wished and len(against) == 1:
        return against[0]
    if not against:
        raise UsageError(f"nothing to waive: no rule is against data of run {run} at {site}")
    rules = " and ".join(against)
    if not wished:
        raise UsageError(f"{rules} are against {site}", help="ask for each of them: --rule NAME")
    full = next((rule for rule in WAIVABLE if wished in (rule, short_rule(rule))), None)
    if full is None:
        raise UsageError(f"there is no rule {wished!r}", help=f"rules are: {', '.join(map(short_rule, WAIVABLE))}")
    if full not in against:
        raise UsageError(f"{full} is not against data of run {run} at {site}", help=f"what is against it: {rules}")
    return full


def _name(side: str) -> str:
    """A side as documents and people call it."""
    return side.rstrip(":")
