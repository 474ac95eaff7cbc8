"""What past transfers tell of a link: a fixed part, a part for each file and a part for each byte. Pure.

A transfer of so many files and bytes is taken to last `fixed + files * per_file + bytes * per_byte` seconds. Each
transfer that succeeded moves the three towards what it took: each by its part in the estimate and by how unsure it
still was, as an extended Kalman filter does, on logarithms, so that a link that is a hundred times slower than it was
taken for is found out as soon as one that is twice as slow, and none of the three is ever negative. What the samples
cannot tell (bytes, on a link that carried small files only) stays as the prior has it, and as unsure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, log, sqrt

FIXED = 30.0
PER_FILE = 0.05
PER_BYTE = 1e-8
"""Of a link never seen: half a minute until a mover's service has begun, 20 files/s, 100 MB/s."""
UNSURE = 4.0
"""How unsure each of the three is before anything was seen: its variance, in logarithms (7 times more, or less)."""
VARIES = 0.25
"""How much one transfer differs from the next over a link never seen: a standard deviation, in logarithms."""

_DRIFT = 0.01
"""By which each grows less sure with every transfer, as a part of how much they vary: about the last ten count."""
_GUESS = 1.0
"""Doubt beyond this variance is left out of p90: nothing would be begun over a link never seen."""
_MEMORY = 0.05
"""The newest transfer's weight in what is known of how much they vary."""
_LEAST_VARIES, _MOST_VARIES = 0.05, 2.0
_LEAST_SECONDS = 1e-3
_TRUSTED_AFTER = 4
"""Transfers until one that is far off counts as an outlier."""
_FAR_OFF = 2.5
"""Standard deviations beyond which it does, if it is also more than twice as long or less than half as long."""
_LEAST_FAR_OFF = 0.7
_STEPS = 4
_NO_CHANCE = 3
"""So many outliers in a row, all slow or all quick, are no chance: the link has changed."""
_LEAST, _MOST = log(1e-6), log(1e6)
"""Bounds of each, in units of the prior's."""
_LONGEST = 3.2e10
"""Seconds, a thousand years: no estimate is longer."""
_P90 = 1.2816
"""Standard deviations above the median below which nine of ten are."""
_MAX_TEXT = 4096

