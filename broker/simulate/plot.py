"""How many starts are done after how many hours, drawn, and written as SVG or PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path

from broker.errors import UsageError
from broker.simulate.compare import Comparison
from broker.simulate.drawing import Drawing, Line, Point, Words
from broker.simulate.outcome import HOUR, percentile
from broker.simulate.png import as_png
from broker.simulate.setting import Setting
from broker.simulate.svg import as_svg

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 190, 30, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#666666")
"""Told apart by those who do not see all colours (Okabe and Ito), then repeated."""
FORMS: Mapping[str, Callable[[Drawing], bytes]] = {".svg": as_svg, ".png": as_png}
"""By the file's ending."""


def check_name(path: Path) -> None:
    """Raises UsageError for a file that is neither SVG nor PNG, or that lies in no folder."""
    if path.suffix.lower() not in FORMS:
        raise UsageError(f"{path.name}: plots are written as SVG or PNG", help="name a file ending in .svg or .png")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the plot", help="make it first")


def write_plot(path: Path, found: Comparison, setting: Setting) -> None:
    """Draw it into that file, in the form that its name asks for. Raises OSError."""
    path.write_bytes(FORMS[path.suffix.lower()](drawn(found, setting)))


def drawn(found: Comparison, setting: Setting) -> Drawing:
    """The share of the starts that are done after so many hours, for each policy and the oracle."""
    curves = {name: [o.span for o in outcomes] for name, outcomes in found.outcomes.items()}
    curves["oracle"] = list(found.oracle)
    end = _end(curves, setting)
    return Drawing(width=WIDTH, height=HEIGHT, parts=[*_frame(end, setting), *_curves(curves, end)])


def _end(curves: Mapping[str, Sequence[float | None]], setting: Setting) -> float:
    """Hours at the right edge: what holds nearly all that is done."""
    spans = [span for curve in curves.values() for span in curve if span is not None]
    return max(1.0, ceil((percentile(spans, 0.97) if spans else setting.limit) / HOUR))


def _x(hours: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(hours, end) / end


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _frame(end: float, setting: Setting) -> Iterator[Line | Words]:
    yield Words(at=(LEFT, 18), text=f"starts of a {setting.stage / HOUR:g} h stage that are done")
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        yield Line(points=[(LEFT, y), (WIDTH - RIGHT, y)], colour="#dddddd")
        yield Words(at=(LEFT - 8, y + 4), text=f"{tenth * 10} %", anchor="end")
    for part in range(6):
        hours = end * part / 5
        yield Words(at=(_x(hours, end), HEIGHT - BOTTOM + 18), text=f"{hours:g}", anchor="middle")
    yield Words(at=(_x(end / 2, end), HEIGHT - 10), text="hours after the start", anchor="middle")


def _curves(curves: Mapping[str, Sequence[float | None]], end: float) -> Iterator[Line | Words]:
    for number, (name, spans) in enumerate(curves.items()):
        best = name == "oracle"
        colour = "#000000" if best else COLOURS[number % len(COLOURS)]
        yield Line(points=_steps(spans, end), colour=colour, width=1.8, dashed=best)
        x, y = WIDTH - RIGHT + 16, TOP + 14 + 20 * number
        yield Line(points=[(x, y - 4), (x + 22, y - 4)], colour=colour, width=1.8, dashed=best)
        yield Words(at=(x + 28, y), text=name)


def _steps(spans: Sequence[float | None], end: float) -> list[Point]:
    """One step up for each start that is done."""
    done = sorted(span / HOUR for span in spans if span is not None)
    points = [(float(LEFT), _y(0))]
    for n, hours in enumerate(done, 1):
        if hours <= end:
            x = _x(hours, end)
            points += [(x, points[-1][1]), (x, _y(n / len(spans)))]
    return [*points, (float(WIDTH - RIGHT), points[-1][1])]
