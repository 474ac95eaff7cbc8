"""What a stage has saved of its work: its checkpoints, their copies elsewhere, inputs that were sent there ahead, and
what would be lost with its site."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.engine.standby import RECALL, SEND
from broker.facts import checkpoint_facts
from broker.store.base import AttemptRow, CheckpointRow, EffectRow, SiteRow, StageRow
from broker.views import View, when
from connectors.registry import SiteConfig
from policies.checkpoint import choose
from policies.intervals import span

_Identity = tuple[int, int, int]
_UNDER_WAY = "under way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The rows that it is worked out from, of one run."""

    configs: Mapping[str, SiteConfig]
    sites: Mapping[str, SiteRow]
    attempts: Sequence[AttemptRow]
    checkpoints: Sequence[CheckpointRow]
    effects: Sequence[EffectRow]
    now: int

    def facility(self, site: str) -> str:
        config = self.configs.get(site)
        return config.facility or config.name if config else site

    def dark(self) -> set[str]:
        """Sites that give no answer."""
        known = {name for name, row in self.sites.items() if row.cannot_ask_since is not None}
        return known | {row.site for row in self.checkpoints if row.site not in self.configs}


def holding(held: Held, stage: StageRow, *, keep: int = 2, everything: bool = False) -> View:
    """One stage's checkpoints, newest first, and the work at risk. `everything`: also those that are gone. `keep`: how
    many the wrapper keeps at the site; it does not tell of those that it removes."""
    rows = _as_they_are([row for row in held.checkpoints if row.n == stage.n], held.attempts, stage, keep)
    attempts = {row.number: row for row in held.attempts if row.n == stage.n}
    ships = [effect for effect in held.effects if effect.n == stage.n and effect.kind == "ship"]
    current = attempts.get(stage.attempt)
    shown: dict[_Identity, list[CheckpointRow]] = defaultdict(list)
    for row in rows:
        if everything or row.state != "gone":
            shown[_identity(row)].append(row)
    newest = sorted(shown.items(), key=lambda item: (item[0][2], *item[0]), reverse=True)
    return {
        "stage": stage.path,
        "state": stage.state,
        "site": current.site if current and current.open else None,
        "at_risk": _at_risk(held, rows, attempts, current) if stage.state == "ACTIVE" and current else None,
        "checkpoints": [
            _checkpoint(held, identity, copies, attempts, [e for e in ships if _shipped(e) == identity])
            for identity, copies in newest
        ],
        "inputs": _inputs([effect for effect in held.effects if effect.n == stage.n]),
    }


def _as_they_are(
    rows: Sequence[CheckpointRow], attempts: Sequence[AttemptRow], stage: StageRow, keep: int
) -> list[CheckpointRow]:
    """The rows, with what follows from newer ones: old ones are gone from their own site, and wait for nothing."""
    homes = {row.number: row.site for row in attempts if row.n == stage.n}
    own: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in rows:
        if row.site == homes.get(row.attempt):
            own[row.attempt, row.generation].append(row.seq)
    kept = {key: sorted(seqs)[-keep:] for key, seqs in own.items()}
    newest = max((row.seq for row in rows), default=0)
    seen = []
    for row in rows:
        waits = stage.state == "ACTIVE" and row.seq == newest
        if row.site == homes.get(row.attempt) and row.seq not in kept[row.attempt, row.generation]:
            seen.append(row._replace(state="gone", reason=f"its site keeps the newest {keep}"))
        else:
            seen.append(row if waits or not row.reason.startswith("waits: ") else row._replace(reason=""))
    return seen


def _identity(row: CheckpointRow) -> _Identity:
    return row.attempt, row.generation, row.seq


def _shipped(effect: EffectRow) -> _Identity:
    asked = json.loads(effect.payload)
    return effect.attempt, int(asked["generation"]), int(asked["seq"])


def _made_at(rows: Sequence[CheckpointRow]) -> int:
    """When it was written: its site's clock may be fast, but it was there before it was found good."""
    return min(min(row.created_at, row.verified_at or row.created_at) for row in rows)


# -- one checkpoint ------------------------------------------------------------------------------------------------


def _checkpoint(
    held: Held,
    identity: _Identity,
    rows: Sequence[CheckpointRow],
    attempts: Mapping[int, AttemptRow],
    ships: Sequence[EffectRow],
) -> View:
    number, generation, seq = identity
    home = attempts[number].site if number in attempts else rows[0].site
    own = next((row for row in rows if row.site == home), None)
    made_at = _made_at(rows)
    return {
        "seq": seq,
        "attempt": number,
        "generation": generation,
        "site": home,
        "state": own.state if own else "gone",
        "bytes": own.bytes if own else max(row.bytes for row in rows),  # a copy counts its manifest too
        "created_at": when(made_at),
        "age_seconds": round(max(0, held.now - made_at) / 1e6, 1),
        "verified_at": when(own.verified_at if own else rows[0].verified_at),
        "reason": own.reason if own else "",
        "copies": [*(_arrived(row, ships) for row in rows if row.site != home), *_on_the_way(rows, ships)],
    }


