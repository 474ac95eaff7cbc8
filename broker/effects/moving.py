"""What all that has files moved goes by: begin once, ask for all together, wait without asking often, ask a person."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from broker.clock import Clock
from broker.effects.outcome import Result, again, compact, seen
from broker.engine.words import what_helps
from broker.facts import rules_of
from broker.jobs import Job
from broker.residency import Residency
from broker.store.base import EffectAgain, EffectRow
from connectors.base import Mover
from connectors.errors import Fault
from connectors.model import Refused, Transfer, TransferState, TransferStatus
from policies.model import Reason

Batch = Sequence[tuple[EffectRow, Job]]
DARK_PAUSE = 5.0
"""Seconds until a transfer whose source or destination is dark is tried again."""
CALLED_PAUSE = 30.0
"""Seconds until a transfer is asked for again whose end is told by itself, in case that this is lost."""


class Moving:
    """The mover, as effects use it."""

    def __init__(self, *, residency: Residency, mover: Mover, clock: Clock) -> None:
        self._residency, self._mover, self._clock = residency, mover, clock

    def forbidden(self, job: Job, transfers: Sequence[Transfer]) -> Reason | None:
        """Why the document does not want one of these moved, asked a second time now that it would be, and again as
        long as it is on its way: what a waiver that ended had let go is not waited for."""
        rule = rules_of(job.stage.rules).data
        if rule is None:
            return None
        sides = dict.fromkeys(transfer.destination_site for transfer in transfers)
        found = (self._residency.against(rule, job.stage.run_id, side) for side in sides)
        return next((against for against in found if against is not None), None)

    def move(self, transfers: Sequence[Transfer], *, anew: Collection[str]) -> dict[str, TransferStatus]:
        """Begin what the mover does not know yet (and of those in `anew` what had failed), and say how all stand."""
        if not transfers:
            return {}
        states = dict(self._mover.status([transfer.key for transfer in transfers]))
        new = [t for t in transfers if t.key not in states or _to_begin(states[t.key], again=t.key in anew)]
        if new:
            answers = self._mover.submit(new)
            states.update(self._mover.status([t.key for t in new]))
            states.update({key: _refusal(key, a) for key, a in answers.items() if isinstance(a, Refused)})
        return states

    def begun(self, key: str) -> bool:
        """Has the mover anything under that key?"""
        status = self._mover.status([key]).get(key)
        return status is not None and status.state is not TransferState.UNKNOWN

    def standing(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        """How these are, as far as the mover knows any of them."""
        return self._mover.status(keys) if keys else {}

    def end(self, keys: Sequence[str]) -> bool:
        """Have these ended. True: nothing is written for any of them from now on."""
        return not keys or all(self._mover.cancel(keys).values())

    def later(self, effect: EffectRow, states: Iterable[TransferStatus]) -> EffectAgain:
        """Nobody need ask often for what calls back."""
        called = all(s.calls_back for s in states if s.state is not TransferState.SUCCEEDED)
        return again(effect, self._clock(), reason="on its way", slowest=2.0, pause=CALLED_PAUSE if called else None)

    def hold(self, effect: EffectRow, job: Job, held: TransferStatus, result: Result) -> None:
        """A person is asked; when that has helped, the transfer goes on by itself."""
        facts = {"held": held.reason or "the transfer waits for a person", "help": held.help}
        result.seen.append(seen(effect, job, staged=compact(facts)))
        reason = f"held: {held.reason}"
        result.again.append(again(effect, self._clock(), reason=reason, pause=CALLED_PAUSE if held.calls_back else 5.0))

    def on_its_way(self, effect: EffectRow, job: Job, states: Iterable[TransferStatus], result: Result) -> None:
        """Not over yet: a person is asked where only one helps, else it is waited for."""
        known = list(states)
        held = next((status for status in known if status.state is TransferState.HELD), None)
        if held is not None:
            self.hold(effect, job, held, result)
            return
        if _was_held(job):
            result.seen.append(seen(effect, job, staged=""))
        result.again.append(self.later(effect, known))


def _to_begin(status: TransferStatus, *, again: bool) -> bool:
    return status.state is TransferState.UNKNOWN or (again and status.state is TransferState.FAILED)


def _was_held(job: Job) -> bool:
    return job.attempt.staged.startswith('{"held"')


# -- what is written on the attempt's row ------------------------------------------------------------------------


def not_staged(reason: str, fault: Fault, *, site: str = "") -> str:
    return compact({"ok": False, "reason": reason, "fault": fault.value, "site": site})


def against_it(job: Job, reason: Reason) -> str:
    helps = what_helps(job.stage.run_id, reason)
    told = f"{reason.rule}: {reason.fact}" + (f"; what helps: {helps}" if helps else "")
    return not_staged(told, Fault.POLICY, site=reason.site)


def _refusal(key: str, answer: Refused) -> TransferStatus:
    return TransferStatus(key=key, state=TransferState.FAILED, reason=answer.reason, fault=answer.fault)
