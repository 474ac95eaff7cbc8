"""Whether what a declared `keep` names is removed now. The last good copy of anything stays.

Outcomes: `remove`, `gone` (there is nothing left to remove), `keep` (ask again at `until`). Contents are compared by
digest, never by name or size alone: a file that is there may be another one, or half of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.model import Decision, Reason

Files = Mapping[str, tuple[int, str]]
"""Path to size and SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What one side holds, as it was looked at just now; paths are those of the files that are to be removed."""

    side: str
    files: Files | None
    """None: nobody could look."""
    why: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One wish to remove something."""

    side: str
    path: str
    there: bool
    """Is anything left of it?"""
    protected: Files
    """Of what is there, that which must be somewhere else too before it goes."""
    brought: Files | None = None
    """What was brought there at the time; None: not known."""
    needed: Sequence[Copy] = ()
    """Each of these must hold all of it."""
    others: Sequence[Copy] = ()
    """At least one of these, or of the needed ones, must hold each file."""
    against: Reason | None = None
    """What forbids it whatever is where: a place that may not be pruned, a run that goes on."""
    until: int | None = None
    """When that falls away, where it is known."""
    facts: Mapping[str, object] = field(default_factory=dict)


def judge(case: Case) -> Decision:
    """Remove it, or keep it, and why."""
    if case.against is not None:
        return Decision("retention", "keep", (case.against,), until=case.until)
    if not case.there:
        return Decision("retention", "gone", (Reason("there", "for", f"nothing is left at {_at(case)}"),))
    if case.brought is not None and (odd := _differing(case.protected, case.brought)):
        fact = f"{odd} at {_at(case)} is not what was brought there: somebody has changed it since"
        return _keep("changed", fact, case.side)
    reasons: list[Reason] = []
    for copy in case.needed:
        if copy.files is None:
            return _keep("if_verified_at", f"{_name(copy.side)}: {copy.why}: kept", copy.side)
        if odd := _differing(case.protected, copy.files):
            return _keep("if_verified_at", f"{_name(copy.side)} does not hold the same {odd}", copy.side)
        reasons.append(Reason("if_verified_at", "for", f"{_name(copy.side)} holds the same, by digest", copy.side))
    lone = _nowhere_else(case)
    if lone:
        unseen = "; ".join(f"{_name(copy.side)}: {copy.why}" for copy in case.others if copy.files is None)
        return _keep(
            "last_copy", f"no other good copy of {lone} was found{f' ({unseen})' if unseen else ''}", case.side
        )
    return Decision("retention", "remove", (*reasons, Reason("due", "remove", f"{_at(case)} is due")))


def _nowhere_else(case: Case) -> str:
    """A file that no other side was seen to hold; empty: there is none."""
    held = [copy.files for copy in (*case.needed, *case.others) if copy.files is not None]
    lone = (path for path, content in case.protected.items() if not any(f.get(path) == content for f in held))
    return next((path or case.path for path in lone), "")


def _differing(files: Files, other: Files) -> str:
    """The first of these files that the others do not have with the same content; empty: none."""
    return next((path or "file" for path, content in sorted(files.items()) if other.get(path) != content), "")


def _keep(rule: str, fact: str, side: str) -> Decision:
    return Decision("retention", "keep", (Reason(rule, "keep", fact, side),))


def _at(case: Case) -> str:
    return f"{case.side}{case.path}" if case.side.endswith(":") else f"{case.side} {case.path}"


def _name(side: str) -> str:
    return side.rstrip(":")
