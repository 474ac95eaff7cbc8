"""Putting runtimes, and what else a machine's login brings, on the PATH of a rehearsal's jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

RECORD = "containers.jsonl"
"""In the facility's own folder: what was started in which image."""
_ROOT = Path(__file__).parents[2]
_PYTHON = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sandbox.containers.main import main; "
_RUNTIME = """#!/bin/sh
# the stand-in for {name}: see docs/explanation/sandbox.md
exec {python} -E -s -S -c {code} {root} {record} {name} "$@"
"""
_MODULE = """#!/bin/sh
# a stand-in for environment modules: knows names, loads nothing
case "${{1-}}" in
    use | purge | list | avail | swap | unload) exit 0 ;;
    load | add) shift ;;
    *) echo "module: unrecognized command: ${{1-}}" >&2; exit 1 ;;
esac
for wanted; do
    case "${{wanted%%/*}}" in
        {known}) ;;
        *)
            echo "Lmod has detected the following error: The following module(s) are unknown: \\"$wanted\\"" >&2
            exit 1
            ;;
    esac
done
"""
_CONDA = """#!/bin/sh
# a stand-in for conda, which is a function of the login shell at the real machines: activates nothing
[ "${1-}" = activate ] && [ -n "${2-}" ] && exit 0
echo "conda: only \\`conda activate ENVIRONMENT\\` is known here" >&2
exit 2
"""


def put_up(folder: Path, *, runtimes: Sequence[str], modules: Sequence[str] = ()) -> Path:
    """Make the commands in `bin` below the facility's folder; that `bin`."""
    commands = folder / "bin"
    commands.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in runtimes:
        text = _RUNTIME.format(
            name=name,
            python=quote(sys.executable),
            code=quote(f"{_PYTHON}sys.exit(main(sys.argv[1:]))"),
            root=quote(str(_ROOT)),
            record=quote(str(folder / RECORD)),
        )
        _write(commands / name, text)
    if modules:
        _write(commands / "module", _MODULE.format(known=" | ".join(modules)))
        _write(commands / "conda", _CONDA)
    return commands


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def started(folder: Path) -> list[dict[str, Any]]:
    """What was started there, in order."""
    record = folder / RECORD
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
