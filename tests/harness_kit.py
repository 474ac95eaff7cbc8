"""A site in a temporary folder, for tests that run the real wrapper as real processes under each shell."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.harness import (
    ENTRY,
    CheckpointRecord,
    ExitRecord,
    HarnessPlan,
    Manifest,
    StartRecord,
    format_manifest,
    parse_manifest,
    parse_record,
    parse_spool_name,
    render,
)

SHELLS = {"dash": "/usr/bin/dash", "bash": "/bin/bash", "busybox": "/bin/busybox"}
DIRECTORY = "runs/r1/stage/1"


def argv(shell: str) -> list[str]:
    found = shutil.which(shell)
    assert found is not None
    return [found, "sh"] if shell == "busybox" else [found]


def present_shells() -> list[str]:
    missing = [shell for shell in SHELLS if shutil.which(shell) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"shells missing: {missing}")
    present = [shell for shell in SHELLS if shell not in missing]
    return present or pytest.skip("none of the shells is installed")


def in_every_shell(folder: Path, story: Callable[[Site], None]) -> None:
    """Play one story under all shells at once: the stories mostly wait for the clock."""
    shells = present_shells()
    with ThreadPoolExecutor(len(shells)) as pool:
        told = {shell: pool.submit(story, Site(folder / shell, shell)) for shell in shells}
    for shell, future in told.items():
        if (error := future.exception()) is not None:
            error.add_note(f"under {shell}")
            raise error


def plan(command: str = "true", **changes: object) -> HarnessPlan:
    short = HarnessPlan(
        key="cfabcdefghijklm",
        digest="d" * 64,
        directory_depth=DIRECTORY.count("/") + 1,
        command=command,
        heartbeat_seconds=1,
        fence_seconds=2,
        grace_seconds=2,
    )
    return replace(short, **changes)


class Site:
    """One root with a spool; one attempt at a time."""

    def __init__(self, root: Path, shell: str = "dash") -> None:
        self.root = root
        self.shell = shell
        self.cwd = root / DIRECTORY
        (root / "spool").mkdir(parents=True, exist_ok=True)

    def put(self, plan: HarnessPlan) -> Site:
        """The rendered files, with the shell under test in the place of /bin/sh."""
        for file in render(plan):
            path = self.cwd / file.path
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            content = file.content
            if file.path == ENTRY or "/bin/" in file.path:
                content = content.replace(b"/bin/sh", " ".join(argv(self.shell)).encode())
            path.write_bytes(content)
            path.chmod(file.mode)
        return self

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*argv(self.shell), ENTRY],
            cwd=self.cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, plan: HarnessPlan | None = None, **environment: str) -> int:
        if plan is not None:
            self.put(plan)
        process = self.start(**environment)
        self.said = process.communicate(timeout=60)[1]
        return process.returncode

    def records(self) -> list[StartRecord | CheckpointRecord | ExitRecord]:
        """All that the spool shows; a visible file that is no whole record fails the test."""
        found = []
        for path in sorted((self.root / "spool").iterdir()):
            if not path.name.startswith("."):
                key, generation, _, kind = parse_spool_name(path.name)
                record = parse_record(path.read_bytes())
                assert (record.key, record.generation) == (key, generation)
                assert kind == _KINDS[type(record)]
                found.append(record)
        return found

    def of(self, kind: type) -> list:
        return [record for record in self.records() if isinstance(record, kind)]

    def exit(self) -> ExitRecord:
        (record,) = self.of(ExitRecord)
        return record

    def checkpoints(self) -> list[CheckpointRecord]:
        return sorted(self.of(CheckpointRecord), key=lambda record: record.seq)

    def log(self, name: str = "stdout", generation: int = 1) -> str:
        """Empty while the wrapper has not come so far."""
        path = self.cwd / f".crossfade/g{generation}" / name
        return path.read_text() if path.exists() else ""

    def manifest(self, record: CheckpointRecord) -> Manifest:
        """The checkpoint's manifest, each of its files verified."""
        folder = self.cwd / record.path
        data = (folder / "manifest").read_bytes()
        assert hashlib.sha256(data).hexdigest() == record.manifest_digest
        manifest = parse_manifest(data)
        for path, size, sha256 in manifest.files:
            content = (folder / "files" / path).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)
        return manifest

    def bring_checkpoint(self, seq: int, files: dict[str, bytes]) -> None:
        """As the mover does: a checkpoint to begin from, in `.crossfade/restore`."""
        folder = self.cwd / ".crossfade/restore"
        for name, content in files.items():
            (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "files" / name).write_bytes(content)
        entries = tuple((name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
        (folder / "manifest").write_bytes(format_manifest(Manifest(files=entries, seq=seq)))


_KINDS = {StartRecord: "started", CheckpointRecord: "checkpoint", ExitRecord: "exit"}


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for the world of real processes to reach a state."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Is the process there, and no zombie?"""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
