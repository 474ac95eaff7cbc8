"""Every second slice, as a smaller set."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(given.folder.glob("slice_*.txt"))[::2]:
        (given.out / path.name).write_text(path.read_text())


if __name__ == "__main__":
    main()
