"""Stages that only move data: what they bring where, what they leave, and what is removed afterwards. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from broker.store.base import AttemptRow, RetentionRow, StageRow

Json = Mapping[str, Any]
OWN = ""
"""In a stored `keep`: the directory of the attempt whose files were delivered."""


def brought_to(body: Json) -> list[str]:
    """PLACE:path of all that it brings."""
    return ["".join(entry["to"]) for entry in body["copy"]]


def copied(stage: StageRow) -> str:
    """The manifest of its product: it has no files of its own, but those that lie where it brought them."""
    return json.dumps({"files": [], "to": [entry["to"] for entry in json.loads(stage.body)["copy"]]})


def kept(stage: StageRow, winner: AttemptRow, *, now: int) -> list[RetentionRow]:
    """What its `keep` will have removed, from now on. What lay in an attempt's directory was told by who moved it."""
    staged = json.loads(winner.staged)
    found: dict[str, RetentionRow] = {}
    for wish in json.loads(stage.body).get("keep", ()):
        row = _row(stage, winner, wish, staged.get("taken", {}).get(str(wish["entry"])), now)
        if row is not None:
            known = found.get(row.key)
            found[row.key] = row if known is None else _both(known, row)
    return list(found.values())


def _both(one: RetentionRow, other: RetentionRow) -> RetentionRow:
    """The same files named twice: only when both allow it, and no earlier than both."""
    a, b = json.loads(one.unless), json.loads(other.unless)
    unless = {"all": a["all"] + b["all"], "any": [side for side in a["any"] if side in b["any"]]}
    due_at = max(one.due_at or 0, other.due_at or 0)
    return one._replace(unless=json.dumps(unless, separators=(",", ":")), due_at=due_at)


def _row(stage: StageRow, winner: AttemptRow, wish: Json, taken: Json | None, now: int) -> RetentionRow | None:
    """`taken`: {site, path, files} of a delivery. None: nothing was there to be delivered."""
    own = (taken["site"], taken["path"]) if taken is not None else None
    side, path = own if wish["side"] == OWN and own is not None else (wish["side"], wish["path"])
    if side == OWN:
        return None
    unless = {name: _resolved(wish[name], own) for name in ("all", "any")}
    return RetentionRow(
        key=hashlib.sha256(f"{stage.run_id}\n{stage.n}\n{side}\n{path}".encode()).hexdigest()[:32],
        run_id=stage.run_id,
        n=stage.n,
        attempt=winner.number,
        side=side,
        path=path,
        files=json.dumps(taken["files"], separators=(",", ":")) if taken is not None else "",
        unless=json.dumps(unless, separators=(",", ":")),
        due_at=now + round(wish["after"] * 1e6),
        state="waiting",
        reason="",
        created_at=now,
        done_at=None,
    )


def _resolved(sides: Sequence[Sequence[str]], own: tuple[str, str] | None) -> list[Sequence[str]]:
    return [own or other if other[0] == OWN else other for other in sides]
