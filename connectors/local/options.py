"""What only the local connector knows: the `options` of its entry in the site document."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """Each option by its name in the document."""

    cancel_grace: float = 5.0
    """Seconds between the polite signal and the hard one."""
    identity: str = ""
    """The marker's id, as `prepare` answered it; empty: whatever is found first."""
    drop_env: tuple[str, ...] = ()
    """Variables of the broker that jobs do not get, besides all that begin with CROSSFADE_."""
    min_free: int = 16 << 20
    """Bytes that must be free below the root for submitting to count as possible."""

    @classmethod
    def read(cls, site: str, options: Mapping[str, object]) -> LocalOptions:
        """Raises ValueError, naming the option."""
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name not in _KINDS:
                known = ", ".join(sorted(_KINDS))
                raise ValueError(f"site {site}: the local connector has no option {name!r} (it has {known})")
            values[name] = _KINDS[name](f"site {site}: option {name}", value)
        return cls(**values)

    def environment(self, hidden: Collection[str] = ()) -> dict[str, str]:
        """What jobs inherit: the broker's own environment without the broker's own settings, and without `hidden`."""
        dropped = {*self.drop_env, *hidden}
        return {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("CROSSFADE_") and name not in dropped
        }


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86_400:
        raise ValueError(f"{what} is {value!r}; give seconds between 0 and 86400")
    return float(value)


def _size(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} is {value!r}; give a number of bytes")
    return value


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r}; give text")
    return value


def _names(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what} is {value!r}; give a list of names")
    return tuple(value)


_KINDS = {"cancel_grace": _number, "identity": _text, "drop_env": _names, "min_free": _size}
