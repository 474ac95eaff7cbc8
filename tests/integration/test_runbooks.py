"""Every command that a runbook shows is typed, in the incident that the page is for, and does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from runbook_kit import INCIDENTS, PAGES, execute, page_of, steps, unseen

NAMES = sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "README")
NOT_YET = {"a-worker-is-stuck", "disk-full", "postgres-is-down", "redis-is-down"}
"""Pages whose commands are not executed yet: what they show is of real servers. No page may be added here."""
PARTS = ["## What you see", "## What is hit", "## What to type", "## How you know that it worked", "## How to undo"]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages show times of day."""
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("name", sorted(set(NAMES) - NOT_YET))
def test_what_a_runbook_says_to_type_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSFADE_HOME", "")
    monkeypatch.setenv("CROSSFADE_SITES", "")
    page = page_of(name)
    (made,) = [INCIDENTS[step.text](tmp_path) for step in steps(page) if step.kind == "incident"]
    assert execute(page, made) == []
    assert [line for line in page.splitlines() if line.startswith("## ")] == PARTS
    made.ground.close()


def test_a_fence_that_nobody_executes_is_found(tmp_path: Path) -> None:
    page = "```sh\ncrossfade status\n```\n\n```console\nno command\n```\n"
    assert [step.kind for step in steps(page)] == ["fence", "fence"]


def test_what_a_page_shows_must_be_seen_in_its_order() -> None:
    output = "SITE   STATE\nnersc  up     3 of 4\nalcf   down\n"
    assert unseen(("nersc up ... of 4", "alcf"), output) == ""
    assert unseen(("alcf", "nersc up"), output) == "nersc up"
    assert unseen(("nersc down",), output) == "nersc down"


def test_pages_that_are_not_executed_are_there_and_grow_no_more() -> None:
    assert set(NAMES) >= NOT_YET
    for name in NOT_YET:
        assert "<!-- incident:" not in page_of(name), "take it out of the list"


def test_the_list_of_pages_names_every_page() -> None:
    readme = page_of("README")
    assert [name for name in NAMES if f"({name}.md)" not in readme] == []
