"""Writes constraints.txt: the versions in .venv, and what other Pythons at hand need beside them.

    make constraints                                       pins what .venv holds now
    PYTHONS="/path/to/python3.12 ..." make constraints     looks at these interpreters, too

Versions alone are written: where packages come from is for pip's own settings to say. To go to newer versions, first
`.venv/bin/pip install --upgrade` what is wanted, then run this, then all tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
BUILD_NEEDS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
NAMES = ("python3.11", "python3.12", "python3.13")
HEADER = """\
# What crossfade is built and tested with, on Python 3.11, 3.12 and 3.13. Made by `make constraints`; do not edit.
# Exact versions and nothing else: no address, no path, no option. Used by `make setup`.
"""
Pins = dict[str, str]
"""Name as its maker writes it, to version."""


def main() -> None:
    """Write the file and say what changed."""
    old = read(TARGET)
    pins = installed()
    for python in interpreters():
        found = needed_by(python, pins)
        more = {name: version for name, version in found.items() if canonical(name) not in canonical_names(pins)}
        print(f"{python}: {len(found)} packages, {', '.join(more) or 'none'} beside those of .venv", file=sys.stderr)
        pins |= more
    TARGET.write_text(written(pins), encoding="utf-8")
    for name in sorted(canonical_names(old) - canonical_names(pins)):
        print(f"no longer pinned: {name} (no interpreter looked at needs it)", file=sys.stderr)


def installed() -> Pins:
    """What .venv holds, without the project itself. Of setuptools, which only builds, the former pin is kept: what
    lies in .venv came with Python, and nobody uses it. (Take that line out to get the newest.)
    """
    pins = {dist.metadata["Name"]: dist.version for dist in distributions()}
    for name in ("crossfade", "setuptools"):
        pins.pop(name, None)
    return pins | {name: version for name, version in read(TARGET).items() if name == "setuptools"}


def interpreters() -> list[str]:
    """One path for each release of Python that can be started."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    told = os.environ.get("PYTHONS", "").split()
    by_release: dict[str, str] = {}
    for path in [*told, *(f"{folder}/{name}" for name in NAMES for folder in folders)]:
        release = release_of(path)
        if release:
            by_release.setdefault(release, path)
    return list(by_release.values())


def release_of(python: str) -> str:
    """`3.11.2`; empty where nothing can be started under that name."""
    try:
        done = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def needed_by(python: str, pins: Pins) -> Pins:
    """What pip would install for that interpreter under these pins. Raises CalledProcessError where it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text(written(pins), encoding="utf-8")
        options = ["-qq", "--dry-run", "--ignore-installed", "--report", str(report), "-c", str(constraints)]
        wanted = ["--group", "dev", ".", *BUILD_NEEDS]
        command = [sys.executable, "-m", "pip", "--python", python, "install", *options, *wanted]
        subprocess.run(command, cwd=ROOT, check=True)
        entries = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {entry["name"]: entry["version"] for entry in entries if entry["name"] != "crossfade"}


def read(path: Path) -> Pins:
    """The pins of a file; none where it is not there."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def written(pins: Pins) -> str:
    """The file's text, in an order that does not depend on how names are written."""
    lines = (f"{name}=={version}" for name, version in sorted(pins.items(), key=lambda pin: canonical(pin[0])))
    return HEADER + "\n".join(lines) + "\n"


def canonical(name: str) -> str:
    """The name as the package index compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def canonical_names(pins: Pins) -> set[str]:
    """All names, comparable."""
    return {canonical(name) for name in pins}


if __name__ == "__main__":
    main()
