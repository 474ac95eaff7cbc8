"""Inputs that were brought: the wrapper looks, once and cheaply, whether they are there before the payload starts."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from harness_kit import Site, in_every_shell, kill, plan, until

from connectors.harness import INPUT_MISSING, Input, Link, Output, StartRecord, UnsafePlan, render

ODD = "it's $(touch hacked) `id` ;* grün 日本.h5"


def bring(site: Site, files: dict[str, str]) -> list[Input]:
    """As a mover does, before the job is submitted."""
    for path, text in files.items():
        (site.cwd / path).parent.mkdir(parents=True, exist_ok=True)
        (site.cwd / path).write_text(text)
    return [Input(path, len(text.encode())) for path, text in files.items()]


def test_a_payload_starts_when_its_inputs_are_as_they_were_brought(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"a b.h5": "12345", f"in/deep/{ODD}": "odd", "empty": ""})
        assert site.run(plan("cat 'a b.h5'", inputs=inputs)) == 0
        assert site.log() == "12345"
        assert not [path for path in site.root.rglob("*") if path.name == "hacked"]

    in_every_shell(tmp_path, story)


@pytest.mark.fault("F48")
def test_an_input_that_is_missing_or_cut_short_ends_the_start_with_a_record_that_names_it(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"a.h5": "12345", "in/b c.h5": "12345", f"in/{ODD}": "x", "whole": "x"})
        (site.cwd / "a.h5").unlink()
        (site.cwd / "in/b c.h5").write_text("123")
        (site.cwd / "in" / ODD).unlink()
        assert site.run(plan("touch ran", inputs=inputs)) == INPUT_MISSING
        record = site.exit()
        assert (record.kind, record.exit_code) == ("input_missing", INPUT_MISSING)
        assert record.missing == ("a.h5", f"in/{ODD}")
        assert record.wrong_size == (("in/b c.h5", 3),)
        assert site.of(StartRecord) == []
        assert not (site.cwd / "ran").exists()

    in_every_shell(tmp_path, story)


def test_a_folder_or_a_dangling_link_in_the_place_of_an_input_is_none(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"folder": "", "gone": "12345"})
        (site.cwd / "folder").unlink()
        (site.cwd / "folder").mkdir()
        (site.cwd / "gone").unlink()
        (site.cwd / "gone").symlink_to("nowhere")
        assert site.run(plan("true", inputs=inputs)) == INPUT_MISSING
        assert site.exit().missing == ("folder", "gone")

    in_every_shell(tmp_path, story)


def test_an_input_that_a_site_keeps_as_a_link_counts_with_the_size_of_its_file(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"a": "12345"})
        shutil.move(site.cwd / "a", site.root / "kept")
        (site.cwd / "a").symlink_to(site.root / "kept")
        assert site.run(plan("cat a", inputs=inputs)) == 0

    in_every_shell(tmp_path, story)


def test_sizes_beyond_what_numbers_of_awk_hold_are_compared_digit_by_digit(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        bring(site, {"large": ""})
        os.truncate(site.cwd / "large", 2**40 + 1)
        assert site.run(plan("true", inputs=[Input("large", 2**40)])) == INPUT_MISSING
        assert site.exit().wrong_size == (("large", 2**40 + 1),)

    in_every_shell(tmp_path, story)


def test_a_requeue_does_not_look_again_where_the_payload_has_run(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"state": "12345"})
        job = {"inputs": inputs, "native_id_var": "JOB", "restart_var": "AGAIN"}
        site.put(plan("rm -f state; [ $CROSSFADE_GENERATION = 2 ] || sleep 60; echo again", **job))
        owner = site.start(JOB="4711", AGAIN="0")
        until(lambda: site.of(StartRecord) and not (site.cwd / "state").exists())
        kill(owner)
        assert site.run(JOB="4711", AGAIN="1") == 0
        assert site.log(generation=2) == "again\n"

    in_every_shell(tmp_path, story)


def test_what_is_missing_is_named_up_to_a_hundred(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        assert site.run(plan("true", inputs=[Input(f"f{n:03}", 1) for n in range(500)])) == INPUT_MISSING
        record = site.exit()
        assert record.missing == tuple(f"f{n:03}" for n in range(100))
        assert "500 inputs are not as they were brought" in site.said

    in_every_shell(tmp_path, story)


def test_a_torn_list_of_inputs_starts_nothing(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"a": "1", "b": "2"})
        site.put(plan("touch ran", inputs=inputs))
        listed = site.cwd / ".crossfade/inputs"
        listed.write_text(listed.read_text().replace("file 1 b\nend\n", "file 1 b"))
        assert site.run() == INPUT_MISSING
        assert site.exit().missing == (".crossfade/inputs",)
        assert not (site.cwd / "ran").exists()

    in_every_shell(tmp_path, story)


def test_a_link_to_a_place_and_an_input_that_was_brought_go_together(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {"mine": "1"})
        (site.root / "place").mkdir()
        (site.root / "place/raw").write_text("2")
        links = [Link(name="raw", target=f"{site.root}/place/raw")]
        assert site.run(plan("cat mine raw", inputs=inputs, links=links)) == 0
        assert site.log() == "12"

    in_every_shell(tmp_path, story)


def test_a_long_list_is_several_small_files(tmp_path: Path) -> None:
    inputs = [Input(f"in/{n:05}-{'x' * 60}.h5", 0) for n in range(20_000)]
    listed = [file for file in render(plan(inputs=inputs)) if file.path.startswith(".crossfade/inputs")]
    assert [file.path for file in listed[:2]] == [".crossfade/inputs", ".crossfade/inputs.2"]
    assert max(len(file.content) for file in listed) <= 256 * 1024
    assert sum(file.content.count(b"\nfile ") for file in listed) == len(inputs)

    def story(site: Site) -> None:
        bring(site, {given.path: "" for given in inputs})
        (site.cwd / inputs[-1].path).unlink()
        assert site.run(plan("true", inputs=inputs)) == INPUT_MISSING
        assert site.exit().missing == (inputs[-1].path,)

    story(Site(tmp_path, "dash"))


@pytest.mark.slow
def test_a_hundred_thousand_inputs_are_looked_at_within_seconds(tmp_path: Path) -> None:
    def story(site: Site) -> None:
        inputs = bring(site, {f"in/{n % 100}/frame-{n:06}.h5": "x" * (n % 7) for n in range(100_000)})
        site.put(plan("true", inputs=inputs))
        began = time.monotonic()
        assert site.run() == 0
        assert time.monotonic() - began < 30  # about one, on the disk of a laptop

    for shell in ("dash", "busybox"):
        story(Site(tmp_path / shell, shell))
        shutil.rmtree(tmp_path / shell)


@pytest.mark.parametrize("lacking", ["stat", "gnu"])
def test_it_needs_no_tool_that_a_site_may_lack(tmp_path: Path, lacking: str) -> None:
    """With busybox's own tools, and where `stat` is of another kind."""

    def story(site: Site) -> None:
        tools = site.root / "bin"
        tools.mkdir(parents=True)
        if lacking == "gnu":
            busybox = shutil.which("busybox")
            if busybox is None:
                pytest.skip("there is no busybox")
            for name in ("find", "stat", "ls", "awk", "sed", "sort", "cat", "mv", "rm", "mkdir", "date", "readlink"):
                (tools / name).symlink_to(busybox)
        else:
            (tools / "stat").write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
            (tools / "stat").chmod(stat.S_IRWXU)
        inputs = bring(site, {"a b": "12345", "grün": "ü"})
        path = f"{tools}:{os.environ['PATH']}"
        assert site.run(plan("cp 'a b' grün_2", inputs=inputs, outputs=[Output(path="grün_2")]), PATH=path) == 0
        manifest = (site.cwd / ".crossfade/g1/outputs.manifest").read_text()
        assert " 5 grün_2\n" in manifest

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize("path", ["../x", "/x", ".crossfade/x", "x\ny", "x\\y", ""])
def test_an_input_that_could_be_misread_is_refused(path: str) -> None:
    with pytest.raises(UnsafePlan):
        render(plan(inputs=[Input(path, 1)]))
