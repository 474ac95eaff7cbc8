"""Moments as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from broker.errors import UsageError

_IN = re.compile(r"\+(?P<number>\d{1,6}(?:\.\d+)?)(?P<unit>[smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_HELP = "write 2026-12-01T08:00 (local time), 2026-12-01T08:00Z, +2h, or now"


def moment(text: str, *, now: int) -> int:
    """Microseconds UTC of `now`, `+2h`, or an ISO 8601 date and time; one without an offset is this machine's local
    time. Raises UsageError."""
    text = text.strip()
    if text == "now":
        return now
    if found := _IN.fullmatch(text):
        return now + round(float(found["number"]) * _UNITS[found["unit"]] * 1e6)
    try:
        at = datetime.fromisoformat(text)
        return round(at.astimezone(UTC).timestamp() * 1e6)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no time", help=_HELP) from error
