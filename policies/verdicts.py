"""The nouns of health: states, what is known of a site beside its evidence, and one rule's word."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from policies.evidence import Budgets

CAPABILITIES = ("submit", "status", "files", "transfer", "compute", "credentials")


class State(Enum):
    """How a capability is. In the order of penalty: the later one wins."""

    UP = "up"
    """Measured lately, often enough, and well."""
    UNKNOWN = "unknown"
    """Too few good measurements to say: neither bad nor good."""
    DEGRADED = "degraded"
    """It works, but not always, or its site says so. Used when nothing better is left."""
    PROBING = "probing"
    """It was down, or up and down: one stage at a time may try it."""
    DRAINING = "draining"
    """Nothing new starts there; what is there goes on."""
    MAINTENANCE = "maintenance"
    """Its site has announced this."""
    DOWN = "down"
    """It fails, by measurements of our own."""

    @property
    def penalty(self) -> int:
        return _PENALTY[self]


_PENALTY = {state: rank for rank, state in enumerate(State)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What an operator says, against all evidence, until it ends."""

    state: State
    by: str
    reason: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A maintenance that somebody has announced."""

    begins: int | None
    """None: it is open already, and nobody says since when."""
    ends: int | None
    """None: nobody says."""
    words: str
    at: int
    """When it was said, or last read."""
    source: str
    """feed: the site's own calendar; operator."""
    capability: str = ""
    """What is away then; empty: all of it."""

    def open(self, now: int) -> bool:
        """Is it under way?"""
        return (self.begins is None or self.begins <= now) and (self.ends is None or self.ends > now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Jobs that end fast and badly, all of them."""

    words: str
    newest: int
    tries_at: int
    """When one more may be sent there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a site beside its evidence."""

    site: str
    budgets: Budgets = field(default_factory=Budgets)
    silent_since: int | None = None
    """The first look in vain since the last answer; None: it answers, or was never asked."""
    probes: int = 0
    """Looks in vain since then."""
    detail: str = ""
    doubt: str = ""
    """Not empty: it fell silent together with others, so that the fault is more likely ours."""
    drained: str = ""
    """Why an operator drained it; empty: nobody did."""
    frozen: str = ""
    """Who has frozen submissions there, why and until when; empty: nobody."""
    quarantined: bool = False
    override: Override | None = None
    windows: tuple[Window, ...] = ()
    """Maintenance that operators have announced, open or still to come."""
    hole: Hole | None = None
    """It fails fast whatever is sent there (`policies.blackhole`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One rule's word on one capability."""

    state: State
    rule: str
    fact: str
    at: int | None = None
    """The newest evidence that it rests on."""
    source: str = ""
    until: int | None = None
    """When it changes by itself; None: with the next evidence."""
    then: str = ""
    """What happens at `until`."""
