"""Sums of each row and each column of a table of numbers: what a reconstruction is to a beamline, this is to a test."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("raw", type=Path)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args()
    rows = [[int(word) for word in line.split()] for line in given.raw.read_text().splitlines() if line.strip()]
    given.out.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        (given.out / f"slice_{number:03d}.txt").write_text(f"{sum(row)}\n")
    columns = [sum(column) for column in zip(*rows, strict=True)]
    (given.out / "columns.txt").write_text(" ".join(map(str, columns)) + "\n")


if __name__ == "__main__":
    main()
