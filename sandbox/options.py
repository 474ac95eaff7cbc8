"""The `options:` of a simulated site in the site document, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from connectors.registry import SiteConfig
from sandbox.faults import FaultPlan, parse_fault, parse_odds
from sandbox.shape import SiteShape

REMEMBERED = 20_000
"""Ended jobs that a site keeps, unless `remember:` says another number."""

_NUMBERS = frozenset(
    {"submit_latency", "listing_lag", "requeue_delay", "cancel_grace", "preempt_notice", "latency", "first_id"}
)
_FLAGS = frozenset({"adopts", "enforce_limits", "preempting", "count_cores"})
WORLD = "world"
"""The option that names the socket of a world which another process hosts."""
LONGEST_SOCKET = 100
"""Bytes of path; the system's own limit is a little above."""
_OTHERS = frozenset({"claim", "seed", "faults", "odds", "remember", WORLD})
_CLAIMS = ("atomic_fs", "unique_name", "conditional_put", "none")


def shape_of(config: SiteConfig) -> SiteShape:
    """Raises ValueError."""
    options = config.options
    for name in options:
        if name not in _NUMBERS | _FLAGS | _OTHERS:
            known = ", ".join(sorted(_NUMBERS | _FLAGS | _OTHERS))
            raise ValueError(f"site {config.name}: a simulated site has no option {name!r}; there are: {known}")
    claim = str(options.get("claim", "atomic_fs"))
    if claim not in _CLAIMS:
        raise ValueError(f"site {config.name}: claim must be one of {', '.join(_CLAIMS)}, not {claim!r}")
    own = {item.name for item in fields(SiteShape)}
    values: dict[str, Any] = {name: _number(config, name) for name in _NUMBERS if name in options}
    values |= {name: _flag(config, name) for name in _FLAGS & own if name in options}
    counts = _flag(config, "count_cores") if "count_cores" in options else False
    return SiteShape(
        slots=config.slots,
        nodes=config.nodes if counts else 0,
        cores_per_node=config.cores,
        max_walltime=config.max_walltime,
        claim=claim,
        **values,
    )


def faults_of(config: SiteConfig, origin: int) -> FaultPlan:
    """The `faults:` list and the `odds:`; times count from `origin`. Raises ValueError."""
    listed = config.options.get("faults", [])
    odds = config.options.get("odds", {})
    if not isinstance(listed, list | tuple) or not all(isinstance(item, Mapping) for item in listed):
        raise ValueError(f"site {config.name}: faults must be a list of {{kind: ..., start: ...}}")
    if not isinstance(odds, Mapping):
        raise ValueError(f"site {config.name}: odds must be a map of names and chances")
    try:
        return FaultPlan(timed=tuple(parse_fault(item, origin) for item in listed), odds=parse_odds(odds))
    except ValueError as error:
        raise ValueError(f"site {config.name}: {error}") from error


def seed_of(config: SiteConfig) -> str:
    """Two sites of one document tell different stories, each the same every time."""
    return f"{config.name}:{config.options.get('seed', 0)}"


def remember_of(config: SiteConfig) -> int:
    count = config.options.get("remember", REMEMBERED)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"site {config.name}: remember must be a whole number from 1 on, not {count!r}")
    return count


def socket_of(config: SiteConfig) -> Path | None:
    """Where the site's world is hosted; None: in this process. Raises ValueError."""
    if WORLD not in config.options:
        return None
    path = config.options[WORLD]
    if not isinstance(path, str) or not path.startswith("/") or len(path.encode()) > LONGEST_SOCKET:
        raise ValueError(
            f"site {config.name}: world must be an absolute path of at most {LONGEST_SOCKET} bytes, not {path!r}"
        )
    return Path(path)


def _number(config: SiteConfig, name: str) -> float | int:
    value = config.options[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"site {config.name}: {name} must be a number from 0 on, not {value!r}")
    return int(value) if name == "first_id" else float(value)


def _flag(config: SiteConfig, name: str) -> bool:
    value = config.options[name]
    if not isinstance(value, bool):
        raise ValueError(f"site {config.name}: {name} must be true or false, not {value!r}")
    return value
