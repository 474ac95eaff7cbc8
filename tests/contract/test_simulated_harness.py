"""The simulated wrapper beside the real one: the same plan leaves the same records and manifests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from harness_kit import Site, plan
from sandbox_kit import Place

from connectors.harness import ExitRecord, HarnessPlan, Output, StartRecord, parse_record, render
from connectors.model import JobSpec
from sandbox.papers import read_papers

KEY = "cfabcdefghijklm"
DIRECTORY = "runs/r1/stage/1"


def simulated(harness: HarnessPlan) -> tuple[Place, Mapping[str, bytes]]:
    place = Place()
    spec = JobSpec(key=harness.key, digest=harness.digest, directory=DIRECTORY, entry="x", files=render(harness))
    place.site.submit([spec])
    place.go_on()
    spool = place.model.disk.files_below("spool")
    return place, {path.removeprefix("spool/"): blob.whole() for path, blob in spool}


def really(harness: HarnessPlan, folder: Path) -> tuple[Site, Mapping[str, bytes]]:
    site = Site(folder)
    # whatever makes the payload's files really; the `: sim` line is a no-op for the shell
    site.run(harness)
    return site, {path.name: path.read_bytes() for path in (folder / "spool").iterdir()}


@pytest.mark.parametrize(
    ("sim", "shell", "outputs"),
    [
        ("seconds=0", "true", ()),
        ("exit=3", "exit 3", ("a",)),
        ("outputs=a:40,d/e:3", "", ("a", "d")),
        ("outputs=a:40", "", ("a", "never-made")),
    ],
    ids=["nothing", "failure", "outputs", "missing output"],
)
def test_the_records_are_those_of_the_real_wrapper(
    tmp_path: Path, sim: str, shell: str, outputs: tuple[str, ...]
) -> None:
    declared = tuple(Output(path=path) for path in outputs)
    wanted = plan(f": sim {sim}", outputs=declared)
    made = read_papers(render(wanted)).made
    lines = [f": sim {sim}", shell]
    for path, blob in made:
        lines.append(f"mkdir -p ./{path}; rmdir ./{path}")
        text = blob.head.decode().replace("\n", "\\n")
        lines.append(f"printf '{text}' > {path}; head -c {blob.size - len(blob.head)} /dev/zero >> {path}")
    # a failing line must be the last one
    real_plan = plan("\n".join([lines[0], *lines[2:], lines[1]]), outputs=declared)
    real_site, real = really(real_plan, tmp_path)
    place, mine = simulated(wanted)
    assert sorted(mine) == sorted(real)
    for name, content in mine.items():
        assert _timeless(content) == _timeless(real[name])
    manifest = real_site.cwd / ".crossfade/g1/outputs.manifest"
    there = manifest.read_bytes() if manifest.exists() else None
    path = f"{DIRECTORY}/.crossfade/g1/outputs.manifest"
    assert place.site.read_many([path]).get(path) == there


def _timeless(content: bytes) -> dict[str, object]:
    """A record's fields, but for times and the identities of machine and process."""
    record = parse_record(content)
    assert isinstance(record, (StartRecord, ExitRecord))
    ignored = {"started_at", "ended_at", "owner", "host", "native_id"}
    return {name: getattr(record, name) for name in record.__slots__ if name not in ignored}