_Row = tuple[float, float, float]
_Matrix = tuple[_Row, _Row, _Row]
_UNKNOWN: _Matrix = ((UNSURE, 0.0, 0.0), (0.0, UNSURE, 0.0), (0.0, 0.0, UNSURE))


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
    """What is known of a link."""

    samples: int = 0
    logs: _Row = (0.0, 0.0, 0.0)
    """Logarithms of the three, in units of the prior's."""
    unsure: _Matrix = _UNKNOWN
    """Their covariance."""
    varies: float = VARIES
    """Standard deviation, in logarithms, of what transfers took around what they should have."""
    far_off: int = 0
    """Outliers in a row: above 0 slow ones, below 0 quick ones."""

    def with_sample(self, sample: Sample) -> Learned:
        """What is known after one more transfer. A sample that cannot be (no time, a clock set back) tells nothing."""
        if not isfinite(sample.seconds) or sample.seconds < 0 or sample.bytes < 0 or sample.files < 0:
            return self
        lasts, shares = _shares(self.logs, sample)
        surprise = log(max(_LEAST_SECONDS, sample.seconds) / lasts)
        doubt = _dot(shares, _times(self.unsure, shares))
        reach = max(_LEAST_FAR_OFF, _FAR_OFF * sqrt(doubt + self.varies**2))
        far_off = self._in_a_row(surprise, reach)
        if abs(far_off) >= _NO_CHANCE:
            return self._doubted().with_sample(sample)
        if far_off:  # it counts as the worst that was to be expected
            surprise = max(-reach, min(reach, surprise))
        return self._told(sample, took=log(lasts) + surprise, surprise=surprise, far_off=far_off)

    def _told(self, sample: Sample, *, took: float, surprise: float, far_off: int) -> Learned:
        """After a sample that took so long (its logarithm). The shares shift on the way there: a few steps."""
        logs = self.logs
        for _ in range(_STEPS):
            lasts, shares = _shares(logs, sample)
            towards = _times(self.unsure, shares)
            gain = _row(each / (_dot(shares, towards) + self.varies**2) for each in towards)
            back = _row(was - now for was, now in zip(self.logs, logs, strict=True))
            left = took - log(lasts) - _dot(shares, back)
            logs = _bounded(value + g * left for value, g in zip(self.logs, gain, strict=True))
        still = took - log(_shares(logs, sample)[0])
        return Learned(
            samples=self.samples + 1,
            logs=logs,
            unsure=_after(self.unsure, gain, shares, drift=_DRIFT * self.varies**2),
            varies=self._varies_after(max(0.0, surprise * still)),  # what was not learned from it is the link's own
            far_off=far_off,
        )

    def _in_a_row(self, surprise: float, reach: float) -> int:
        """Outliers in a row with this one."""
        if self.samples < _TRUSTED_AFTER or abs(surprise) <= reach:
            return 0
        side = 1 if surprise > 0 else -1
        return self.far_off + side if self.far_off * side > 0 else side

    def _doubted(self) -> Learned:
        """The link has changed: where it stood is a good guess, and no more."""
        return replace(self, unsure=_UNKNOWN, varies=max(self.varies, VARIES), far_off=0)

    def _varies_after(self, own: float) -> float:
        step = max(_MEMORY, 1 / (self.samples + 4))
        return max(_LEAST_VARIES, min(_MOST_VARIES, sqrt((1 - step) * self.varies**2 + step * own)))

    def estimate(self, *, bytes: int, files: int) -> LinkEstimate:  # noqa: A002 - the word that a caller reads
        """How long so many bytes in so many files will take."""
        parts = _parts(self.logs, max(0, bytes), max(0, files))
        # part by part, so that more bytes or files never take less time
        late = (
            part * exp(_P90 * sqrt(min(_GUESS, self.unsure[i][i]) + self.varies**2)) for i, part in enumerate(parts)
        )
        return LinkEstimate(p50=min(_LONGEST, sum(parts)), p90=min(_LONGEST, sum(late)), samples=self.samples)

    @property
    def fixed(self) -> float:
        """Seconds before the first byte moves."""
        return FIXED * exp(self.logs[0])

    @property
    def per_file(self) -> float:
        """Seconds for each file."""
        return PER_FILE * exp(self.logs[1])

    @property
    def rate(self) -> float:
        """Bytes per second, while bytes move."""
        return 1 / (PER_BYTE * exp(self.logs[2]))

    @property
    def json(self) -> str:
        """Compact JSON, for the store."""
        data = {"v": 1, "samples": self.samples, "logs": self.logs, "unsure": self.unsure}
        data |= {"varies": self.varies, "far_off": self.far_off}
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
                logs=_row(map(float, data["logs"])),
                unsure=_matrix([_row(map(float, row)) for row in data["unsure"]]),
                varies=float(data["varies"]),
                far_off=int(data["far_off"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return PRIOR
        return learned if learned._can_be() else PRIOR

    def _can_be(self) -> bool:
        sure = self.unsure
        pairs = [(i, j) for i in range(3) for j in range(3)]
        lawful = all(sure[i][j] == sure[j][i] and sure[i][j] ** 2 <= sure[i][i] * sure[j][j] * 1.001 for i, j in pairs)
        bounded = all(_LEAST <= value <= _MOST for value in self.logs)
        return (
            self.samples >= 0
            and bounded
            and lawful
            and all(0 < sure[i][i] <= UNSURE for i in range(3))
            and _LEAST_VARIES <= self.varies <= _MOST_VARIES
        )


PRIOR = Learned()
"""A link never seen."""


def _parts(logs: _Row, bytes_: int, files: int) -> _Row:
    """What each of the three adds, in seconds."""
    return FIXED * exp(logs[0]), files * PER_FILE * exp(logs[1]), bytes_ * PER_BYTE * exp(logs[2])


def _shares(logs: _Row, sample: Sample) -> tuple[float, _Row]:
    """How long it should take, and the part that each of the three has in that."""
    parts = _parts(logs, sample.bytes, sample.files)
    lasts = sum(parts)
    return lasts, _row(part / lasts for part in parts)


def _row(values: Iterable[float]) -> _Row:
    first, second, third = values
    return first, second, third


def _bounded(values: Iterable[float]) -> _Row:
    return _row(max(_LEAST, min(_MOST, value)) for value in values)


def _matrix(rows: Sequence[_Row]) -> _Matrix:
    first, second, third = rows
    return first, second, third


def _dot(a: _Row, b: _Row) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _times(matrix: _Matrix, row: _Row) -> _Row:
    return _dot(matrix[0], row), _dot(matrix[1], row), _dot(matrix[2], row)


def _after(unsure: _Matrix, gain: _Row, shares: _Row, *, drift: float) -> _Matrix:
    """How unsure the three are after a sample, and a little time; never more than before anything was seen."""
    told = _times(unsure, shares)
    left = [[unsure[i][j] - (gain[i] * told[j] + gain[j] * told[i]) / 2 for j in range(3)] for i in range(3)]
    sizes = [max(1e-9, left[i][i]) + drift for i in range(3)]
    shrink = [sqrt(min(1.0, UNSURE / size)) for size in sizes]
    sizes = [min(UNSURE, size) for size in sizes]
    return _matrix(
        [_row(shrink[i] * shrink[j] * left[i][j] if i != j else sizes[i] for j in range(3)) for i in range(3)]
    )


def learn(learned_json: str | None, sample: Sample) -> str:
    """One more sample, from and to what the store keeps."""
    return Learned.from_json(learned_json).with_sample(sample).json


__all__ = ["PRIOR", "Learned", "LinkEstimate", "Sample", "learn"]