def _arrived(row: CheckpointRow, ships: Sequence[EffectRow]) -> View:
    ordered = next((effect.created_at for effect in ships if effect.site == row.site), None)
    return {
        "site": row.site,
        "state": row.state,
        "ordered_at": when(ordered),
        "arrived_at": when(row.verified_at),
        "reason": row.reason,
    }


def _on_the_way(rows: Sequence[CheckpointRow], ships: Sequence[EffectRow]) -> list[View]:
    there = {row.site for row in rows}
    return [
        {
            "site": effect.site,
            "state": _UNDER_WAY,
            "ordered_at": when(effect.created_at),
            "arrived_at": None,
            "reason": str((json.loads(effect.note) if effect.note else {}).get("last", "")),
        }
        for effect in ships
        if effect.state == "pending" and effect.site not in there
    ]


# -- inputs ahead --------------------------------------------------------------------------------------------------


def _inputs(effects: Sequence[EffectRow]) -> list[View]:
    """Where the stage's inputs were sent before it has to go there, in the order in which that was ordered. `state`:
    under way, there, not there (with the reason), removed."""
    recalled = {json.loads(e.payload)["order"]: e for e in effects if e.kind == RECALL}
    orders = sorted((effect for effect in effects if effect.kind == SEND), key=lambda effect: effect.created_at)
    return [_sent(order, recalled.get(order.key)) for order in orders]


def _sent(order: EffectRow, recall: EffectRow | None) -> View:
    outcome = json.loads(order.outcome) if order.outcome else {}
    arrived = bool(outcome.get("arrived"))
    state = _UNDER_WAY if order.state == "pending" else "there" if arrived else "not there"
    last = str((json.loads(order.note) if order.note else {}).get("last", ""))
    return {
        "site": order.site,
        "state": "removed" if recall is not None else state,
        "bytes": outcome.get("bytes"),
        "ordered_at": when(order.created_at),
        "arrived_at": when(order.done_at) if arrived else None,
        "reason": last if order.state == "pending" else str(outcome.get("reason", outcome.get("dropped", ""))),
    }


# -- what would be lost --------------------------------------------------------------------------------------------


def _at_risk(
    held: Held, rows: Sequence[CheckpointRow], attempts: Mapping[int, AttemptRow], current: AttemptRow
) -> View | None:
    """What would be lost with the site that the stage runs at, if that went now with all sites of its facility."""
    if not current.open or current.started_at is None:
        return None
    facility = held.facility(current.site)
    elsewhere = [c for c in checkpoint_facts(rows) if held.facility(c.site) != facility]
    best, _ = choose(elsewhere, target="", dark=held.dark(), started_before=True)
    kept = (best.attempt, best.generation, best.seq) if best else None
    lost = round(max(0.0, _lost(held, rows, attempts, current, kept)), 1)
    begins = f"goes on from checkpoint {best.seq}, read from {best.site}" if best else "starts from the beginning"
    return {
        "seconds": lost,
        "resumes_from": best.seq if best else None,
        "read_from": best.site if best else None,
        "words": f"were {current.site} lost now, {span(lost)} of work would go with it: the stage {begins}",
    }


def _lost(
    held: Held,
    rows: Sequence[CheckpointRow],
    attempts: Mapping[int, AttemptRow],
    current: AttemptRow,
    kept: _Identity | None,
) -> float:
    """Seconds of work since the checkpoint that would be kept (None: since the first start)."""
    made = {_identity(row): _made_at([r for r in rows if _identity(r) == _identity(row)]) for row in rows}
    if kept is not None and kept[0] == current.number:
        return (held.now - made[kept]) / 1e6
    lost = (held.now - (current.started_at or held.now)) / 1e6
    origin: dict[str, Any] = json.loads(current.restore) if current.restore else {}
    if not origin:
        return lost
    start = (origin["attempt"], origin["generation"], origin["seq"])
    if start == kept or start not in made:
        return lost
    first = min((row.started_at for row in attempts.values() if row.started_at is not None), default=held.now)
    before = made[kept] if kept is not None else first
    return lost + max(0.0, (made[start] - before) / 1e6)  # and what an earlier attempt had done since
