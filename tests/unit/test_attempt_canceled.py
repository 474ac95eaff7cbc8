"""How an attempt that was asked to end counts, whatever its exit record says."""

from __future__ import annotations

import json

import pytest
from store_kit import attempt_row

from broker.engine.attempt import advance
from broker.states import AttemptState


def exit_record(kind: str, code: int, missing: list[str]) -> str:
    fact = {"generation": 1, "kind": kind, "exit_code": code, "signal": 15 if code == 143 else None}
    return json.dumps({**fact, "started_at": 1, "ended_at": 77, "outputs": 0, "digest": "", "missing": missing})


@pytest.mark.parametrize(
    ("kind", "code", "missing"),
    [("stopped", 0, []), ("failed", 143, []), ("failed", 1, []), ("timed_out", 143, []), ("done", 0, ["result.txt"])],
)
def test_a_payload_that_ended_after_it_was_asked_to_is_canceled_and_nobodys_fault(
    kind: str, code: int, missing: list[str]
) -> None:
    row = attempt_row(0, state="RUNNING", answer="{}", cancel_requested_at=5, exit=exit_record(kind, code, missing))
    progress = advance(row, site=None, now=100)
    assert (progress.row.state, progress.failure, progress.row.open) == (AttemptState.CANCELED, None, 0)


def test_what_had_ended_well_before_it_could_be_ended_has_succeeded() -> None:
    row = attempt_row(0, state="RUNNING", answer="{}", cancel_requested_at=5, exit=exit_record("done", 0, []))
    assert advance(row, site=None, now=100).row.state == AttemptState.SUCCEEDED


def test_the_same_end_without_the_wish_is_the_payloads_fault() -> None:
    row = attempt_row(0, state="RUNNING", answer="{}", exit=exit_record("failed", 143, []))
    assert advance(row, site=None, now=100).row.state == AttemptState.FAILED
