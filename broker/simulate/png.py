"""A drawing as PNG, by the standard library alone: lines are covered pixel by pixel, letters are lines.

A library for this would be the largest that crossfade needs, for a picture of a few steps and a dozen words. Form: PNG
(ISO/IEC 15948), 8 bits of red, green and blue, no filter, one IDAT.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, hypot

from broker.simulate.drawing import DASH, GAP, SIZE, Drawing, Line, Point, Words
from broker.simulate.letters import ADVANCE, HEIGHT, strokes

SCALE = 2
"""Pixels for each unit of the drawing, so that letters stay legible."""
_PEN = 1.1
"""Of letters."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_Colour = tuple[int, int, int]


def as_png(drawing: Drawing) -> bytes:
    """The file's content."""
    canvas = _Canvas(drawing.width * SCALE, drawing.height * SCALE)
    for part in drawing.parts:
        for points, colour, width in _lines(part):
            scaled = [(x * SCALE, y * SCALE) for x, y in points]
            canvas.draw(scaled, _rgb(colour), width * SCALE)
    return canvas.packed()


def _lines(part: Line | Words) -> Iterator[tuple[Sequence[Point], str, float]]:
    """A part as plain lines: dashes each by itself, words by their strokes."""
    if isinstance(part, Words):
        for points in _written(part):
            yield points, part.colour, _PEN
    elif part.dashed:
        for dash in _dashes(part.points):
            yield dash, part.colour, part.width
    else:
        yield part.points, part.colour, part.width


def _written(words: Words) -> Iterator[Sequence[Point]]:
    unit = SIZE * 0.7 / HEIGHT
    width = len(words.text) * ADVANCE * unit
    left = words.at[0] - {"start": 0.0, "middle": width / 2, "end": width}[words.anchor]
    top = words.at[1] - HEIGHT * unit
    for number, letter in enumerate(words.text):
        x0 = left + number * ADVANCE * unit
        for stroke in strokes(letter):
            yield [(x0 + x * unit, top + y * unit) for x, y in stroke]


def _dashes(points: Sequence[Point]) -> Iterator[Sequence[Point]]:
    """Pieces of DASH, with GAP between them, along the whole line."""
    at = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        length = hypot(x1 - x0, y1 - y0)
        done = 0.0
        while done < length:
            inside = at % (DASH + GAP)
            step = min(length - done, (DASH if inside < DASH else DASH + GAP) - inside + 1e-9)
            if inside < DASH:
                ends = [(done + part) / length for part in (0.0, step)]
                yield [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in ends]
            done, at = done + step, at + step


def _rgb(colour: str) -> _Colour:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


class _Canvas:
    """Pixels, white at first."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._rows = [bytearray(b"\xff" * (3 * width)) for _ in range(height)]

    def draw(self, points: Sequence[Point], colour: _Colour, width: float) -> None:
        """A pixel is covered as far as the line's edge lies beyond its middle: no steps are seen on a slope."""
        if len(points) == 1 or len(set(points)) == 1:
            points = [points[0], (points[0][0] + 0.01, points[0][1])]
        for one, other in pairwise(points):
            self._segment(one, other, colour, width / 2)

    def _segment(self, one: Point, other: Point, colour: _Colour, half: float) -> None:
        (x0, y0), (x1, y1) = one, other
        reach = half + 1
        dx, dy = x1 - x0, y1 - y0
        square = dx * dx + dy * dy
        columns = range(max(0, floor(min(x0, x1) - reach)), min(self._width, ceil(max(x0, x1) + reach)))
        for y in range(max(0, floor(min(y0, y1) - reach)), min(self._height, ceil(max(y0, y1) + reach))):
            row = self._rows[y]
            for x in columns:
                px, py = x + 0.5 - x0, y + 0.5 - y0
                along = min(1.0, max(0.0, (px * dx + py * dy) / square)) if square else 0.0
                cover = half + 0.5 - hypot(px - along * dx, py - along * dy)
                if cover > 0:
                    _blend(row, 3 * x, colour, min(1.0, cover))

    def packed(self) -> bytes:
        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\x00" + row for row in self._rows), 9)
        chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
        return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _blend(row: bytearray, at: int, colour: _Colour, cover: float) -> None:
    for i in range(3):
        row[at + i] = round(row[at + i] + (colour[i] - row[at + i]) * cover)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
