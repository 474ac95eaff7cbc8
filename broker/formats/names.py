"""Foreign ids to names that are lawful in our documents and harmless in a path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_LAWFUL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST = 100
"""Characters. A stage's name becomes part of paths and job comments at every site."""


def lawful_names(ids: Iterable[str]) -> dict[str, str]:
    """Each id's own name: itself where that is lawful, else the nearest that is free. The same every time.

    Lawful ids are served first, so that no renamed one can take the name of another.
    """
    wanted = list(ids)
    names = {name: name for name in wanted if is_lawful(name)}
    taken = set(names)
    next_number: dict[str, int] = {}  # without it, a thousand ids of one likeness would be counted up a million times
    for name in wanted:
        if name in names:
            continue
        likeness = nearest_lawful(name)
        number = next_number.get(likeness, 1)
        candidate = likeness
        while candidate in taken:
            number += 1
            candidate = f"{likeness}-{number}"
        next_number[likeness] = number
        taken.add(candidate)
        names[name] = candidate
    return {name: names[name] for name in wanted}


def is_lawful(name: str) -> bool:
    return len(name) <= LONGEST and _LAWFUL.fullmatch(name) is not None


def nearest_lawful(name: str) -> str:
    """The name with foreign characters made dashes; cut and marked with a digest where it is too long."""
    likeness = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    if not likeness[:1].isalnum():
        likeness = f"t{likeness}"
    if len(likeness) > LONGEST - 10:  # leaves room for a number
        likeness = f"{likeness[: LONGEST - 26]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"
    return likeness
