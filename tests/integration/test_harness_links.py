"""Inputs that are read where they lie: links that the wrapper makes before the payload starts."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from harness_kit import Site, in_every_shell, plan

from connectors.harness import INPUT_MISSING, Link, StartRecord, UnsafePlan, render

ODD = "it's $(touch hacked) `id` \\n ;*"


def place(site: Site) -> Path:
    folder = site.root / "place"
    for path, text in {"raw/x.h5": "raw", f"odd/{ODD}": "odd", "d/a.h5": "1", "d/e/b.h5": "2", "d/c.txt": "3"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_an_input_that_is_mounted_is_read_where_it_lies(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        folder = place(site)
        links = [Link(name="in/raw.h5", target=f"{folder}/raw/x.h5"), Link(name="all", target=f"{folder}/d")]
        assert site.run(plan("cat in/raw.h5 all/e/b.h5", links=links)) == 0
        assert site.log() == "raw2"
        assert os.readlink(site.cwd / "in/raw.h5") == f"{folder}/raw/x.h5"

    in_every_shell(tmp_path, story)


def test_no_name_of_a_link_or_its_target_is_read_by_a_shell(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        folder = place(site)
        links = [Link(name="it's $(id)", target=f"{folder}/odd/{ODD}")]
        assert site.run(plan("cat it*", links=links)) == 0
        assert site.log() == "odd"
        assert not [path for path in site.root.rglob("*") if path.name == "hacked"]

    in_every_shell(tmp_path, story)


def test_of_a_folder_only_what_matches_is_shown(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        links = [Link(name="d", target=f"{place(site)}/d", match="*.h5")]
        assert site.run(plan("cat d/a.h5 d/e/b.h5; [ ! -e d/c.txt ]", links=links)) == 0
        assert site.log() == "12"

    in_every_shell(tmp_path, story)


def test_an_input_that_is_not_there_ends_the_start_with_a_record_that_names_it(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        folder = place(site)
        links = [Link(name="raw.h5", target=f"{folder}/raw/x.h5"), Link(name="b", target=f"{folder}/none")]
        assert site.run(plan("touch ran", links=links)) == INPUT_MISSING
        record = site.exit()
        assert (record.kind, record.exit_code, record.missing) == ("input_missing", INPUT_MISSING, ("b",))
        assert site.of(StartRecord) == []
        assert not (site.cwd / "ran").exists()

    in_every_shell(tmp_path, story)


def test_an_input_that_is_waited_for_may_come_later(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        late = place(site) / "late"
        threading.Timer(1.5, lambda: late.write_text("here")).start()
        began = time.monotonic()
        assert site.run(plan("cat late", links=[Link(name="late", target=str(late), wait=20)])) == 0
        assert site.log() == "here"
        assert time.monotonic() - began < 15

    in_every_shell(tmp_path, story)


def test_a_second_generation_finds_the_links_of_the_first_in_order(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        folder = place(site)
        site.cwd.mkdir(parents=True)
        (site.cwd / "raw.h5").symlink_to(f"{folder}/raw/x.h5")
        assert site.run(plan("cat raw.h5", links=[Link(name="raw.h5", target=f"{folder}/raw/x.h5")])) == 0

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize("there", ["a file", "a link elsewhere"])
def test_what_lies_under_the_name_of_a_link_is_never_replaced(tmp_path: Path, there: str) -> None:
    def story(site: Site) -> None:
        folder = place(site)
        site.cwd.mkdir(parents=True)
        if there == "a file":
            (site.cwd / "raw.h5").write_text("mine")
        else:
            (site.cwd / "raw.h5").symlink_to("/etc/hostname")
        links = [Link(name="raw.h5", target=f"{folder}/raw/x.h5")]
        assert site.run(plan("cat raw.h5", links=links)) == INPUT_MISSING

    in_every_shell(tmp_path, story)


def test_no_link_is_made_through_a_link(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        folder = place(site)
        outside = site.root / "outside"
        outside.mkdir()
        site.cwd.mkdir(parents=True)
        (site.cwd / "in").symlink_to(outside)
        links = [Link(name="in/raw.h5", target=f"{folder}/raw/x.h5")]
        assert site.run(plan("true", links=links)) == INPUT_MISSING
        assert list(outside.iterdir()) == []

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize(
    "link",
    [
        Link(name="../x", target="/a"),
        Link(name=".crossfade/x", target="/a"),
        Link(name="x", target="a"),
        Link(name="x", target="/a\nb"),
        Link(name="x", target="/a", match="*\n"),
        Link(name="x\ny", target="/a"),
    ],
)
def test_a_link_that_could_be_misread_is_refused(link: Link) -> None:
    with pytest.raises(UnsafePlan):
        render(plan(links=[link]))
