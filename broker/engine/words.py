"""Small forms in which the engine writes: compact JSON, the deciding fact. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from policies.model import Decision


def compact(data: Mapping[str, object]) -> str:
    """JSON as rows keep it."""
    return json.dumps(data, separators=(",", ":"))


def last_fact(decision: Decision) -> str:
    """The fact that settled a decision."""
    return decision.reasons[-1].fact if decision.reasons else decision.outcome
