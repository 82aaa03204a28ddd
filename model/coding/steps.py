"""What the context model sees of an iteration's symbols, step by step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

CODE_STRIDE = 8  # pixels that a code position spans on each axis
LEVELS = 5  # grids of doubling stride that the very first group is coded in
FIRST_WINDOW = 7  # sides of what the very first group's networks see of their grid
LAST_WIDE_GROUP = 2  # of the first iteration, whose networks see 5x5 positions; others 3x3
_QUARTERS = ((0, 0), (1, 1), (0, 1), (1, 0))  # of each 2x2 positions: top, left
_NEAREST = {  # of each quarter's positions, whose neighbours there are known: down, right
    1: ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    2: ((-1, 0), (1, 0), (0, -1), (0, 1)),
    3: ((-1, 0), (1, 0), (0, -1), (0, 1)),
}
_BORDER = 2  # zeros on each side of an image's planes: half a wide kernel


@dataclass(frozen=True)
class Step:
    """Symbols that are coded together: a group of channels at a quarter of the positions of a grid.

    Attributes:
        iteration, group: which network.
        quarter: which of the grid's quarters, 0 to 3; earlier ones are known.
        stride: of the grid, in code positions.
        start, stop: the group's channels among its iteration's.
    """

    iteration: int
    group: int
    quarter: int
    stride: int
    start: int
    stop: int

    @property
    def very_first(self) -> bool:
        """Whether it is of the group that is coded on grids, before all others."""
        return self.iteration == self.group == 0

    @property
    def first_of_all(self) -> bool:
        """Whether nothing at all is known before it."""
        return self.very_first and self.quarter == 0

    def symbols(self, codes: Tensor) -> Tensor:
        """Its symbols among those of its iteration (N, C, h, w): a view."""
        top, left = self.corner
        step = 2 * self.stride
        return codes[:, self.start : self.stop, top * self.stride :: step, left * self.stride :: step]

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that it has in a plane of that size."""
        top, left = (offset * self.stride for offset in self.corner)
        return len(range(top, height, 2 * self.stride)), len(range(left, width, 2 * self.stride))

    @property
    def corner(self) -> tuple[int, int]:
        """Its first position on the grid: top, left."""
        return _QUARTERS[self.quarter]

    @property
    def kernel(self) -> int:
        """Side of what its network sees."""
        if self.very_first:
            return FIRST_WINDOW
        return 5 if self.iteration == 0 and self.group <= LAST_WIDE_GROUP else 3

    def is_known(self) -> Tensor:
        """(kernel, kernel): 1 where around each of its positions are those of earlier quarters, else 0."""
        middle = self.kernel // 2
        top, left = self.corner
        known = torch.zeros(self.kernel, self.kernel)
        for earlier_top, earlier_left in _QUARTERS[: self.quarter]:
            known[(middle + earlier_top - top) % 2 :: 2, (middle + earlier_left - left) % 2 :: 2] = 1
        return known


class Known:
    """An iteration's symbols, laid out once for all its steps.

    Of groups after the very first, what a step sees is a cut of these planes, in which a border of zeros is
    around everything that is known before the iteration, or before its second group, and then its symbols.
    Symbols of later steps may be there or not: networks have no weights for them.

    Args:
        codes: all symbols (N, C, h, w), to encode them; or zeros, to be overwritten step by step.
        first: how many channels the very first group has, which comes before `before`; or 0.
        before: gives what is known before the channels from `first` on (N, C', h, w), once that group is.
        inside: (N, 1, h, w), which positions are a photo's own where photos are of different sizes; codes
            beside them are 0.
    """

    def __init__(
        self, codes: Tensor, first: int, before: Callable[[], Tensor], inside: Tensor | None = None
    ) -> None:
        self._codes = codes
        self._inside = inside
        self._first = first
        self._before = before

    @cached_property
    def _planes(self) -> tuple[Tensor, int]:
        """(N, C' + C - first, h + 2 border, w + 2 border), and how many more channels are before a group."""
        before = self._before()
        planes = torch.cat([before, self._codes[:, self._first :]], dim=1)
        return F.pad(planes, (_BORDER,) * 4), before.shape[1] - self._first

    def symbols(self, step: Step) -> Tensor:
        """Symbols of a step, where those of later ones see them: a view."""
        if step.very_first:
            return step.symbols(self._codes)
        planes, more = self._planes
        return step.symbols(planes[:, more:, _BORDER:-_BORDER, _BORDER:-_BORDER])

    def codes(self) -> Tensor:
        """All symbols (N, C, h, w)."""
        planes, more = self._planes
        rest = planes[:, more + self._first :, _BORDER:-_BORDER, _BORDER:-_BORDER]
        return torch.cat([self._codes[:, : self._first], rest], dim=1)

    def around(self, step: Step) -> Tensor:
        """What the network of a step after the very first group sees: (N, C, h', w'), cut so that a
        convolution of stride 2 gives the step's positions. A view.
        """
        planes, more = self._planes
        top, left = (_BORDER + offset - step.kernel // 2 for offset in step.corner)
        height, width = _sides_around(step, self._codes)
        channels = more + (step.stop if step.quarter else step.start)
        return planes[:, :channels, top : top + height, left : left + width]

    def windows(self, step: Step) -> tuple[Tensor, Tensor]:
        """What is around each position of a step of the very first group, 0 outside the image.

        Returns:
            Symbols (N, C, rows, columns, h', w'), and whether there is any (N, 1, ...): 1 or 0.
        """
        grid = self._codes[:, : step.stop, :: step.stride, :: step.stride]
        top, left = (step.kernel // 2 - offset for offset in step.corner)
        height, width = _sides_around(step, self._codes)
        if self._inside is None:
            with_ones = F.pad(grid, (0, 0, 0, 0, 0, 1), value=1.0)
        else:
            with_ones = torch.cat([grid, self._inside[:, :, :: step.stride, :: step.stride]], dim=1)
        padded = F.pad(with_ones, (left, width - left - grid.shape[3], top, height - top - grid.shape[2]))
        columns = F.unfold(padded, step.kernel, stride=2)
        target = step.symbols(self._codes).shape
        windows = columns.view(target[0], -1, step.kernel, step.kernel, *target[2:])
        return windows[:, :-1], windows[:, -1:]


def of_nearest(step: Step, windows: Tensor) -> Tensor:
    """Sums over a quarter's nearest neighbours in windows (N, C, rows, columns, h', w'): (N, C, h', w')."""
    middle = FIRST_WINDOW // 2
    parts = [windows[:, :, middle + down, middle + right] for down, right in _NEAREST[step.quarter]]
    return torch.stack(parts).sum(dim=0)


def _sides_around(step: Step, codes: Tensor) -> tuple[int, int]:
    """Height and width of what is around all positions of a step."""
    height, width = step.symbols(codes).shape[2:]
    return 2 * (height - 1) + step.kernel, 2 * (width - 1) + step.kernel
