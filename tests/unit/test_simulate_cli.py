"""`policy simulate` as it is typed."""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app
from broker.errors import UsageError
from broker.simulate.setting import Setting
from broker.simulate.stage import NamedPolicy, compiled, read_policy
from broker.simulate.waste import Booked, booked, mean_of
from broker.spec import DocumentError
from broker.store.booked import ChargeRow

EXAMPLE = Path(__file__).parents[2] / "examples" / "outages"
QUICK = ["--stage-hours", "1", "--checkpoint", "20m", "--limit-hours", "12", "--starts", "3"]


def simulate(*words: str) -> Result:
    return CliRunner().invoke(app, ["policy", "simulate", *words])


def test_the_example_is_simulated_and_told_as_one_document(tmp_path: Path) -> None:
    picture = tmp_path / "done.svg"
    told = simulate(
        *("--traces", str(EXAMPLE / "traces"), "--policy", str(EXAMPLE / "policy.yaml"), *QUICK),
        *("-o", "json", "--plot", str(picture)),
    )
    assert told.exit_code == 0, told.stderr
    view = json.loads(told.stdout)
    assert view.keys() == {"oracle", "policies"}
    assert view["oracle"].keys() == {"median_h"}
    names = {"policy", "same-naive", "elsewhere-naive", "checkpoint-same", "checkpoint-move", "race"}
    assert view["policies"].keys() == names
    for figures in view["policies"].values():
        assert set(figures) == {
            *("done", "median_h", "p90_h", "over_oracle", "lost_h_per_run", "moves_per_run", "failures_per_run"),
            *("double_submissions", "products_not_one"),
            *("node_h_per_run", "wasted_by_outage_h_per_run", "wasted_by_copies_h_per_run"),
        }
        wasted = figures["wasted_by_outage_h_per_run"] + figures["wasted_by_copies_h_per_run"]
        assert wasted == pytest.approx(figures["lost_h_per_run"], abs=2e-4)
    drawing = ET.fromstring(picture.read_text())
    words = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert words >= {*names, "oracle"}


def test_people_get_a_table_with_what_was_simulated() -> None:
    told = simulate("--traces", str(EXAMPLE / "traces"), "--site", "south", *QUICK)
    assert told.exit_code == 0, told.stderr
    assert "fell silent" not in told.stderr  # what happens to simulated sites is no news of this installation
    assert "3 starts of a 1 h stage over 10.0 days of south" in told.stdout
    assert "÷ oracle" in told.stdout
    assert "crossfade" in told.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "--traces DIR or --queues FILE"),
        (["--traces", "no/such/folder"], 3, "no folder"),
        (["--traces", str(EXAMPLE / "traces"), "--site", "west"], 3, "no trace of west"),
        (["--traces", str(EXAMPLE / "traces"), "--plot", "x.gif"], 2, "SVG or PNG"),
        (["--traces", str(EXAMPLE / "traces"), "--plot", "no/such/x.svg"], 2, "no folder"),
        (["--traces", str(EXAMPLE / "traces"), "--checkpoint", "0s"], 2, "at least 1 s"),
        (["--traces", str(EXAMPLE / "traces"), "--limit-hours", "1"], 2, "shorter than the stage"),
        (["--traces", str(EXAMPLE / "traces"), "--charge", "west=2"], 2, "no site west to charge"),
        (["--traces", str(EXAMPLE / "traces"), "--charge", "south=much"], 2, "is no SITE=FACTOR"),
        (["--queues", "no.swf"], 2, "cannot be read"),
        (["--traces", "no.swf.gz"], 2, "cannot be read"),
        (["--queues", "no.swf", "--site", "a"], 2, "--site goes with --traces"),
    ],
)
def test_what_cannot_be_simulated_is_refused(words: list[str], code: int, said: str) -> None:
    told = simulate(*words)
    assert told.exit_code == code
    assert said in told.stderr


