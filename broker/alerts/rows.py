"""What is kept of a notice, and when it is to be sent the next time. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from broker.alerts.kinds import REPEATS, STANDS

FIRST_AGAIN = 15 * 60.0
"""Seconds until what nobody has acknowledged is told again; then twice as long each time,"""
SLOWEST_AGAIN = 4 * 3600.0
"""at most so long."""
FIRST_RETRY = 10.0
"""Seconds until a try in vain is made again; then twice as long each time,"""
SLOWEST_RETRY = 15 * 60.0
"""at most so long,"""
MOST_TRIES = 200
"""and not for ever: about two days. What is given up stays in `crossfade notices ls`."""
RUN = -1
"""The number of a notice's stage where it is about the run as a whole."""


class AlertRow(NamedTuple):
    """One notice to one address."""

    id: str
    key: str
    run_id: str
    n: int
    about: str
    kind: str
    address: str
    body: str
    stands: int
    repeats: int
    created_at: int
    due_at: int | None
    number: int = 0
    tries: int = 0
    sent_at: int | None = None
    error: str = ""
    claim: str = ""
    acked_by: str = ""
    acked_at: int | None = None
    ack_reason: str = ""
    over_at: int | None = None
    over_why: str = ""
    over_sent_at: int | None = None

    @property
    def of_stage(self) -> tuple[str, int, str]:
        """What it is about: run, stage, kind."""
        return self.run_id, self.n, self.kind

    @property
    def open(self) -> bool:
        """Does what it tells of last, and has nobody acknowledged it?"""
        return bool(self.stands) and self.over_at is None and self.acked_at is None

    @property
    def says_over(self) -> bool:
        """Is what is to be sent now that it is over?"""
        return self.over_at is not None and bool(self.over_why) and self.number > 0 and self.over_sent_at is None

    @property
    def state(self) -> str:
        """new, failing, given_up, told, acknowledged or over."""
        if self.over_at is not None:
            return "over"
        if self.acked_at is not None:
            return "acknowledged"
        if self.tries:
            return "failing" if self.due_at is not None else "given_up"
        return "told" if self.number else "new"


class Over(NamedTuple):
    """What notices of that kind about that run or stage tell of has passed."""

    run_id: str
    n: int
    kind: str
    """Empty: every kind, about whichever of its stages."""
    why: str
    """Empty: nothing needs to be said, since something else is."""


Entries = Sequence[tuple[str, Collection[str]]]
"""Addresses, and the kinds that each is told."""


def entries_of(text: str) -> Entries:
    """Who is told of what, as a run's row keeps it."""
    return [(to, tuple(kinds)) for to, kinds in json.loads(text)] if text else ()


def entries_json(entries: Entries) -> str:
    """The inverse of `entries_of`."""
    return json.dumps([[to, list(kinds)] for to, kinds in entries], separators=(",", ":")) if entries else ""


def addresses(entries: Entries, kind: str) -> list[str]:
    """Who is told of that kind, each once."""
    return list(dict.fromkeys(to for to, kinds in entries if kind in kinds))


def new_alert(
    *,
    installation: str,
    key: str,
    kind: str,
    address: str,
    now: int,
    body: Mapping[str, object],
    run_id: str = "",
    n: int = RUN,
    about: str = "",
    repeats: bool | None = None,
) -> AlertRow:
    """One to be sent at once. `key`: which notice it is, whoever gets it; the same key at the same address is the
    same notice, however often it is written."""
    return AlertRow(
        id=alert_id(installation, key, address),
        key=key,
        run_id=run_id,
        n=n,
        about=about,
        kind=kind,
        address=address,
        body=json.dumps(body, separators=(",", ":")),
        stands=int(kind in STANDS),
        repeats=int(kind in REPEATS if repeats is None else repeats),
        created_at=now,
        due_at=now,
    )


def alert_id(installation: str, key: str, address: str) -> str:
    """By it whoever is told knows that two messages are about the same: `n` and 13 base32 characters (65 bits)."""
    raw = hashlib.sha256("\0".join((installation, key, address)).encode()).digest()
    return "n" + base64.b32encode(raw[:9]).decode().lower()[:13]


# -- when the next sending is due --------------------------------------------------------------------------------


def arrived(row: AlertRow, now: int) -> AlertRow:
    """What was to be sent, as `said` of the row that was claimed tells, has arrived. `row`: as it is now."""
    sent = row._replace(number=row.number + 1, tries=0, sent_at=now, error="", claim="")
    return sent._replace(due_at=_next(sent, now))


def over_arrived(row: AlertRow, now: int) -> AlertRow:
    """That it is over has arrived."""
    return row._replace(tries=0, sent_at=now, error="", claim="", over_sent_at=now, due_at=None)


def in_vain(row: AlertRow, now: int, error: str) -> AlertRow:
    """It has not arrived."""
    tries = row.tries + 1
    failed = row._replace(tries=tries, error=error[:300], claim="")
    if row.over_at is not None and not row.says_over:
        return failed._replace(due_at=None)  # it has passed meanwhile, and nobody has heard of it
    if tries >= MOST_TRIES:
        return failed._replace(due_at=None)
    return failed._replace(due_at=now + _micros(min(SLOWEST_RETRY, FIRST_RETRY * 2.0 ** min(tries - 1, 20))))


def acked(row: AlertRow, *, by: str, reason: str, now: int) -> AlertRow:
    """Somebody takes care of it: not told again. That it is over will be."""
    done = row._replace(acked_by=by, acked_at=now, ack_reason=reason)
    return done if row.claim else done._replace(due_at=None)


def passed(row: AlertRow, *, why: str, now: int) -> AlertRow:
    """What it tells of is over. That is sent once, if anybody has heard of it at all."""
    done = row._replace(over_at=now, over_why=why)
    if row.claim:  # whoever is at it finds out when it is done
        return done
    return done._replace(due_at=now if done.says_over else None, tries=0)


def _next(row: AlertRow, now: int) -> int | None:
    if row.over_at is not None:
        return now if row.says_over else None
    if not row.repeats or row.acked_at is not None:
        return None
    return now + _micros(min(SLOWEST_AGAIN, FIRST_AGAIN * 2.0 ** min(row.number - 1, 20)))


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


class AlertStore(Protocol):
    """Where notices are kept. Thread-safe; every method is one transaction."""

    def claim(self, *, claim: str, now: int, limit: int, seconds: float) -> Sequence[AlertRow]:
        """Take those that are due: nobody else gets them for so long. No commit where there are none."""
        ...

    def give_back(self, claimed: AlertRow, *, now: int, error: str = "") -> bool:
        """How sending went; `error` empty: it has arrived. False: it is somebody else's by now, nothing was written."""
        ...

    def put_off(self, claimed: Sequence[AlertRow], *, until: int, error: str) -> None:
        """They were not tried: their address did not take another one."""
        ...

    def keep_standing(
        self,
        wanted: Sequence[AlertRow],
        *,
        kind: str,
        abouts: Collection[str] | None,
        why: str,
        now: int,
        one_each: bool = False,
    ) -> None:
        """These, and no others of that kind, stand now: new ones are added, and others are over. `abouts`: only those
        about one of these; None: all. One about the same as a wanted one, to the same address, is over without a
        word; with `one_each` it is that one, and goes on."""
        ...

    def ack(self, ids: Collection[str], *, by: str, reason: str, now: int) -> Sequence[AlertRow]:
        """Those of them that were open and are acknowledged now; told in their runs' streams, or the operators'."""
        ...

    def ls(self, *, run_id: str = "", open_only: bool = False, limit: int = 200) -> Sequence[AlertRow]:
        """Newest first."""
        ...
