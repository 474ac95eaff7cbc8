"""Availability traces: files of others, read within limits.

Two forms, both JSON, one file a site (its name is the file's):

* ticks: `{"metadata": {"gap_seconds": 600}, "data": [1, 0, ...]}`, as SkyPilot's spot traces have them: a value above
  zero means that the site could be had from that tick to the next;
* intervals: `{"t0": ..., "t1": ..., "down": [{"start": ..., "end": ...}, ...]}` in seconds of any one clock; pairs
  `[start, end]` do, too.

Every trace begins at its own zero: traces of one folder are laid side by side, whatever dates they are of.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.errors import NotFound, UsageError
from broker.simulate.uptime import Spell, Uptime, joined, without

MOST_BYTES = 32 << 20
MOST_SITES = 64
MOST_TICKS = 4_000_000
MOST_SECONDS = 20 * 365 * 86_400.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_FORMS = 'write {"metadata": {"gap_seconds": 600}, "data": [1, 0]} or {"t0": 0, "t1": 3600, "down": [[600, 900]]}'


class NoTrace(UsageError):
    """A file is no trace that can be read."""

    def __init__(self, path: Path, what: str, *, help: str = _FORMS) -> None:  # noqa: A002 - the reader's word
        super().__init__(f"{path.name}: {what}", help=help)


def read_traces(folder: Path, *, only: Sequence[str] = ()) -> list[Uptime]:
    """The traces of a folder (all `*.json` files), by name; `only` these sites, in that order.

    Raises NotFound for a folder or a site that is not there, UsageError for a file that is no trace.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    files = {path.stem: path for path in sorted(folder.glob("*.json")) if path.is_file()}
    missing = [name for name in only if name not in files]
    if missing:
        raise NotFound(f"no trace of {', '.join(missing)} in {folder}", help=f"there are: {', '.join(files) or 'none'}")
    wanted = list(only) or list(files)
    if not wanted:
        raise NotFound(f"there is no trace in {folder}", help=_FORMS)
    if len(wanted) > MOST_SITES:
        raise UsageError(f"{len(wanted)} traces are more than {MOST_SITES} sites", help="choose some with --site")
    return [read_trace(files[name]) for name in wanted]


def read_trace(path: Path) -> Uptime:
    """One trace. Raises UsageError."""
    if not _NAME.fullmatch(path.stem):
        raise NoTrace(path, "its name is no name of a site", help="use letters, digits, _, - and .")
    data = _read(path)
    if "data" in data:
        spells, length, tick = _ticks(path, data)
    elif "down" in data:
        spells, length, tick = *_intervals(path, data), 0.0
    else:
        raise NoTrace(path, "it has neither `data` nor `down`")
    return Uptime(path.stem, spells, length, tick)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise NoTrace(path, f"is larger than {MOST_BYTES >> 20} MB", help="split it")
        data = json.loads(content, parse_constant=_no_number)
    except OSError as error:
        raise NoTrace(path, f"cannot be read: {error.strerror}", help="check its permissions") from error
    except (ValueError, RecursionError) as error:  # among them bytes that are no text
        raise NoTrace(path, "is no JSON that can be read") from error
    if not isinstance(data, dict):
        raise NoTrace(path, "is not a JSON object")
    return data


def _no_number(word: str) -> float:
    raise ValueError(word)


def _ticks(path: Path, data: Mapping[str, Any]) -> tuple[list[Spell], float, float]:
    told, values = data.get("metadata"), data["data"]
    gap = _number(path, "metadata.gap_seconds", told.get("gap_seconds") if isinstance(told, dict) else None)
    if not 1 <= gap <= 86_400:
        raise NoTrace(path, "metadata.gap_seconds must lie between 1 and 86400")
    if not isinstance(values, list) or not values:
        raise NoTrace(path, "`data` must be a list of numbers, and not empty")
    if len(values) > MOST_TICKS:
        raise NoTrace(path, f"has more than {MOST_TICKS} ticks", help="split it")
    _bounded(path, len(values) * gap)
    up = [_number(path, "data", value) > 0 for value in values]
    return joined([(i * gap, (i + 1) * gap) for i, there in enumerate(up) if there]), len(values) * gap, gap


def _intervals(path: Path, data: Mapping[str, Any]) -> tuple[list[Spell], float]:
    begins, ends = (_number(path, name, data.get(name)) for name in ("t0", "t1"))
    if ends <= begins:
        raise NoTrace(path, "t1 must come after t0")
    _bounded(path, ends - begins)
    down = data["down"]
    if not isinstance(down, list) or len(down) > MOST_TICKS:
        raise NoTrace(path, "`down` must be a list of intervals")
    found = []
    for interval in down:
        start, end = _ends(path, interval)
        if end < start:
            raise NoTrace(path, f"an interval of `down` ends ({end:g}) before it starts ({start:g})")
        found.append((max(0.0, start - begins), min(ends, end) - begins))
    return without(ends - begins, found), ends - begins


def _ends(path: Path, interval: object) -> tuple[float, float]:
    pair = [interval.get("start"), interval.get("end")] if isinstance(interval, dict) else interval
    if not isinstance(pair, list) or len(pair) != 2:
        raise NoTrace(path, "an interval of `down` needs a start and an end")
    return _number(path, "down.start", pair[0]), _number(path, "down.end", pair[1])


def _number(path: Path, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15 or not math.isfinite(value):
        raise NoTrace(path, f"`{name}` must be a number")
    return float(value)


def _bounded(path: Path, length: float) -> None:
    if length > MOST_SECONDS:
        raise NoTrace(path, f"tells of more than {MOST_SECONDS / 86_400 / 365:g} years")