def test_a_policy_file_is_held_to_what_documents_may_say(tmp_path: Path) -> None:
    def refused(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(DocumentError) as told:
            compiled(read_policy(path), Setting())
        return str(told.value)

    assert "policy.failover.aftr" in refused("failover: {aftr: 2m}")
    assert "is no key of a policy file" in refused("policy: {}\nstages: {}\n")
    assert "checkpoint" in refused("policy: {}\ncheckpoint: often\n")
    assert "checkpoint" in refused("policy: {}\ncheckpoint: {shp: always}\n")


def test_a_policy_file_may_be_the_policy_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("failover: {after: 7m}\n")
    policy = read_policy(path)
    assert policy.name == "mine"
    assert '"after":420' in compiled(policy, Setting()).stages[0].rules


def test_two_policies_of_one_name_are_refused() -> None:
    from broker.simulate.compare import check_names

    with pytest.raises(UsageError, match="named race"):
        check_names([NamedPolicy("race", {"policy": {}})], ["race"])
    with pytest.raises(UsageError, match="named a"):
        check_names([NamedPolicy("a", {}), NamedPolicy("a", {})], [])


def test_a_full_disk_takes_the_plot_and_not_the_figures(tmp_path: Path) -> None:
    (tmp_path / "full.svg").symlink_to("/dev/full")
    plot = tmp_path / "full.svg"
    told = simulate("--traces", str(EXAMPLE / "traces"), "--site", "south", "--plot", str(plot), *QUICK)
    assert told.exit_code == 1
    assert "÷ oracle" in told.stdout
    assert f"cannot write {plot}: No space left on device" in told.stderr


def test_a_plot_may_be_a_picture_in_pixels(tmp_path: Path) -> None:
    picture = tmp_path / "done.PNG"
    told = simulate("--traces", str(EXAMPLE / "traces"), "--site", "south", *QUICK, "--plot", str(picture))
    assert told.exit_code == 0, told.stderr
    pixels, width = rows_of(picture.read_bytes())
    assert (len(pixels), width) == (840, 1520)
    assert pixels[0] == b"\xff" * 3 * width  # white, with nothing at the edge
    assert bytes.fromhex("0072b2") in pixels[2 * 40]  # the first policy's colour in the legend
    assert any(row.count(b"\xff") < len(row) // 2 for row in pixels)  # a line that goes across


def rows_of(png: bytes) -> tuple[list[bytes], int]:
    """The rows of pixels of a PNG without filters, checked chunk by chunk."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
        found[kind], at = data, at + 12 + size
    width, height, bits, colours = struct.unpack(">IIBB", found[b"IHDR"][:10])
    assert (bits, colours) == (8, 2)
    content = zlib.decompress(found[b"IDAT"])
    step = 1 + 3 * width
    assert len(content) == height * step
    assert {content[i * step] for i in range(height)} == {0}
    return [content[i * step + 1 : (i + 1) * step] for i in range(height)], width


def test_what_the_broker_books_is_told_where_sites_charge() -> None:
    told = simulate("--traces", str(EXAMPLE / "traces"), "--charge", "south=3", *QUICK, "-o", "json")
    assert told.exit_code == 0, told.stderr
    policies = json.loads(told.stdout)["policies"]
    booked = policies["crossfade"]["charges_per_run"]
    wasted = sum(booked["wasted_node_h"].values())
    hours = policies["crossfade"]["node_h_per_run"]
    assert hours - 1e-3 <= booked["spent_node_h"] <= 3 * hours + 1e-3  # whole seconds, at one node-hour or at three
    assert wasted <= booked["spent_node_h"]
    assert "charges_per_run" not in policies["race"]
    words = simulate("--traces", str(EXAMPLE / "traces"), "--charge", "south=3", *QUICK).stdout
    assert "crossfade was charged" in words


def test_booked_are_the_jobs_whose_end_was_heard_of() -> None:
    row = ChargeRow._make([None] * len(ChargeRow._fields))
    rows = [
        row._replace(actual=5_000_000, wasted=1_500_000, cause="preempted", settled_at=1),
        row._replace(actual=2_000_000, wasted=500_000, cause="preempted", settled_at=1),
        row._replace(actual=3_000_000, wasted=0, cause="", settled_at=1),
        row._replace(actual=0, wasted=0, cause=""),
    ]
    found = booked(rows)
    assert found == Booked(spent=10.0, wasted={"preempted": 2.0}, unsettled=1)
    assert mean_of([found, Booked(spent=0, wasted={"lost": 1.0}, unsettled=0)]) == Booked(
        spent=5.0, wasted={"lost": 0.5, "preempted": 1.0}, unsettled=0.5
    )
