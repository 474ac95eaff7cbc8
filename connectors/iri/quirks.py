"""What sites that speak the IRI Facility API do differently, as data: a profile says which of these hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

DIALECTS = ("v1", "v2")
OPTIONAL = frozenset(
    {
        "inherit_environment",
        "process_count",
        "processes_per_node",
        "cpu_cores_per_process",
        "gpu_cores_per_process",
        "exclusive_node_use",
        "memory",
        "reservation_id",
        "include_spec",
        "historical",
        "offset",
    }
)
"""What a site may refuse to take; all else that we send is taken everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """Each by its name among the site's options."""

    dialect: str = "v2"
    """v1 reads files with GET and query parameters, v2 with POST and a body."""
    refuses: frozenset[str] = frozenset()
    """Fields and parameters that must not be sent."""
    unknown_job: tuple[int, ...] = (404,)
    """HTTP statuses that mean «no such job», where the words say so too."""
    listing: str = "bulk"
    """`bulk`: one call tells all jobs. `single`: that call does not work there, each job is asked for by its id."""
    names: bool = True
    """Do listings tell the name and the script of a job?"""
    idempotency: str = "auto"
    """`yes`, `no`, or `auto`: sent until the site says that it keeps no store of keys."""
    job_id_variable: str = "SLURM_JOB_ID"
    """Where a job there finds its own id (`job_id_variable` of the site's entry, no option)."""
    sole_user: bool = False
    """Nobody but this installation submits under this account: a job that nobody explains is ours."""
    custom_attributes: Mapping[str, str] = field(default_factory=dict)
    """Sent with every job, such as `filesystems` for PBS."""
    page: int = 1000
    """Jobs asked for at once; the API's own limit is 1000."""
    parallel: int = 8
    """Single jobs asked for at the same time."""

    @property
    def by_name(self) -> bool:
        """Are jobs found by their name? If not, by the marks that they leave among the files."""
        return self.names and self.listing == "bulk" and "include_spec" not in self.refuses

    def takes(self, field_name: str) -> bool:
        """May this optional field be sent?"""
        return field_name not in self.refuses


NAMES = frozenset(item.name for item in fields(Quirks)) - {"job_id_variable"}
"""The options that are quirks."""


def quirks_of(site: str, options: Mapping[str, object], *, job_id_variable: str = "") -> Quirks:
    """From the options of a site's entry; other options are left alone. Raises ValueError, naming the option."""
    given = {name: options[name] for name in NAMES if name in options}
    values = {name: _KINDS[name](f"site {site}: option {name}", value) for name, value in given.items()}
    variable = job_id_variable or "SLURM_JOB_ID"
    return Quirks(**values, job_id_variable=_variable(f"site {site}: job_id_variable", variable))


def _one_of(*words: str) -> Callable[[str, object], str]:
    def read(what: str, value: object) -> str:
        if value not in words:
            raise ValueError(f"{what} is {value!r}; give one of {', '.join(words)}")
        return str(value)

    return read


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{what} is {value!r}; give true or false")
    return value


def _count(most: int) -> Callable[[str, object], int]:
    def read(what: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{what} is {value!r}; give a number from 1 to {most}")
        return value

    return read


def _statuses(what: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(one) is int and 400 <= one < 500 for one in value):
        raise ValueError(f"{what} is {value!r}; give a list of HTTP statuses from 400 to 499")
    return tuple(value)


def _refused(what: str, value: object) -> frozenset[str]:
    if not isinstance(value, list | tuple | frozenset) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{what} is {value!r}; give a list of names")
    if strange := set(value) - OPTIONAL:
        raise ValueError(f"{what}: {sorted(strange)[0]!r} is none of {', '.join(sorted(OPTIONAL))}")
    return frozenset(value)


def _variable(what: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value):
        raise ValueError(f"{what} is {value!r}; give the name of a variable")
    return value


def _words(what: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise ValueError(f"{what} is {value!r}; give names with texts")
    return dict(value)


_KINDS: Mapping[str, Callable[[str, object], Any]] = {
    "dialect": _one_of(*DIALECTS),
    "refuses": _refused,
    "unknown_job": _statuses,
    "listing": _one_of("bulk", "single"),
    "names": _flag,
    "idempotency": _one_of("auto", "yes", "no"),
    "sole_user": _flag,
    "custom_attributes": _words,
    "page": _count(1000),
    "parallel": _count(32),
}
