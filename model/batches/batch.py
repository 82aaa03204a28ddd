"""Photos on their way through the iterations, together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsBytes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches.search import TOP
from model.batches.tensors import quality, to_padded_tensor
from model.canvas import Extents, Size, canvas_of
from model.devices import to_device
from model.format.container import ITERATION_OVERHEAD
from model.format.limits import padded_size


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

    @property
    def size(self) -> Size:
        """As the networks take it."""
        return padded_size(*self.pixels.shape[:2])

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
        extents: of photos of different sizes, also before the first.
    """

    reconstruction: Tensor | None = None
    encoder: Tensor | None = None
    decoder: Tensor | None = None
    symbols: Tensor | None = None
    extents: Extents | None = None

    @property
    def inside(self) -> Tensor | None:
        """(N, 1, H/4, W/4) of `extents`."""
        return None if self.extents is None else self.extents.inside

    def map(self, function: Callable[[Tensor], Tensor]) -> "State":
        """With a function of each tensor in its place."""
        changed: dict[str, Any] = {
            name: function(x) for name, x in vars(self).items() if isinstance(x, Tensor)
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class Batch:
    """Photos that are encoded together, one of each for each job."""

    jobs: list[Job]
    images: Tensor  # (N, 3, H, W)
    state: State

    @classmethod
    def of(cls, jobs: list[Job], device: torch.device) -> "Batch":
        """Before the first iteration."""
        sizes = [job.size for job in jobs]
        images = torch.zeros(len(jobs), 3, *canvas_of(sizes), device=device)
        for image, (height, width), job in zip(images, sizes, jobs, strict=True):
            image[:, :height, :width] = to_padded_tensor(job.pixels, device)[0]
        return cls(jobs, images, State(extents=Extents.of(sizes, device)))

    def select(self, photos: Sequence[int]) -> "Batch":
        """Some of them, by index in ascending order, on a canvas of their own."""
        if len(photos) == len(self.jobs):
            return self
        jobs, part = [self.jobs[n] for n in photos], self._part(photos)
        extents = Extents.of([job.size for job in jobs], self.images.device)
        return Batch(jobs, part(self.images), replace(self.state.map(part), extents=extents))

    def rows(self, photos: Sequence[int], *tensors: Tensor) -> tuple[Tensor, ...]:
        """What belongs to `select(photos)` of levels (N,) and planes (N, C, h, w) of this batch."""
        return tensors if len(photos) == len(self.jobs) else tuple(map(self._part(photos), tensors))

    def _part(self, photos: Sequence[int]) -> Callable[[Tensor], Tensor]:
        which = to_device(torch.tensor(photos, dtype=torch.long), self.images.device)
        height, width = canvas_of([self.jobs[n].size for n in photos])

        def part(x: Tensor) -> Tensor:
            if x.ndim == 4:
                stride = self.images.shape[3] // x.shape[3]
                x = x[:, :, : height // stride, : width // stride]
            return x[which]

        return part

    def qualities(self, reconstructions: Tensor, which: Sequence[int]) -> list[float]:
        """Of some photos: MS-SSIM of what a reconstruction decodes to. The host waits once for all."""
        if not which:
            return []
        qualities = []
        for n in which:
            height, width = self.jobs[n].pixels.shape[:2]
            qualities.append(quality(reconstructions[n], self.images[n], height, width, self.jobs[n].grey))
        return torch.cat(qualities).clamp(max=1.0).tolist()
