"""How many starts are done after how many hours, drawn as SVG. Written here: no library is needed for a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from xml.sax.saxutils import escape

from broker.errors import UsageError
from broker.simulate.compare import Comparison
from broker.simulate.outcome import HOUR, percentile
from broker.simulate.setting import Setting

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 190, 30, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#666666")
"""Told apart by those who do not see all colours (Okabe and Ito), then repeated."""


def check_name(path: Path) -> None:
    """Raises UsageError for a file that is to be no SVG, or that lies in no folder."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"{path.name}: plots are written as SVG only", help="name a file that ends in .svg")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the plot", help="make it first")


def drawn(found: Comparison, setting: Setting) -> str:
    """The share of the starts that are done after so many hours, for each policy and the oracle."""
    curves = {name: [o.span for o in outcomes] for name, outcomes in found.outcomes.items()}
    curves["oracle"] = list(found.oracle)
    end = _end(curves, setting)
    parts = [*_frame(end, setting), *_curves(curves, end)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="12">', *parts, "</svg>", ""])


def _end(curves: Mapping[str, Sequence[float | None]], setting: Setting) -> float:
    """Hours at the right edge: what holds nearly all that is done."""
    spans = [span for curve in curves.values() for span in curve if span is not None]
    return max(1.0, ceil((percentile(spans, 0.97) if spans else setting.limit) / HOUR))


def _x(hours: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(hours, end) / end


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _frame(end: float, setting: Setting) -> Iterator[str]:
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield _text(LEFT, 18, f"starts of a {setting.stage / HOUR:g} h stage that are done")
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield _text(LEFT - 8, y + 4, f"{tenth * 10} %", anchor="end")
    for part in range(6):
        hours = end * part / 5
        yield _text(_x(hours, end), HEIGHT - BOTTOM + 18, f"{hours:g}", anchor="middle")
    yield _text(_x(end / 2, end), HEIGHT - 10, "hours after the start", anchor="middle")


def _curves(curves: Mapping[str, Sequence[float | None]], end: float) -> Iterator[str]:
    for number, (name, spans) in enumerate(curves.items()):
        colour = "#000" if name == "oracle" else COLOURS[number % len(COLOURS)]
        dashed = ' stroke-dasharray="5 3"' if name == "oracle" else ""
        yield f'<path d="{_steps(spans, end)}" fill="none" stroke="{colour}" stroke-width="1.8"{dashed}/>'
        y = TOP + 14 + 20 * number
        yield f'<path d="M{WIDTH - RIGHT + 16} {y - 4}h22" stroke="{colour}" stroke-width="1.8"{dashed}/>'
        yield _text(WIDTH - RIGHT + 44, y, name)


def _steps(spans: Sequence[float | None], end: float) -> str:
    """One step up for each start that is done."""
    done = sorted(span / HOUR for span in spans if span is not None)
    steps = [f"H{_x(hours, end):.1f}V{_y(n / len(spans)):.1f}" for n, hours in enumerate(done, 1) if hours <= end]
    return f"M{LEFT} {_y(0):.1f}{''.join(steps)}H{WIDTH - RIGHT}"


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{escape(words)}</text>'
