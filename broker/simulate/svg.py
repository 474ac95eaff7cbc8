"""A drawing as SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

from broker.simulate.drawing import DASH, GAP, SIZE, Drawing, Line, Words


def as_svg(drawing: Drawing) -> bytes:
    """The document, UTF-8."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawing.width} {drawing.height}"'
    ground = f'<rect width="{drawing.width}" height="{drawing.height}" fill="#ffffff"/>'
    parts = [_line(part) if isinstance(part, Line) else _words(part) for part in drawing.parts]
    lines = [f'{head} font-family="sans-serif" font-size="{SIZE:g}">', ground, *parts, "</svg>", ""]
    return "\n".join(lines).encode()


def _line(line: Line) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in line.points)
    dashes = f' stroke-dasharray="{DASH:g} {GAP:g}"' if line.dashed else ""
    return f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="{line.width:g}"{dashes}/>'


def _words(words: Words) -> str:
    (x, y), text = words.at, escape(words.text)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{words.anchor}" fill="{words.colour}">{text}</text>'
