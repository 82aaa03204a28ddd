"""Which level of the gain meets a photo's target, found in few trials."""

import math
from dataclasses import dataclass, field

LEVELS = 256  # of the gain: a byte in the file
TOP = LEVELS - 1
_TOLERANCE = 0.001  # of MS-SSIM above a target
_RELATIVE_TOLERANCE = 0.03  # of 1 - MS-SSIM: near 1, a thousandth is a lot
# What -ln(1 - MS-SSIM) is at level 0, and how much it rises a level: on most photos, until trials say more.
_FIRST_LOGARITHM, _FIRST_SLOPE = 2.6, 0.0085
_SLOPES = (0.002, 0.03)


@dataclass
class LevelSearch:
    """The lowest level at which a photo reaches an MS-SSIM, or one that exceeds it by a thousandth at most.

    -ln(1 - MS-SSIM) is nearly linear in the level, so a secant's next guess is nearly right; a bracket
    around the answer makes sure of it.

    Attributes:
        target: MS-SSIM.
        trials: the MS-SSIM found at each level tried.
        answer: the level, once known; None as well where the highest level does not reach the target.
        done: whether there is nothing more to try.
    """

    target: float
    trials: dict[int, float] = field(default_factory=dict)
    answer: int | None = None
    done: bool = False

    @property
    def next_level(self) -> int:
        """Which to try now."""
        low, high = self._bracket()
        tolerance = min(_TOLERANCE, _RELATIVE_TOLERANCE * (1 - self.target))
        aim = -math.log(1 - min(self.target + tolerance / 2, 1 - 1e-7))
        if not self.trials:
            guess = (aim - _FIRST_LOGARITHM) / _FIRST_SLOPE
        else:
            nearest = sorted(self.trials, key=lambda level: abs(self._logarithm(level) - aim))[:2]
            slope = _FIRST_SLOPE
            if len(nearest) == 2:
                slope = (self._logarithm(nearest[1]) - self._logarithm(nearest[0])) / (nearest[1] - nearest[0])
            slope = min(max(slope, _SLOPES[0]), _SLOPES[1])
            guess = nearest[0] + (aim - self._logarithm(nearest[0])) / slope
        return min(max(round(guess), low + 1), high - 1, TOP) if high - low > 1 else high

    def add(self, level: int, ms_ssim: float) -> None:
        """Takes what a trial came to."""
        self.trials[level] = ms_ssim
        low, high = self._bracket()
        tolerance = min(_TOLERANCE, _RELATIVE_TOLERANCE * (1 - self.target))
        if self.target <= ms_ssim <= self.target + tolerance:
            self.answer, self.done = level, True
        elif high - low == 1:
            self.answer, self.done = (high if high < LEVELS else None), True

    def _bracket(self) -> tuple[int, int]:
        """The highest level known to fall short (or -1), the lowest known to reach the target (or 256)."""
        reached = [level for level, quality in self.trials.items() if quality >= self.target]
        high = min(reached, default=LEVELS)
        short = [level for level, quality in self.trials.items() if quality < self.target and level < high]
        return max(short, default=-1), high

    def _logarithm(self, level: int) -> float:
        return -math.log(max(1 - self.trials[level], 1e-7))
