"""Every number of the policies that an installation may set: one frozen value, passed in where it is decided by.

What a document says for its own stages (`failover.after`, `max`, `prefer`, ...) is no part of it, nor is what is
measured (waits, links, losses), nor what several processes must agree about (within which time silences are together).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from policies.brake import BrakeNumbers
from policies.leaving import LeavingNumbers
from policies.ranking import RankNumbers
from policies.retry import RetryNumbers
from policies.shipping import AheadNumbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """By policy."""

    placement: RankNumbers = field(default_factory=RankNumbers)
    failover: LeavingNumbers = field(default_factory=LeavingNumbers)
    brake: BrakeNumbers = field(default_factory=BrakeNumbers)
    retry: RetryNumbers = field(default_factory=RetryNumbers)
    shipping: AheadNumbers = field(default_factory=AheadNumbers)


USUAL_NUMBERS = Numbers()
