"""How a job of ours is named at a site: its key as the name, and a comment that says whose it is and what it would run.

    crossfade OWNER KEY DIGEST run/stage@2 contact@example.org

OWNER stands for the installation, so that two of them under one account leave each other's jobs alone. Adopting a job
compares its digest; a job with our name but without such a comment is nobody we know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.model import JobSpec

KEY = re.compile(r"[a-z0-9]{1,64}")
DIGEST_LENGTH = 16
"""Characters of the digest that a comment holds."""
LONGEST = 240
"""Characters of a comment; what comes last is cut off first."""
NOBODY = "-"
_COMMENT = re.compile(r"crossfade ([A-Za-z0-9-]{1,32}) ([a-z0-9]{1,64}) ([0-9A-Za-z]{1,16})(?: |$)")
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._/@:\[\]#+=,-]+")
"""What some scheduler, shell or log would read as more than text."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a job's comment says."""

    owner: str
    key: str
    digest: str

    def matches(self, spec: JobSpec) -> bool:
        """Is it the very job that `spec` asks for?"""
        return self.key == spec.key and self.digest == short_digest(spec.digest)


def comment_of(spec: JobSpec, owner: str) -> str:
    """The comment for a job. One line, no character that needs quoting."""
    more = _UNSAFE.sub("_", spec.comment.removeprefix(f"crossfade {spec.key} "))
    return f"crossfade {owner or NOBODY} {spec.key} {short_digest(spec.digest)} {more}".rstrip()[:LONGEST].rstrip()


def label_of(comment: object) -> Label | None:
    """What a site tells back; None: no comment of ours."""
    if not isinstance(comment, str):
        return None
    found = _COMMENT.match(comment.strip())
    return Label(*found.groups()) if found else None


def short_digest(digest: str) -> str:
    """As much of the digest as comments hold."""
    return re.sub(r"[^0-9A-Za-z]", "", digest)[:DIGEST_LENGTH] or "0"
