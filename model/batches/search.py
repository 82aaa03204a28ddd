"""Which level of the gain meets a photo's target, found in few trials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEVELS = 256  # of the gain: a byte in the file
# The lowest and highest that are trained; the latter is that of every iteration that another one follows.
BOTTOM, TOP = 32, 224
FIRST_ANCHOR, LEVELS_OF_ANCHORS = 96, 128


def position(levels: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
    """Where levels lie along the gain's anchors, 0 the first, 1 the last: multiples of 1/128 from -3/4."""
    return (np.asarray(levels, np.float32) - FIRST_ANCHOR) / np.float32(LEVELS_OF_ANCHORS)


# At levels 0, 32, ... 256 of a first iteration, medians of photos: -ln(1 - MS-SSIM), and the logarithm of a
# stream's bytes for each pixel.
_TYPICAL_MS_SSIM = (2.4, 2.7, 3.0, 3.3, 3.7, 4.3, 5.0, 5.5, 5.9)
_TYPICAL_BYTES = (-4.7, -4.3, -3.9, -3.5, -3.0, -2.5, -2.0, -1.6, -1.2)


@dataclass(frozen=True)
class Band:
    """What a search is after: a quantity that rises with the level, to end within a band.

    Attributes:
        low, high: of the quantity.
        at_most: whether `high` is a limit; else `low` is one, a target to be reached.
        typical: the quantity at each level, of most photos or of a part of this one: where to look first.
    """

    low: float
    high: float
    at_most: bool
    typical: NDArray[np.float64]

    @property
    def aim(self) -> float:
        """Its middle."""
        return (self.low + self.high) / 2

    @classmethod
    def of_ms_ssim(cls, target: float) -> "Band":
        """For -ln(1 - MS-SSIM): up to a thousandth above, near 1 less."""
        tolerance = min(0.001, 0.03 * (1 - target))
        return cls(logarithm(target), logarithm(target + tolerance), False, _at_levels(_TYPICAL_MS_SSIM))

    @classmethod
    def of_bytes(cls, limit: int, pixels: int) -> "Band":
        """For the logarithm of a stream's bytes: down to 2% below."""
        typical = _at_levels(_TYPICAL_BYTES) + math.log(pixels)
        return cls(math.log(0.98 * limit), math.log(limit), True, typical)


def _at_levels(values: Sequence[float]) -> NDArray[np.float64]:
    return np.interp(np.arange(LEVELS), np.linspace(0, LEVELS, len(values)), values)


def logarithm(ms_ssim: float) -> float:
    """-ln(1 - MS-SSIM), at most 16."""
    return -math.log(max(1 - ms_ssim, math.exp(-16)))


@dataclass
class LevelSearch:
    """Finds a level: straight between two that bracket it, else along the typical curve.

    Attributes:
        answer: once done: a level in the band, or else the one nearest to it that keeps its limit; None
            where no level does.
        done: whether there is nothing more to try.
    """

    band: Band
    answer: int | None = None
    done: bool = False
    _trials: dict[int, float] = field(default_factory=dict)

    @property
    def next_level(self) -> int:
        """Which to try now."""
        low, high = self._bracket()
        if low >= 0 and high < LEVELS:
            share = (self.band.aim - self._trials[low]) / (self._trials[high] - self._trials[low])
            guess = round(low + share * (high - low))
        else:
            guess = int(np.abs(self._extended() - self.band.aim).argmin())
            if len(self._trials) > 2:  # all on one side: where a curve is flat, steps grow
                *_, before, last = self._trials
                step = 2 * abs(last - before)
                guess = min(guess, high - step) if low < 0 else max(guess, low + step)
        return min(max(guess, low + 1), high - 1)

    @property
    def curve(self) -> NDArray[np.float64]:
        """The quantity at each level, as far as it is known: the typical one, led through the trials."""
        levels = sorted(self._trials)
        beyond = [self._trials[level] - self.band.typical[level] for level in levels]
        curve: NDArray[np.float64] = self.band.typical + np.interp(np.arange(LEVELS), levels, beyond)
        return curve

    def add(self, level: int, value: float) -> None:
        """Takes what a trial came to."""
        self._trials[level] = value
        low, high = self._bracket()
        if self.band.low <= value <= self.band.high:
            self.answer, self.done = level, True
        elif high - low == 1:
            nearest = low if self.band.at_most else high
            self.answer, self.done = (nearest if 0 <= nearest < LEVELS else None), True

    def _bracket(self) -> tuple[int, int]:
        """The highest level below the limit or target, or -1; the lowest beyond it, or 256."""
        limit = self.band.high if self.band.at_most else self.band.low
        beyond = [
            level
            for level, value in self._trials.items()
            if (value > limit if self.band.at_most else value >= limit)
        ]
        high = min(beyond, default=LEVELS)
        return max((level for level in self._trials if level < high), default=-1), high

    def _extended(self) -> NDArray[np.float64]:
        """The typical curve, led through the two trials nearest to the aim, within reason."""
        typical, aim = self.band.typical, self.band.aim
        levels = sorted(self._trials, key=lambda level: abs(self._trials[level] - aim))[:2]
        if not levels:
            return typical
        values, usual = [self._trials[level] for level in levels], typical[levels]
        rise, usual_rise = values[-1] - values[0], usual[-1] - usual[0]
        steepness = rise / usual_rise if usual_rise else 1.0
        curve: NDArray[np.float64] = values[0] + min(max(steepness, 1 / 4), 4.0) * (typical - usual[0])
        return curve
