"""What somebody can be told of, in the words of documents. Pure."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "started",
    "moved",
    "needs_person",
    "deadline_at_risk",
    "deadline_missed",
    "failed",
    "done",
    "credential_ending",
    "allocation_ending",
    "override_ending",
    "freeze",
]
KINDS: tuple[str, ...] = get_args(Kind)

OF_SITES = frozenset({"credential_ending", "allocation_ending", "override_ending", "freeze"})
"""No decision about a run leads to these; what is known of the sites does."""
STANDS = frozenset({"needs_person", "deadline_at_risk"}) | OF_SITES
"""What lasts for a while and passes by itself: when it has, that is told, too."""
REPEATS = frozenset({"needs_person", "freeze"})
"""Nothing goes on until a person acts: told again until one acknowledges it."""
