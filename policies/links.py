"""What past transfers tell of a link: a fixed part, a part for each file and a part for each byte. Pure.

A transfer of so many files and bytes is taken to last `fixed + files * per_file + bytes * per_byte` seconds. The
three are fitted to the samples by least squares, each former sample counting less the older it is, so the sums are
all that is kept. What the samples cannot tell apart (a link that only ever carried one file at a time) stays in the
proportions of the prior. None of the three is ever negative, so more bytes or more files never take less time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from math import exp, inf, isfinite, log, sqrt
from typing import Any

_Three = tuple[float, float, float]

FIXED = 30.0
PER_FILE = 0.05
PER_BYTE = 1e-8
"""Of a link never seen: half a minute until a mover's service has begun, 20 files/s, 100 MB/s. Where between two
facilities a transfer is rarely quicker, it is often much slower: the first samples soon outweigh it."""
PRIOR_SPREAD = 0.86
"""In logarithms: nine transfers of ten over a link never seen last less than three times as long as estimated."""

_KEPT = 0.95
"""What is left of a sample's weight when the next one comes: about the last twenty count."""
_PRIOR_KEPT = 0.7
"""The prior fades faster."""
_LEAST_PRIOR = 1e-4
"""It never fades altogether: what the samples do not tell is still asked of it."""
_LEAST_SECONDS = 1e-3
_LEAST_PER_BYTE = 1e-11
"""100 GB/s, and no link is faster: a few tiny samples may make bytes look free."""
_TRUSTED_AFTER = 4
"""Samples until one that is far off counts as an outlier."""
_LEAST_SPREAD = 0.05
_MOST_SURPRISE = 3.0
_LEAST_LEASH = 0.75
"""In logarithms: twice as long as estimated is no outlier."""
_NO_CHANCE = 3
"""So many outliers in a row, all slow or all quick, are no chance: the link has changed."""
_KEPT_AFTER_A_CHANGE = 0.02
_LONGEST = 3.2e10
"""Seconds, a thousand years: no estimate is longer."""
_P90 = 1.2816
"""Standard deviations above the median at which nine of ten are below."""
_MAX_TEXT = 4096
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_DIAGONAL = (0, 3, 5)


