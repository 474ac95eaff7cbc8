"""How a Slurm is, by scontrol and sinfo: its controller, its nodes, its maintenance windows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from connectors.command.calls import PLAIN, Section
from connectors.command.dialect import Call
from connectors.model import Evidence, Finding
from connectors.slurm.jobs import number

_PROBE = """
# a controller that does not answer is waited for by each further question
if section ping scontrol ping </dev/null; then
    section nodes sinfo -h -o '%R|%a|%A|%l' </dev/null
    section reservations scontrol -o show reservation </dev/null
fi
section who id -un </dev/null
section version squeue --version </dev/null
section sbatch sh -c 'command -v sbatch' </dev/null
"""
_FIELD = re.compile(r"(\w+)=(\S*)")
SOON = 24 * 3600 * 1_000_000
"""Microseconds before a maintenance window that it is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A reservation for maintenance. Times are µs."""

    name: str
    begin: int
    end: int


def probing() -> Call:
    """One call for all of it."""
    return Call(script=PLAIN + _PROBE, lines=())


def evidence(sections: Mapping[str, Section], *, site: str, at: int, latency: float) -> Sequence[Evidence]:
    """What the reply says of submitting, of asking, and of the nodes."""

    def fact(capability: str, wrong: str, *, detail: str = "", until: int | None = None) -> Evidence:
        return Evidence(
            site=site,
            capability=capability,
            ok=not wrong,
            at=at,
            latency=latency,
            detail=wrong or detail,
            until=until,
        )

    wrong = _controller(sections)
    found = [fact("status", wrong), fact("submit", wrong)]
    if wrong:
        return found
    windows = [it for it in maintenance(sections) if it.end > at]
    now = [window for window in windows if window.begin <= at]
    soon = sorted((window for window in windows if at < window.begin <= at + SOON), key=lambda it: it.begin)
    if now:
        last = max(now, key=lambda it: it.end)
        found.append(fact("compute", f"maintenance {last.name}", until=last.end).published("maintenance"))
    elif soon:
        ahead = fact("compute", _nodes(sections), detail=f"maintenance {soon[0].name} begins", until=soon[0].begin)
        found.append(ahead.published("maintenance") if ahead.ok else ahead)
    else:
        found.append(fact("compute", _nodes(sections)))
    return found


def findings(sections: Mapping[str, Section]) -> Sequence[Finding]:
    """What `check` tells a person of the same reply."""
    wrong, who, sbatch = _controller(sections), sections.get("who"), sections.get("sbatch")
    version = sections["version"].out.strip() if "version" in sections else ""
    partitions = ", ".join(sorted({name for name, up, _, _ in _partitions(sections) if up == "up"}))
    has = sbatch is not None and sbatch.code == 0
    return [
        Finding(step="status", ok=not wrong, detail=wrong or version[:100], help=_PATH_HELP if wrong else ""),
        Finding(
            step="allocation",
            ok=None,
            detail=f"user {who.out.strip()[:100] if who else '?'}; partitions: {partitions[:300] or 'none up'}",
        ),
        Finding(step="submit", ok=has, detail="" if has else "no sbatch", help="" if has else _PATH_HELP),
    ]


_PATH_HELP = "name the folder with Slurm's commands: options: {path: [/opt/slurm/bin]}"


def maintenance(sections: Mapping[str, Section]) -> Iterator[Window]:
    """Reservations with the flag MAINT, whoever made them."""
    told = sections.get("reservations")
    for line in told.out.splitlines() if told is not None and told.code == 0 else ():
        fields = dict(_FIELD.findall(line))
        begin, end = number(fields.get("StartTime")), number(fields.get("EndTime"))
        if "MAINT" in fields.get("Flags", "").split(",") and begin is not None and end is not None:
            yield Window(name=fields.get("ReservationName", "?")[:60], begin=begin * 1_000_000, end=end * 1_000_000)


def _controller(sections: Mapping[str, Section]) -> str:
    """What is wrong with it; empty: it answers."""
    ping = sections.get("ping")
    if ping is None:
        return "scontrol was not asked"
    up = re.search(r"\bUP\b", ping.out) is not None
    return "" if ping.code == 0 and up else f"scontrol ping: {ping.said}"


def _nodes(sections: Mapping[str, Section]) -> str:
    told = sections.get("nodes")
    if told is None or told.code != 0:
        return f"sinfo: {told.said if told else 'not asked'}"
    found = list(_partitions(sections))
    if found and not any(up == "up" for _, up, _, _ in found):
        return "every partition is down"
    if found and not any(allocated + idle for _, _, allocated, idle in found):
        return "no node is up"
    return ""


def _partitions(sections: Mapping[str, Section]) -> Iterator[tuple[str, str, int, int]]:
    """Name, up or down, nodes at work, idle nodes."""
    told = sections.get("nodes")
    for line in told.out.splitlines() if told is not None else ():
        parts = line.strip().split("|")
        counts = parts[2].split("/") if len(parts) == 4 else ()
        if len(counts) == 2:
            allocated, idle = (number(_plain(count)) or 0 for count in counts)
            yield parts[0][:60], parts[1], allocated, idle


def _plain(count: str) -> str:
    """12 or 1.5K: only that there are some matters."""
    return re.sub(r"\D.*", "", count) or "0"
