"""What only the command connector knows: the `options` of its entry in the site document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.ssh.options import SshOptions

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@:-]{0,250}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LENGTH = re.compile(r"(\d{1,6})(s|m|h|d)?")
_RATE = re.compile(r"\d{1,9}(\.\d{1,3})?[kmgKMG]?")
_PROGRAM = re.compile(r"(/[A-Za-z0-9._+/-]{1,250}|[A-Za-z0-9_][A-Za-z0-9._+-]{0,60})")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions(SshOptions):
    """Each option by its name in the document."""

    scheduler: str = "slurm"
    """slurm or pbs."""
    over: str = "here"
    """`ssh`: the commands are run elsewhere also where no `host` is named; its name is then the site's own."""
    deadline: float = 60.0
    """Seconds for one call, however much it carries."""
    path: tuple[str, ...] = ()
    """Folders with the scheduler's commands, put before PATH."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the scheduler's commands, such as SLURM_CONF or SLURM_CLUSTERS."""
    squeue: str = "auto"
    """json, text, or auto: JSON where it obeys `--name` (Slurm 23.11 and newer), else text."""
    accounting: str = "auto"
    """Ask `sacct`, or `qstat -x` at PBS: on, off, or auto: where it is there."""
    history: int = 14 * 86_400
    """Seconds that ended jobs are looked up in the accounting."""
    singleton: bool = True
    """Slurm: let a second job of one name wait for the first (`--dependency=singleton`)."""
    identity: str = ""
    """The root's id, as `prepare` answered it; empty: whatever is found first."""

    @classmethod
    def read(cls, site: str, options: Mapping[str, object]) -> CommandOptions:
        """Raises ValueError, naming the option."""
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name == "files" and value in {"shell", "command"}:  # there is no other way here
                continue
            if name not in _KINDS:
                known = ", ".join(sorted(_KINDS))
                raise ValueError(f"site {site}: the command connector has no option {name!r} (it has {known})")
            values[name] = _KINDS[name](f"site {site}: option {name}", value)
        if values.get("over") == "ssh" and not values.get("host"):
            values["host"] = _host(f"site {site}: option host", site)
        return cls(**values)


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or "\n" in value or "\0" in value:
        raise ValueError(f"{what} is {value!r}; give text of one line")
    return value


def _host(what: str, value: object) -> str:
    text = _text(what, value)
    if text and not _HOST.fullmatch(text):
        raise ValueError(f"{what} is {value!r}; give a name from your ssh config, or user@host")
    return text


def _program(what: str, value: object) -> str:
    text = _text(what, value)
    if not _PROGRAM.fullmatch(text):
        raise ValueError(f"{what} is {value!r}; give the name of a program there, or its absolute path")
    return text


def _rate(what: str, value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _RATE.fullmatch(text):
        raise ValueError(f"{what} is {value!r}; give a rate as rsync has it, such as 800k or 50m (per second)")
    return text


def _one_of(*words: str) -> Any:
    def read(what: str, value: object) -> str:
        text = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        if text not in words:
            raise ValueError(f"{what} is {value!r}; give one of {', '.join(words)}")
        return str(text)

    return read


def _seconds(what: str, value: object) -> int:
    found = _LENGTH.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        return int(found.group(1)) * _SECONDS[found.group(2)]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10 * 365 * 86_400:
        raise ValueError(f"{what} is {value!r}; give a length of time such as 30s, 10m or 2h")
    return max(1, int(value))


def _deadline(what: str, value: object) -> float:
    if isinstance(value, float) and 0 < value <= 3600:
        return value
    return float(_seconds(what, value))


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{what} is {value!r}; give true or false")
    return value


def _folders(what: str, value: object) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(
        isinstance(one, str) and one.startswith("/") and not set(one) & set(":\n\0") for one in found
    ):
        raise ValueError(f"{what} is {value!r}; give absolute paths of folders")
    return tuple(found)


def _environment(what: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {value!r}; give names with values")
    for name, text in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{what}: {name!r} is not a name for an environment variable")
        if not isinstance(text, str) or "\0" in text:
            raise ValueError(f"{what}: {name} is {text!r}; give text")
    return dict(value)


_KINDS: Mapping[str, Any] = {
    "scheduler": _one_of("slurm", "pbs"),
    "over": _one_of("here", "ssh"),
    "host": _host,
    "ssh": _text,
    "ssh_config": _text,
    "control": _text,
    "persist": _seconds,
    "connect_timeout": _seconds,
    "rsync": _program,
    "bwlimit": _rate,
    "deadline": _deadline,
    "path": _folders,
    "environment": _environment,
    "squeue": _one_of("auto", "json", "text"),
    "accounting": _one_of("auto", "on", "off"),
    "history": _seconds,
    "singleton": _flag,
    "identity": _text,
}
