"""What is left to a project at NERSC, and what its accounting says of jobs that are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from connectors.errors import RequestRefused
from connectors.model import Accounted, Balance

GPU = "_g"
"""GPU hours are charged to NAME_g, which the account service lists under NAME."""


def balances_of(projects: Iterable[Mapping[str, Any]], account: str, site: str) -> Sequence[Balance]:
    """Node-hours of CPU and GPU nodes, where the project was given any. Raises RequestRefused."""
    known = {str(one.get("repo_name")): one for one in projects}
    project = known.get(account) or known.get(account.removesuffix(GPU))
    if project is None:
        yours = ", ".join(sorted(known)) or "none"
        raise RequestRefused(f"{site}: {account} is not among your projects ({yours})", site=site)
    found = []
    for pool in ("cpu", "gpu"):
        given, used = project.get(f"{pool}_hours_given"), project.get(f"{pool}_hours_used")
        if isinstance(given, int | float) and isinstance(used, int | float) and 0 < given < 1e12:
            found.append(Balance(account=account, granted=given, used=used, unit="node_hours", pool=pool))
    return found


def accounted_of(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> Mapping[str, Accounted]:
    """Sacct's rows by the jobs' names, all jobs and executions of a name together; steps are left out."""
    wanted = set(keys)
    found: dict[str, Accounted] = {}
    for row in rows:
        key, native_id = str(row.get("jobname", "")), str(row.get("jobid", ""))
        if key not in wanted or not native_id.isdecimal():
            continue
        elapsed, nodes, cores = (_count(row.get(name)) for name in ("elapsedraw", "allocnodes", "alloccpus"))
        former = found.get(key) or Accounted(key=key, node_seconds=0.0, core_seconds=0.0)
        found[key] = Accounted(
            key=key,
            node_seconds=former.node_seconds + elapsed * nodes,
            core_seconds=(former.core_seconds or 0.0) + elapsed * cores,
            complete=former.complete and str(row.get("end", "")).lower() not in ("", "n/a", "unknown", "none"),
        )
    return found


def _count(text: object) -> int:
    word = str(text if text is not None else "")
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 12 else 0