@dataclass(frozen=True, slots=True)
class Sample:
    """One transfer that succeeded: from when it was asked for until all of it had arrived."""

    bytes: int
    files: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """How long a transfer will last, in seconds, queueing included."""

    p50: float
    p90: float
    """Nine of ten are quicker. Never less than `p50`."""
    samples: int = 0
    """Transfers that it was learned from; 0: a guess."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of a link, as the sums that it is worked out from."""

    samples: int = 0
    moments: tuple[float, ...] = (0.0,) * 6
    """Weighted sums of products of what a sample had of the three, in units of the prior: upper triangle, by rows."""
    totals: _Three = (0.0, 0.0, 0.0)
    """The same, times the seconds that it took."""
    spread: float = PRIOR_SPREAD
    """Standard deviation of the logarithm of (seconds taken / seconds estimated)."""
    far_off: int = 0
    """Outliers in a row: above 0 slow ones, below 0 quick ones."""

    def with_sample(self, sample: Sample) -> Learned:
        """What is known after one more transfer. A sample that cannot be (no time, a clock set back) tells nothing."""
        if not isfinite(sample.seconds) or sample.seconds < 0 or sample.bytes < 0 or sample.files < 0:
            return self
        parts = _parts(sample.bytes, sample.files)
        expected = max(_LEAST_SECONDS, _dot(self._shares(), parts))
        surprise = log(max(_LEAST_SECONDS, sample.seconds) / expected)
        far_off, changed = self._judged(surprise)
        if not changed:
            surprise = max(-self._leash, min(self._leash, surprise))
        taken = expected * exp(surprise)
        step = max(1 / (self.samples + 2), 1 - _KEPT)  # the first samples were judged by the prior: soon forgotten
        kept = _KEPT_AFTER_A_CHANGE if changed else 1 - step
        # an error counts by its proportion: a second too many of two is worse than a minute too many of a day. Between
        # what was expected and what it took, for either alone pulls the fit its own way
        scale = sqrt(expected * taken)
        x = _three(part / scale for part in parts)
        return Learned(
            samples=self.samples + 1,
            moments=tuple(kept * m + x[i] * x[j] for m, (i, j) in zip(self.moments, _PAIRS, strict=True)),
            totals=_three(kept * total + x[i] * taken / scale for i, total in enumerate(self.totals)),
            spread=self._spread_after(surprise, step),
            far_off=0 if changed else far_off,
        )

    def _spread_after(self, surprise: float, step: float) -> float:
        """What the first one says is how far off the prior was, and nothing of how much the link varies."""
        if not self.samples:
            return self.spread
        return sqrt((1 - step) * self.spread**2 + step * min(abs(surprise), _MOST_SURPRISE) ** 2)

    @property
    def _leash(self) -> float:
        """How far off a sample may be before it counts as an outlier."""
        return inf if self.samples < _TRUSTED_AFTER else max(_LEAST_LEASH, 2 * self.spread)

    def _judged(self, surprise: float) -> tuple[int, bool]:
        """Outliers in a row with this one, below 0 the quick ones; and are they too many for chance?"""
        if abs(surprise) <= self._leash:
            return 0, False
        side = 1 if surprise > 0 else -1
        far_off = self.far_off + side if self.far_off * side > 0 else side
        return far_off, abs(far_off) >= _NO_CHANCE

    def estimate(self, *, bytes: int, files: int) -> LinkEstimate:  # noqa: A002 - the word that a caller reads
        """How long so many bytes in so many files will take."""
        lasts = [part * share for part, share in zip(_parts(max(0, bytes), max(0, files)), self._shares(), strict=True)]
        late = [seconds * exp(_P90 * self._doubt(i)) for i, seconds in enumerate(lasts)]
        return LinkEstimate(p50=min(_LONGEST, sum(lasts)), p90=min(_LONGEST, sum(late)), samples=self.samples)

    def _doubt(self, i: int) -> float:
        """The spread of one of the three: the prior's as far as it is still the prior that says it."""
        known = self.moments[_DIAGONAL[i]]
        share = known / (known + self._faith)
        return sqrt(share * max(self.spread, _LEAST_SPREAD) ** 2 + (1 - share) * max(self.spread, PRIOR_SPREAD) ** 2)

    @property
    def fixed(self) -> float:
        """Seconds before the first byte moves."""
        return self._shares()[0] * FIXED

    @property
    def per_file(self) -> float:
        """Seconds for each file."""
        return self._shares()[1] * PER_FILE

    @property
    def rate(self) -> float:
        """Bytes per second, while bytes move."""
        return 1 / (self._shares()[2] * PER_BYTE)

    def _shares(self) -> _Three:
        """The three, in units of the prior's: the best fit of which none is negative."""
        faith = self._faith
        m00, m01, m02, m11, m12, m22 = self.moments
        matrix = ((m00 + faith, m01, m02), (m01, m11 + faith, m12), (m02, m12, m22 + faith))
        wanted = _three(total + faith for total in self.totals)
        fixed, per_file, per_byte = _least_squares(matrix, wanted)
        return fixed, per_file, max(per_byte, _LEAST_PER_BYTE / PER_BYTE)

    @property
    def _faith(self) -> float:
        """What the prior still weighs, as so many samples."""
        return max(_LEAST_PRIOR, _PRIOR_KEPT**self.samples)

    @property
    def json(self) -> str:
        """Compact JSON, for the store."""
        data = {"v": 1, "samples": self.samples, "moments": self.moments, "totals": self.totals}
        data |= {"spread": self.spread, "far_off": self.far_off}
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> Learned:
        """The inverse of `json`. Nothing, or what is no such thing: a link never seen; it is soon learned again."""
        if not text or len(text) > _MAX_TEXT:
            return PRIOR
        try:
            data = json.loads(text)
            learned = cls(
                samples=int(data["samples"]) if data["v"] == 1 else -1,
                moments=tuple(float(value) for value in data["moments"]),
                totals=_three(float(value) for value in data["totals"]),
                spread=float(data["spread"]),
                far_off=int(data["far_off"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return PRIOR
        return learned if learned._can_be() else PRIOR

    def _can_be(self) -> bool:
        figures = (*self.moments, *self.totals, self.spread)
        right = self.samples >= 0 and len(self.moments) == 6
        return right and all(isfinite(figure) and 0 <= figure < 1e30 for figure in figures)


PRIOR = Learned()
"""A link never seen."""


def _parts(bytes_: int, files: int) -> _Three:
    """How long each of the three would have lasted by the prior."""
    return FIXED, files * PER_FILE, bytes_ * PER_BYTE


def _dot(a: _Three, b: _Three) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _three(values: Any) -> _Three:
    first, second, third = values
    return first, second, third


def _least_squares(matrix: tuple[_Three, _Three, _Three], wanted: _Three) -> _Three:
    """The least of x'Mx - 2x'w with no x below 0: the best among the solutions in which some of x are held at 0.

    The matrix is positive definite, so the best of those that are not negative is the answer; eight are few enough to
    try them all.
    """
    best, least = (0.0, 0.0, 0.0), 0.0
    for free in product((True, False), repeat=3):
        x = _solved(matrix, wanted, free)
        if min(x) < 0:
            continue
        value = sum(x[i] * (_dot(matrix[i], x) - 2 * wanted[i]) for i in range(3))
        if value < least:
            best, least = x, value
    return best


def _solved(matrix: tuple[_Three, _Three, _Three], wanted: _Three, free: tuple[bool, ...]) -> _Three:
    """The x with Mx = w in the rows that are free, and 0 in the others. Positive definite, so without pivoting."""
    rows = [
        [matrix[i][j] if free[i] and free[j] else float(i == j) for j in range(3)] + [wanted[i] if free[i] else 0.0]
        for i in range(3)
    ]
    for i in range(3):
        for k in range(i + 1, 3):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    x = [0.0, 0.0, 0.0]
    for i in (2, 1, 0):
        x[i] = (rows[i][3] - sum(rows[i][j] * x[j] for j in range(i + 1, 3))) / rows[i][i]
    return _three(x)


def learn(learned_json: str | None, sample: Sample) -> str:
    """One more sample, from and to what the store keeps."""
    return Learned.from_json(learned_json).with_sample(sample).json


__all__ = ["PRIOR", "Learned", "LinkEstimate", "Sample", "learn"]
