"""Times and sizes as people write them, to seconds and bytes."""

from __future__ import annotations

import re

from broker.spec.errors import Wrong, quoted

LONGEST = 10 * 366 * 86_400
"""Seconds: ten years, beyond which a duration is a slip."""
LARGEST = 1 << 60
"""Bytes."""

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_UNITS = ("", "k", "M", "G", "T", "P")
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([kKMGTP]?)(i?)B")

DURATION_CURE = "write 90s, 15m, 2h, 1h30m or 3d, or a number of seconds"
SIZE_CURE = "write 64GB (64 000 000 000 bytes) or 64GiB (64 times 1024 MiB), or a number of bytes"


def duration(value: object) -> float:
    """Seconds, a whole number where it is one. Raises Wrong."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(f"expected a duration, found {quoted(value)}", DURATION_CURE)
    if isinstance(value, str):
        text = value.strip()
        if not _DURATION.fullmatch(text):
            raise Wrong(f"{quoted(value)} is not a duration", DURATION_CURE)
        value = round(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)), 6)
    if not 0 <= value <= LONGEST:
        raise Wrong("a duration must lie between 0 and ten years", DURATION_CURE)
    return int(value) if value == int(value) else value


def size(value: object) -> int:
    """Bytes. Raises Wrong."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Wrong(f"expected a size, found {quoted(value)}", SIZE_CURE)
    count = _bytes(value) if isinstance(value, str) else value
    if not 0 <= count <= LARGEST:
        raise Wrong("a size must lie between 0 and 2^60 bytes", SIZE_CURE)
    return count


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise Wrong(f"{quoted(text)} is not a size", SIZE_CURE)
    number, unit, binary = found.groups()
    scale: int = (1024 if binary else 1000) ** _power(unit)
    return int(number) * scale if number.isdigit() else round(float(number) * scale)


def _power(unit: str) -> int:
    return _UNITS.index("k" if unit == "K" else unit)
