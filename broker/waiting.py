"""Whether a run goes on by itself, or only when a person has said something. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.states import StageState
from broker.store.base import StageRow

_GOES_ON = (StageState.READY, StageState.ACTIVE)


def asked_of_people(stages: Sequence[StageRow]) -> list[StageRow]:
    """The stages about which a person must decide."""
    return [stage for stage in stages if stage.state == StageState.AWAITING_DECISION]


def only_people_help(stages: Sequence[StageRow]) -> bool:
    """Is a person asked, and can nothing else go on meanwhile? What waits for other stages waits for the person."""
    return bool(asked_of_people(stages)) and not any(stage.state in _GOES_ON for stage in stages)
