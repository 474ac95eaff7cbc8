"""Puts the slices together: picture.png to look at, digest.txt to compare.

The digest is SHA-256 of the volume's floats (little-endian, slice by slice), so that two reconstructions with the
same digest are the same bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE, GAP, MARGIN, TITLE, LABELS = 192, 10, 28, 122, 150
"""Pixels."""
COLUMNS = 6
ERROR = 0.1
"""The difference that is shown in full colour."""
ROWS = (
    ("phantom", "what was scanned"),
    ("projections", "what was measured"),
    ("reconstruction", "what was computed"),
    ("difference", f"full colour at {ERROR:g}"),
)

GROUND, INK, FAINT = (11, 14, 20), (232, 236, 244), (128, 138, 156)
GREY = [(0.0, (0, 0, 0)), (1.0, (255, 255, 255))]
HEAT = [(0.0, (0, 0, 4)), (0.25, (81, 18, 124)), (0.5, (183, 55, 121)), (0.75, (252, 137, 97)), (1.0, (252, 253, 191))]
SIGN = [(0.0, (94, 178, 255)), (0.5, (11, 14, 20)), (1.0, (255, 122, 89))]
WINDOW = 0.6
"""The brightest grey level: bone is brighter and may saturate, so that the brain inside has contrast."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    for name in ("phantom", "projections", "volume"):
        words.add_argument(name, type=Path)
    asked = words.parse_args()

    truth, volume = np.load(asked.phantom), np.load(asked.volume)
    with np.load(asked.projections) as scan:
        sinograms = scan["sinograms"]
    digest = hashlib.sha256(np.ascontiguousarray(volume, dtype="<f4").tobytes()).hexdigest()
    Path("digest.txt").write_text(f"{digest}\n", encoding="ascii")
    sheet(truth, sinograms, volume, digest).save("picture.png", optimize=True)
    print(f"sha256 {digest}")


def sheet(truth: np.ndarray, sinograms: np.ndarray, volume: np.ndarray, digest: str) -> Image.Image:
    """Columns: slices from bottom to top and a cut through all of them. Rows: truth, scan, reconstruction, error."""
    width = 2 * MARGIN + LABELS + (COLUMNS + 1) * (TILE + GAP) + 2 * GAP
    height = TITLE + 4 * (TILE + GAP) + 80
    image = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(image)
    slices, size, _ = volume.shape
    pen.text((MARGIN, 22), "Shepp-Logan head, reconstructed slice by slice", INK, font(26))
    facts = f"{slices} slices of {size} x {size} pixels from {sinograms.shape[2]} angles, filtered back-projection"
    pen.text((MARGIN, 56), facts, FAINT, font(15))
    pen.text((MARGIN, height - 36), f"sha256 of the volume  {digest}", FAINT, font(14))

    for row, (name, remark) in enumerate(ROWS):
        y = TITLE + row * (TILE + GAP) + TILE // 2 - 20
        pen.text((MARGIN, y), name, INK, font(18))
        pen.text((MARGIN, y + 24), remark, FAINT, font(14))

    sinograms = sinograms / (float(sinograms.max()) or 1.0)
    for column, index in enumerate(np.linspace(0, slices - 1, COLUMNS + 2).round().astype(int)[1:-1]):
        error = volume[index] - truth[index]
        tiles = (grey(truth[index]), heat(sinograms[index].T), grey(volume[index]), sign(error))
        left = MARGIN + LABELS + column * (TILE + GAP)
        place(image, left, tiles, f"slice {index + 1}", f"rms {np.sqrt(np.mean(error**2)):.3f}")
    cut = np.s_[::-1, :, size // 2]  # the crown on top
    tiles = (grey(truth[cut]), heat(sinograms[::-1, :, 0]), grey(volume[cut]), sign(volume[cut] - truth[cut]))
    place(image, width - MARGIN - TILE, tiles, "all slices, cut upright", "")
    return image


def place(image: Image.Image, left: int, tiles: tuple, above: str, below: str) -> None:
    """One column of tiles, top to bottom, with a word above and one below."""
    pen = ImageDraw.Draw(image)
    middle = left + TILE // 2
    for row, tile in enumerate(tiles):
        image.paste(tile, (left, TITLE + row * (TILE + GAP)))
    pen.text((middle, TITLE - 8), above, FAINT, font(14), anchor="ms")
    pen.text((middle, TITLE + len(tiles) * (TILE + GAP) + 12), below, FAINT, font(14), anchor="ms")


def grey(values: np.ndarray) -> Image.Image:
    return coloured(values / WINDOW, GREY)


def heat(values: np.ndarray) -> Image.Image:
    return coloured(values, HEAT)


def sign(values: np.ndarray) -> Image.Image:
    return coloured(0.5 + values / (2 * ERROR), SIGN)


def coloured(values: np.ndarray, scale: list) -> Image.Image:
    """A tile of values from 0 to 1 in the colours of that scale."""
    at = [position for position, _ in scale]
    channels = [np.interp(values, at, [colour[channel] for _, colour in scale]) for channel in range(3)]
    pixels = np.stack(channels, axis=-1).round().astype(np.uint8)
    return Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
