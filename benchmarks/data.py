"""What data costs the broker: `python benchmarks/data.py` (`--json`, `--files N`, `--gib G`).

* planning: a movement of so many files, from the asking to the transfer that is written down, with a mover that does
  nothing; seconds and the memory that the process gained;
* the mover: CPU of this process for each file that Globus carries, the stand-in being another process;
* batching: 1 000 stages' small files between two collections; how many transfers they were;
* hashing: this project's own digest of a file beside `sha256sum` on the same file, in turns; as a ratio.

Figures are told with what others took of the machine meanwhile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from broker.cli.bench.machine import Meter, own_seconds, peak_mib
from broker.clock import wall_clock
from broker.sites import load_sites
from broker.store.sql import SqlStore
from broker.traffic import Desk
from connectors.model import Accepted, SubmitAnswer, Transfer, TransferItem, TransferState, TransferStatus
from connectors.registry import MoverSetup, make_movers
from connectors.tree import Tree

GIVE_UP = 300.0
"""Seconds."""


class Idle:
    """A service that takes everything, and is never done."""

    slots = 3

    def refuses(self, _: Transfer) -> str:
        return ""

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        return {transfer.key: Accepted(native_id=transfer.key) for transfer in transfers}

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        return {key: TransferStatus(key=key, state=TransferState.ACTIVE) for key in keys}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        return dict.fromkeys(keys, True)

    def forget(self, keys: Sequence[str]) -> None: ...

    def close(self) -> None: ...


def items(count: int, *, size: int | None = 8) -> list[TransferItem]:
    return [
        TransferItem(
            source=f"runs/r/make/a1/frame{n:06}.h5",
            destination=f"runs/r/use/a1/frame{n:06}.h5",
            size=size,
            sha256=hashlib.sha256(b"%d" % n).hexdigest(),
        )
        for n in range(count)
    ]


def planning(folder: Path, count: int) -> dict[str, Any]:
    """One movement of many files, and a thousand movements that share them."""
    result: dict[str, Any] = {"files": count}
    shared = items(count)
    for name, asked in (
        ("one_movement", [("m", shared)]),
        ("a_thousand", [(f"m{n}", shared[n::1000]) for n in range(1000)]),
    ):
        store = SqlStore.open(folder / f"{name}.db", clock=wall_clock)
        desk = Desk({"globus": Idle()}, store, wall_clock)
        transfers = [
            Transfer(key=key, source_site="a", destination_site="b", items=tuple(some), private=True)
            for key, some in asked
        ]
        before, meter = peak_mib(), Meter()
        desk.submit(transfers)
        time.sleep(0.6)  # others may come along
        desk.turn.take()
        seconds, cpu, others = meter.read()
        begun = store.traffic.transfers()
        result[name] = {
            "seconds": round(seconds - 0.6, 3),
            "cpu": round(cpu, 3),
            "mib": round(peak_mib() - before, 1),
            "transfers": len(begun),
            "others_cores": round(others, 2),
        }
        store.close()
    return result


class Stage:
    """A sandbox in another process, and this project's movers over it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.document = folder, folder / "sites.yaml"
        self.cli = [sys.executable, "-m", "broker.cli"]
        self.env = {**os.environ, "CROSSFADE_HOME": str(folder / "home")}

    def __enter__(self) -> Stage:
        words = ["sandbox", "up", "--detach", "--write", str(self.document), "--state", str(self.folder / "state")]
        subprocess.run([*self.cli, *words], env=self.env, check=True, capture_output=True)
        sites = load_sites(self.document, home=self.folder / "home", cwd=self.folder, env={})
        self.store = SqlStore.open(self.folder / "home" / "crossfade.db", clock=wall_clock)
        configs = {name: sites.configs[name] for name in ("nersc", "alcf")}
        self.roots = {name: Path(config.root) for name, config in configs.items()}
        setup = MoverSetup(
            sites={},
            configs=configs,
            blobs=self.folder,
            clock=wall_clock,
            notes=self.store.notes,
            globus=replace(sites.globus, active=3),
        )
        movers = {name: mover for name, mover in make_movers(setup).items() if name == "globus"}
        self.desk = Desk(movers, self.store, wall_clock, quick=0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self.desk.close()
        self.store.close()
        words = ["sandbox", "down", "--state", str(self.folder / "state")]
        subprocess.run([*self.cli, *words], env=self.env, check=False, capture_output=True)

    def put(self, count: int) -> None:
        folder = self.roots["nersc"] / "runs/r/make/a1"
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(count):
            (folder / f"frame{n:06}.h5").write_bytes(b"%d" % n)

    def until_done(self, keys: Sequence[str]) -> None:
        """Takes the turns. The rows of movements hold the names of all their files: read once, as who waits does."""
        traffic, end = self.store.traffic, time.monotonic() + GIVE_UP
        while traffic.open_transfers() or traffic.wanted(now=wall_clock(), limit=1):
            if time.monotonic() > end:
                raise TimeoutError(f"of {len(keys)} movements not all have arrived")
            if self.desk.turn.due():
                self.desk.turn.take()
            time.sleep(0.05)
        failed = [row for row in traffic.movements(keys).values() if row.state != "succeeded"]
        if failed:
            raise RuntimeError(failed[0].reason)


def sized(count: int, *, first: int = 0) -> list[TransferItem]:
    return [replace(item, size=len(b"%d" % n)) for n, item in enumerate(items(first + count), 0) if n >= first]


def moving(stage: Stage, count: int) -> dict[str, Any]:
    """CPU of this process for one transfer of so many small files."""
    asked = Transfer(key="bulk", source_site="nersc", destination_site="alcf", items=tuple(sized(count)), private=True)
    meter = Meter()
    stage.desk.submit([asked])
    stage.until_done(["bulk"])
    seconds, cpu, others = meter.read()
    return {
        "files": count,
        "seconds": round(seconds, 2),
        "cpu_ms_per_file": round(1000 * cpu / count, 4),
        "others_cores": round(others, 2),
    }


def batching(stage: Stage, count: int) -> dict[str, Any]:
    """As many stages as that, a small file each."""
    before = len(stage.store.traffic.transfers(limit=10_000))
    transfers = [
        Transfer(
            key=f"s{n}",
            source_site="nersc",
            destination_site="alcf",
            items=(replace(item, destination=f"runs/r/s{n}/a1/in.h5"),),
            private=True,
        )
        for n, item in enumerate(sized(count))
    ]
    for start in range(0, count, 256):  # as effects come: so many at a time
        stage.desk.submit(transfers[start : start + 256])
        stage.desk.turn.take()
    stage.until_done([transfer.key for transfer in transfers])
    return {"stages": count, "transfers": len(stage.store.traffic.transfers(limit=10_000)) - before}


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def hashing(folder: Path, gib: float, runs: int) -> dict[str, Any]:
    """One large file, by both in turns. `sha256sum`'s time over ours: above 1, ours is the faster one."""
    path = folder / "large"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(round(gib * 1024)):
            file.write(block)
    told: list[str] = []

    def ours() -> None:
        with Tree(folder) as tree:
            told.append(tree.digest("large")[1])

    def theirs() -> None:
        out = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout
        told.append(out.split()[0])

    ours()
    meter, mine, other = Meter(), [], []
    for _ in range(runs):
        mine.append(timed(ours))
        other.append(timed(theirs))
    _, _, others = meter.read()
    if len(set(told)) != 1:
        raise RuntimeError("the digests differ")
    path.unlink()
    return {
        "bytes": round(gib * 1024) << 20,
        "ours_mb_s": round(gib * 1073.7 / statistics.median(mine), 1),
        "sha256sum_mb_s": round(gib * 1073.7 / statistics.median(other), 1),
        "ratio": round(statistics.median(other) / statistics.median(mine), 2),
        "others_cores": round(others, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files that are planned")
    parser.add_argument("--moved", type=int, default=10_000, help="files that are carried")
    parser.add_argument("--stages", type=int, default=1_000, help="stages whose files go together")
    parser.add_argument("--gib", type=float, default=0.5, help="size of the file that is hashed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crossfade-data-"))
    began = own_seconds()
    try:
        result: dict[str, Any] = {"planning": planning(folder, given.files)}
        with Stage(folder) as stage:
            stage.put(max(given.moved, given.stages))
            result["moving"] = moving(stage, given.moved)
            result["batching"] = batching(stage, given.stages)
        result["hashing"] = hashing(folder, given.gib, given.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["cpu_seconds"] = round(own_seconds() - began, 1)
    if given.json:
        print(json.dumps(result, indent=2))
        return
    for name, figures in result.items():
        print(f"{name}: {figures}")


if __name__ == "__main__":
    main()
