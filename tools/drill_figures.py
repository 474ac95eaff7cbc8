"""Write the table of what the shipped drills cost: each is run, with seed 1, under its virtual clock.

    python tools/drill_figures.py            write it into docs/explanation/judgement.md
    python tools/drill_figures.py --check    exit code 1 when the page is not current

The same code brings the same table, on any machine. It takes about a minute.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from broker.drill.casting import cast  # noqa: E402
from broker.drill.document import read_drill  # noqa: E402
from broker.drill.measure import HOUR  # noqa: E402
from broker.drill.rehearse import Rehearsal, rehearse  # noqa: E402
from broker.drill.shipped import shipped  # noqa: E402
from broker.drill.telling import recovery  # noqa: E402
from policies.intervals import span  # noqa: E402

PAGE = ROOT / "docs" / "explanation" / "judgement.md"
BEGIN = "<!-- made by tools/drill_figures.py: do not edit below -->"
END = "<!-- made by tools/drill_figures.py: do not edit above -->"
HEADINGS = (
    "drill",
    "fault at",
    "run took",
    "recovery",
    "work lost",
    "node hours",
    "wasted",
    "moves",
    "doubles",
    "held",
)


def run(name: str, path: Path) -> Rehearsal:
    """The drill, with seed 1."""
    drill, _ = read_drill(path)
    return rehearse(drill, cast(drill, name=name), name=name)


def lines(found: Rehearsal) -> Iterator[str]:
    """A row of the table for each play."""
    for outcome in found.outcomes:
        figures = outcome.figures
        cells = (
            f"`{found.name}`",
            outcome.at or "-",
            span(figures.span),
            recovery(figures),
            f"{figures.lost / HOUR:.2f} h",
            f"{figures.node_seconds / HOUR:.2f}",
            f"{figures.wasted / HOUR:.2f}",
            str(figures.moves),
            str(figures.double_submissions),
            "yes" if outcome.verdict.ok else "**no**",
        )
        yield f"| {' | '.join(cells)} |"


def table() -> str:
    """All of it."""
    logging.getLogger("broker").setLevel(logging.CRITICAL)
    rows = [line for name, path in shipped().items() for line in lines(run(name, path))]
    return "\n".join([f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}", *rows])


def page(text: str) -> str:
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write, or check."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
