"""Photos of different sizes in one batch: each lies at the top left of a common canvas.

Networks must not see what lies beside a photo there: at its right and lower border their convolutions see
zeros, as they do where it is alone. So its symbols are the same in any company, as far as convolutions add in
the same order for any size: a CPU's do in bfloat16; for one tiny photo in float32 torch has other kernels.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from model.devices import to_device

LARGEST_MIXED = 1 << 22  # pixels of a canvas: larger photos fill a GPU alone
_FILLED = 0.75  # of all canvases together, at the least: the rest is computed for nothing
_STRIDE = 4  # of the finest layers that have a border
_INSIDE: ContextVar[Tensor | None] = ContextVar("_INSIDE", default=None)

Size = tuple[int, int]  # padded height and width, in pixels


@dataclass(frozen=True)
class Extents:
    """What of their canvas is the photos' own.

    Attributes:
        sizes: of each photo.
        inside: (N, 1, H/4, W/4), whether a position is its photo's.
    """

    sizes: Sequence[Size]
    inside: Tensor

    @classmethod
    def of(cls, sizes: Sequence[Size], device: torch.device) -> "Extents | None":
        """None where all have one size, and nothing is beside them."""
        if len(set(sizes)) < 2:
            return None
        ends = to_device(torch.tensor(sizes), device) // _STRIDE
        rows, columns = (torch.arange(side // _STRIDE, device=device) for side in canvas_of(sizes))
        below, beside = (ends[:, axis, None, None, None] for axis in (0, 1))
        return cls(sizes, (rows[:, None] < below) & (columns < beside))

    def inside_at(self, stride: int) -> Tensor:
        """(N, 1, H/stride, W/stride), of a stride of 4 pixels or a multiple."""
        step = stride // _STRIDE
        return self.inside[:, :, ::step, ::step]


def canvas_of(sizes: Sequence[Size]) -> Size:
    """The smallest that holds all; of none, nothing."""
    return max((height for height, _ in sizes), default=0), max((width for _, width in sizes), default=0)


def may_share(sizes: Sequence[Size]) -> bool:
    """Whether photos of these sizes may be one batch."""
    height, width = canvas_of(sizes)
    return len(set(sizes)) == 1 or height * width <= LARGEST_MIXED


def groups(sizes: Sequence[Size], mixed: bool) -> list[list[int]]:
    """Which photos are encoded together, by index: those of one size, or with `mixed` of similar ones."""

    def similarity(n: int) -> tuple[int, int, int]:
        height, width = sizes[n]
        return int(3 * math.log2(height)), width, height

    together: list[list[int]] = []
    canvas, pixels = (0, 0), 0  # of the last group
    for n in sorted(range(len(sizes)), key=similarity):
        own = math.prod(sizes[n])
        if together:
            both, count = [canvas, sizes[n]], len(together[-1]) + 1
            filled = (pixels + own) / (count * math.prod(canvas_of(both)))
            if filled == 1 or (mixed and may_share(both) and filled >= _FILLED):
                together[-1].append(n)
                canvas, pixels = canvas_of(both), pixels + own
                continue
        together.append([n])
        canvas, pixels = sizes[n], own
    return together


@contextmanager
def nothing_beside(inside: Tensor | None) -> Iterator[None]:
    """In here `only_inside` leaves out what `inside` (N, 1, H/4, W/4) does not hold."""
    token = _INSIDE.set(inside)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def only_inside(x: Tensor) -> Tensor:
    """What a convolution is to see of a layer (N, C, h, w): zeros beside photos of different sizes."""
    inside = _INSIDE.get()
    if inside is None:
        return x
    step = inside.shape[3] // x.shape[3]
    return torch.where(inside[:, :, ::step, ::step], x, 0.0)  # `masked_fill` would undo channels_last


def spread(x: Tensor, inside: Tensor, border: int = 0) -> Tensor:
    """A plane (N, C, h, w) in which each position beside a photo has the value of the nearest in it.

    Args:
        inside: (N, 1, h, w).
        border: so many positions at each border count as beside it, too.
    """
    for axis, count in ((2, inside[:, :, :, :1].sum(dim=2)), (3, inside[:, :, :1].sum(dim=3))):
        last = (count[:, :, 0, None] - 1 - border).clamp(min=0)
        nearest = torch.arange(x.shape[axis], device=x.device).clamp(min=border).minimum(last)
        index = nearest[:, :, :, None] if axis == 2 else nearest[:, :, None]
        x = x.gather(axis, index.expand(x.shape))
    return x
