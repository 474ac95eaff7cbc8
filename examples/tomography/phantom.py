"""Makes a small three-dimensional head and looks at it with a parallel beam.

Writes phantom.npy, the head itself, and projections.npz: one sinogram per slice, and the angles in degrees.
"""

from __future__ import annotations

import argparse

import numpy as np
from skimage.data import shepp_logan_phantom
from skimage.transform import AffineTransform, radon, resize, warp

ANGLES = 180
TWIST = 70.0
"""Degrees from the lowest slice to the highest, so that no two slices are alike."""


def head(slices: int, size: int) -> np.ndarray:
    """A (slices, size, size) volume: the Shepp–Logan phantom, narrowing towards both ends and turning on the way."""
    whole = resize(shepp_logan_phantom(), (size, size), anti_aliasing=True)
    heights = np.linspace(-0.96, 0.96, slices) if slices > 1 else np.zeros(1)
    return np.stack([_layer(whole, height) for height in heights]).astype(np.float32)


def _layer(whole: np.ndarray, height: float) -> np.ndarray:
    """The slice at that height, from -1 (chin) to 1 (crown)."""
    width = 0.95 * np.sqrt(1.0 - height**2)
    middle = (whole.shape[0] - 1) / 2
    to_middle = AffineTransform(translation=(-middle, -middle))
    shape = AffineTransform(scale=(width, width), rotation=np.deg2rad(TWIST * height / 2))
    forward = to_middle + shape + AffineTransform(translation=(middle, middle))
    layer = warp(whole, forward.inverse, order=1)
    radius = whole.shape[0] // 2
    across = np.arange(whole.shape[0]) - radius
    layer[across[:, None] ** 2 + across**2 > radius**2] = 0.0  # the beam sees a circle; blur may lie outside of it
    return layer


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--slices", type=int, default=32)
    words.add_argument("--size", type=int, default=192, help="pixels along each side of a slice")
    asked = words.parse_args()

    volume = head(asked.slices, asked.size)
    angles = np.linspace(0.0, 180.0, ANGLES, endpoint=False)
    sinograms = np.stack([radon(layer, angles, circle=True) for layer in volume]).astype(np.float32)
    np.save("phantom.npy", volume)
    np.savez("projections.npz", sinograms=sinograms, angles=angles)
    print(f"{len(volume)} slices of {asked.size} x {asked.size}, seen from {ANGLES} angles")


if __name__ == "__main__":
    main()
