"""Rows as people and programs read them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from store_kit import attempt_row, run_row, stage_row

from broker import views
from broker.clock import micros
from broker.config import Settings
from broker.errors import NotFound, UsageError
from broker.service import Service
from sandbox.faults import Partition

# -- text that cannot steer a terminal ----------------------------------------------------

ESCAPES = [
    # what a job wrote -> what is shown
    ("plain", "plain"),
    ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ("Größe µs 日本", "Größe µs 日本"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[38;2;255;0;0mred\x1b[m", "red"),
    ("\x1b[2J\x1b[H\x1b[?25lgone", "gone"),
    ("\x1b[6n", ""),  # asks the terminal to type something
    ("\x1b]0;a new title\x07text", "text"),
    ("\x1b]0;a new title\x1b\\text", "text"),
    ("\x1b]52;c;cm0gLXJmIH4=\x07", ""),  # writes the clipboard
    ("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"),
    ('\x1bP$q"p\x1b\\text', "text"),
    ("\x1b_application\x1b\\text", "text"),
    ("\x1b^privacy\x1b\\text", "text"),
    ("\x1bXstring\x1b\\text", "text"),
    ("\x1bcreset", "reset"),
    ("\x1b(0lines", "lines"),
    ("\x1b7save\x1b8", "save"),
    ("\x9b31mred", "31mred"),  # the eight-bit form of ESC [
    ("\x9d0;title\x9ctext", "0;titletext"),
    ("progress 1%\rprogress 2%", "progress 1%progress 2%"),
    ("password: \x08\x08\x08", "password: "),
    ("bell\x07", "bell"),
    ("nul\x00", "nul"),
    ("form\x0cfeed\x0b", "formfeed"),
    ("del\x7f", "del"),
    ("shift\x0eout\x0f", "shiftout"),
    ("\x1b", ""),
    ("\x1b[", ""),
    ("cut \x1b[31", "cut 31"),
    ("\x1b\x1b[31mred", "red"),
    ("\x1b[\x1b[31m31mred", "31mred"),
    ("\x1b]0;unterminated", ""),
]


@pytest.mark.parametrize(("written", "shown"), ESCAPES)
def test_what_steers_a_terminal_is_taken_out(written: str, shown: str) -> None:
    assert views.clean_text(written) == shown
    assert views.clean_text(written.encode()) == shown


def test_nothing_that_is_left_steers_a_terminal() -> None:
    pieces = [text for text, _ in ESCAPES]
    for first in pieces:
        for second in pieces:
            cleaned = views.clean_text(first + second)
            assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in cleaned)


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    assert views.clean_text(b"caf\xe9 \xff") == "caf\ufffd \ufffd"


def test_a_long_log_is_cleaned_in_linear_time() -> None:
    started = time.perf_counter()
    for filler in ("\x1b", "\x1b]", "\x1bP", "\x1b[0;", "x"):
        views.clean_text(filler * 30_000)
    # a pattern that looked back and forth would take minutes
    assert time.perf_counter() - started < 5


# -- times ----------------------------------------------------


def test_times_are_iso_8601_in_utc() -> None:
    assert views.when(1_770_000_000_123_456) == "2026-02-02T02:40:00.123Z"
    assert views.when(None) is None


# -- the shapes that programs rely on ----------------------------------------------------


@pytest.fixture(scope="module")
def moved() -> tuple[Lab, str]:
    """A run that lost a site half-way and finished elsewhere, from its checkpoint."""
    lab = Lab(site("nersc"), site("alcf"))
    rules = {"checkpoint": CHECKPOINT, "sites": {"prefer": ["nersc"]}}
    run = lab.submit(
        Stage("recon", "seconds=2000 checkpoint_every=100 outputs=x:10", outputs=["x"], rules=rules),
        Stage("picture", "seconds=5", inputs=[("x", "recon")]),
    )
    lab.run_for(1030)
    lab.sites["nersc"].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(100 * 3600)))
    assert lab.finish(run) == "SUCCEEDED"
    return lab, run


def service(lab: Lab, home: Path = Path("home")) -> Service:
    sites: Any = SimpleNamespace(configs=lab.configs)
    return Service(settings=Settings(home=home, user="ann"), store=lab.store, sites=sites, clock=lab.clock)


def test_status_has_what_programs_rely_on(moved: tuple[Lab, str]) -> None:
    lab, run = moved
    view = json.loads(json.dumps(service(lab).status(run)))
    assert view.keys() >= {"run", "name", "state", "stages"}
    assert (view["run"], view["name"], view["state"]) == (run, "test", "SUCCEEDED")
    for stage in view["stages"]:
        assert stage.keys() >= {"name", "state", "site", "epoch", "attempts"}
        for attempt in stage["attempts"]:
            assert attempt.keys() >= {"number", "site", "state", "reason", "from_checkpoint"}
    recon, picture = view["stages"]
    assert (recon["name"], recon["state"], recon["site"], recon["epoch"]) == ("recon", "SUCCEEDED", "alcf", 2)
    assert [(a["number"], a["site"], a["state"], a["from_checkpoint"]) for a in recon["attempts"]] == [
        (1, "nersc", "UNREACHABLE", None),
        (2, "alcf", "SUCCEEDED", 10),
    ]
    assert "gives no answer" in recon["attempts"][0]["reason"]
    assert [a["from_checkpoint"] for a in picture["attempts"]] == [None]


def test_status_of_one_stage_shows_that_stage_alone(moved: tuple[Lab, str]) -> None:
    lab, run = moved
    view = service(lab).status(f"{run}/picture")
    assert [stage["name"] for stage in view["stages"]] == ["picture"]  # type: ignore[attr-defined]


def test_explain_gives_every_decision_with_its_reasons_and_in_words(moved: tuple[Lab, str]) -> None:
    lab, run = moved
    view = json.loads(json.dumps(service(lab).explain(f"{run}/recon")))
    assert (view["run"], view["stage"], view["state"]) == (run, "recon", "SUCCEEDED")
    kinds = [(d["kind"], d["outcome"]) for d in view["decisions"]]
    assert kinds[0] == ("placement", "place")
    assert ("failover", "move") in kinds
    assert ("checkpoint", "restore") in kinds
    for decision in view["decisions"]:
        assert decision.keys() >= {"at", "stage", "attempt", "kind", "outcome", "site", "words", "reasons", "facts"}
        assert decision["words"]
        for reason in decision["reasons"]:
            assert reason.keys() == {"rule", "verdict", "fact", "site"}
    move = next(d for d in view["decisions"] if d["outcome"] == "move")
    assert move["words"][0].startswith("Leaves its site: nersc could not be asked for ")
    restore = next(d for d in view["decisions"] if d["outcome"] == "restore")
    assert restore["words"][0] == "Goes on from a checkpoint: checkpoint 10 of attempt 1, verified, read from alcf."


def test_the_queue_lists_unfinished_runs_newest_first(moved: tuple[Lab, str]) -> None:
    lab = Lab(site("nersc"))
    runs = []
    for _ in range(3):
        lab.clock.advance(1)
        runs.append(lab.submit(Stage("a", "seconds=500")))
    done = lab.submit(Stage("b"), run_id="run-0")
    lab.run_for(10)
    queue = json.loads(json.dumps(service(lab).queue()))
    assert [line["run"] for line in queue] == runs[::-1]
    assert done in [line["run"] for line in service(lab).history()]
    assert service(moved[0]).queue() == []


def test_everything_that_is_shown_is_plain_json(moved: tuple[Lab, str]) -> None:
    lab, run = moved
    shown = service(lab)
    for view in (
        shown.timeline(run), shown.errors(run), shown.logs(run), shown.checkpoints(run), shown.attempts(run),
        shown.site_list(), shown.site("nersc"), shown.history(), shown.explain(run),
    ):  # fmt: skip
        assert json.loads(json.dumps(view)) == view


def test_a_site_says_since_when_it_cannot_be_asked(moved: tuple[Lab, str]) -> None:
    lab, _ = moved
    nersc = service(lab).site("nersc")
    assert (nersc["state"], nersc["load"]) == ("silent", 1)
    assert isinstance(nersc["silent_seconds"], float)
    assert nersc["silent_seconds"] > 900
    assert service(lab).site("alcf")["state"] == "up"


# -- small rules ----------------------------------------------------


def test_an_attempt_that_cannot_be_asked_is_unreachable_only_while_it_is_open() -> None:
    assert views.attempt_state(attempt_row(0, state="RUNNING", unreachable_since=5)) == "UNREACHABLE"
    assert views.attempt_state(attempt_row(0, state="FAILED", unreachable_since=5, open=0)) == "FAILED"
    assert views.attempt_state(attempt_row(0, state="RUNNING")) == "RUNNING"


def test_a_stage_is_unreachable_when_its_current_attempt_is() -> None:
    stage = stage_row(0, state="ACTIVE", attempt=2)
    dark, left = attempt_row(0, 2, state="QUEUED", unreachable_since=5), attempt_row(0, 1, unreachable_since=5)
    assert views.stage_view(stage, [left, dark], None)["state"] == "UNREACHABLE"
    assert views.stage_view(stage, [left, dark._replace(unreachable_since=None)], None)["state"] == "ACTIVE"


def test_a_run_that_is_held_says_so() -> None:
    assert views.run_line(run_row(held=1), now=0)["reason"] == "held"
    assert views.run_line(run_row(held=1, reason="no site answers"), now=0)["reason"] == "no site answers"


def test_a_run_can_be_named_by_its_id_a_prefix_or_not_at_all(moved: tuple[Lab, str]) -> None:
    lab = Lab(site("nersc"))
    for run in ("260101-000000-aaaa", "260101-000000-abbb", "260102-000000-cccc"):
        lab.clock.advance(1)
        lab.submit(Stage("a"), run_id=run)
    shown = service(lab)
    assert shown.find(None)[0].run_id == "260102-000000-cccc"
    assert shown.find("260102")[0].run_id == "260102-000000-cccc"
    assert shown.find("260101-000000-aaaa/a@1")[1].path == "a"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="more than one run"):
        shown.find("260101")
    with pytest.raises(NotFound, match="no run 'x'"):
        shown.find("x")
    with pytest.raises(NotFound, match="has no stage 'z'"):
        shown.find("260102/z")
    assert service(moved[0]).attempt(f"{moved[1]}/recon")[2].number == 2


@pytest.mark.parametrize(("target", "number"), [("r/a", None), ("r/a@2", 2)])
def test_an_attempts_number_comes_after_the_at_sign(target: str, number: int | None) -> None:
    assert Service.attempt_number(target) == number
    with pytest.raises(UsageError):
        Service.attempt_number("r/a@two")


def test_a_command_for_a_run_becomes_one_for_each_stage_that_it_concerns() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=500"), Stage("b", needs=["a"]))
    lab.run_for(10)
    shown = service(lab)
    ident = shown.command("move", run, reason="too slow", args={"to": "alcf"})
    assert shown.command_outcome(run, ident) is None
    assert {c.stage for c in lab.store.commands(run)} == {"a", "b"}
    lab.run_for(10)
    assert "at alcf" in (shown.command_outcome(run, ident) or "")
    with pytest.raises(UsageError, match="nothing to retry"):
        shown.command("retry", run)
    with pytest.raises(NotFound, match="no site 'mars'"):
        shown.drain_site("mars", reason="far")
