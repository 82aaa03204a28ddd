"""Photos on their way through the iterations, together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import SupportsBytes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.devices import to_device
from model.format.container import ITERATION_OVERHEAD
from model.search import TOP
from model.tensors import quality


@dataclass(frozen=True)
class Goal:
    """When a photo has had enough; with nothing set, after all iterations at their highest level.

    Attributes:
        ms_ssim: the decoded image reaches this, by a thousandth more at most.
        code_bytes: the iterations' chunks together grow no larger than this.
        iterations: this many, at their highest level.
    """

    ms_ssim: float | None = None
    code_bytes: int | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class Encoding:
    """The iterations of one photo, and whether the goal was met.

    Attributes:
        streams: of each iteration; see `codes`.
        levels: of the gain in each, 0 to 255.
        ms_ssim: of the image decoded after each.
    """

    streams: tuple[SupportsBytes, ...]
    levels: tuple[int, ...]
    ms_ssim: tuple[float, ...]
    reached: bool

    @property
    def codes(self) -> tuple[bytes, ...]:
        """A stream for each iteration. They are coded when first asked for."""
        return tuple(map(bytes, self.streams))


@dataclass
class Job:
    """A photo on its way through the iterations."""

    pixels: NDArray[np.uint8]
    grey: bool
    goal: Goal
    streams: list[SupportsBytes] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    ms_ssim: list[float] = field(default_factory=list)
    done: bool = False

    def bytes_left(self) -> int | None:
        """For the stream of the next iteration; None where nothing limits it."""
        if self.goal.code_bytes is None:
            return None
        chunks = (len(bytes(stream)) + ITERATION_OVERHEAD for stream in (*self.streams, b""))
        return self.goal.code_bytes - sum(chunks)

    def add(self, stream: SupportsBytes, level: int, quality: float) -> None:
        """Takes one iteration more, or ends before it where it would break the limit on bytes."""
        left = self.bytes_left()
        if left is not None and len(bytes(stream)) > left:
            self.done = True
            return
        # Only the last may wait to be coded: until then an iteration takes up to 12 bytes a pixel.
        self.streams = [*map(bytes, self.streams), stream]
        self.levels.append(level)
        self.ms_ssim.append(quality)
        enough = self.goal.ms_ssim is not None and quality >= self.goal.ms_ssim
        if enough or len(self.streams) == self.goal.iterations or (left is not None and level != TOP):
            self.done = True

    def encoding(self) -> Encoding:
        target = self.goal.ms_ssim
        reached = bool(self.streams) and (target is None or self.ms_ssim[-1] >= target)
        return Encoding(tuple(self.streams), tuple(self.levels), tuple(self.ms_ssim), reached)


@dataclass(frozen=True)
class State:
    """What is known of a batch before an iteration; None and nothing before the first.

    Attributes:
        reconstruction: P[i-1], (N, 3, H, W).
        encoder, decoder: their hidden states (N, C, H/4, W/4).
        symbols: of the iteration before (N, C, H/8, W/8).
    """

    reconstruction: Tensor | None = None
    encoder: Tensor | None = None
    decoder: Tensor | None = None
    symbols: Tensor | None = None

    def select(self, photos: Tensor) -> "State":
        """Of some photos of the batch, by index."""
        return State(*(None if x is None else x[photos] for x in vars(self).values()))


@dataclass(frozen=True)
class Batch:
    """Photos that are encoded together, one of each for each job."""

    jobs: list[Job]
    images: Tensor  # (N, 3, H, W)
    state: State

    def select(self, photos: list[int]) -> "Batch":
        """Some of them, by index."""
        if photos == list(range(len(self.jobs))):
            return self
        which = to_device(torch.tensor(photos, dtype=torch.long), self.images.device)
        return Batch([self.jobs[n] for n in photos], self.images[which], self.state.select(which))

    def qualities(self, reconstructions: Tensor, which: Sequence[int]) -> list[float]:
        """Of some photos: MS-SSIM of what a reconstruction decodes to. The host waits once for all."""
        if not which:
            return []
        qualities = []
        for n in which:
            height, width = self.jobs[n].pixels.shape[:2]
            qualities.append(quality(reconstructions[n], self.images[n], height, width, self.jobs[n].grey))
        return torch.cat(qualities).clamp(max=1.0).tolist()


def rows(photos: Sequence[int], *tensors: Tensor) -> tuple[Tensor, ...]:
    """Of some photos of a batch, by index."""
    if list(photos) == list(range(len(tensors[0]))):
        return tensors
    which = to_device(torch.tensor(photos, dtype=torch.long), tensors[0].device)
    return tuple(x[which] for x in tensors)
