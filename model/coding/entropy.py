"""Symbols to bytes and back: the range coder, fed by the context model."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from model.canvas import Extents
from model.coding import processes, range_coder
from model.coding.context import ContextModel
from model.coding.limits import ACTIVATION_UNIT, LARGEST_SYMBOL, LOG_SCALES
from model.coding.processes import RemoteReader
from model.coding.range_coder import Integers, StreamReader
from model.coding.steps import CODE_STRIDE, Step
from model.devices import to_device, to_host

# Symbols that a device computes ahead of coding. Each takes some 40 bytes there and 4 here until it is coded:
# a 12-megapixel photo has 18 million in an iteration, one of 48 megapixels goes in three parts.
_AHEAD = {"cuda": 1 << 25}
# Devices whose streams are coded in other processes. A CPU that computes the networks, too, gains nothing.
_IN_PROCESSES = {"cuda"}


def shapes(mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded means, and the numbers of the distributions' shapes, from `ContextModel.predict`'s; int16.

    Means are rounded to the next integer, and lie somewhere in the 16 sixteenths that go to the same one.
    """
    up = mean.to(torch.int16) + ACTIVATION_UNIT // 2
    number = (log_scale.to(torch.int16) - LOG_SCALES[0]) * ACTIVATION_UNIT + (up & (ACTIVATION_UNIT - 1))
    return up >> (ACTIVATION_UNIT.bit_length() - 1), number


class Stream:
    """Symbols of a photo's iteration, with what is predicted of them. Its `bytes` are their stream.

    They are coded when first asked for: that needs no networks, and may happen in another thread.

    Args:
        steps: of each step, distances from the rounded means and the numbers of shapes.
        device: its type, of where the networks run.
    """

    def __init__(self, steps: list[tuple[Integers, Integers]], device: str) -> None:
        self._steps = steps
        self._device = device

    def __bytes__(self) -> bytes:
        return self._coded

    @cached_property
    def _coded(self) -> bytes:
        encode = processes.encode if self._device in _IN_PROCESSES else range_coder.encode
        stream = encode(self._steps)
        self._steps = []  # they take more memory than the stream
        return stream


def predict_iteration(
    context: ContextModel,
    iteration: int,
    previous: Tensor | None,
    codes: Tensor,
    level: Tensor,
    extents: Extents | None = None,
) -> list[Stream]:
    """B[iteration] of each photo of a batch, to be entropy-coded.

    Args:
        iteration: counted from 0.
        previous: (N, C, h, w) float32: the symbols of the iteration before; None in the first.
        codes: (N, symbols, h, w) float32: those of this one, integers.
        level: of each photo's gain, (N,), multiples of 1/128.
        extents: of photos of different sizes, beside which all symbols are 0.

    Returns:
        One stream a photo: its bits step by step; in each step by plane, then by channel, row, column.
    """
    steps = list(_steps(context, iteration, previous, codes, level, extents))
    height, width = codes.shape[2:]
    sizes = [(height, width)] * len(codes)
    if extents is not None:
        sizes = [(height // CODE_STRIDE, width // CODE_STRIDE) for height, width in extents.sizes]
    return [
        Stream([_of_photo(both[:, n], step.positions(*size)) for step, both in steps], codes.device.type)
        for n, size in enumerate(sizes)
    ]


def encode_iteration(
    context: ContextModel, iteration: int, previous: Tensor | None, codes: Tensor, level: Tensor
) -> list[bytes]:
    """The same, coded."""
    return list(map(bytes, predict_iteration(context, iteration, previous, codes, level)))


def decode_iteration(
    context: ContextModel,
    iteration: int,
    previous: Tensor | None,
    shape: tuple[int, int],
    level: Tensor,
    stream: bytes,
) -> Tensor:
    """B[iteration] (1, symbols, h, w) float32 of one photo from its stream.

    Args:
        iteration, previous, level: as in `predict_iteration`.
        shape: (h, w).

    Raises:
        ValueError: the stream is no whole number of words, or longer or shorter than its bits, or no symbols
            come of it. What is too short for the shape is noticed long before its last symbol.
    """

    def decoded(reader: StreamReader | RemoteReader) -> Tensor:
        # NumPy's zeros take no memory before they are touched; most of what a broken header claims never is.
        zeros = np.zeros((1, sum(context.groups[iteration]), *shape), np.float32)
        codes = to_device(torch.from_numpy(zeros), level.device)
        known = context.known(iteration, previous, codes)
        for step in context.steps(iteration):
            target = known.symbols(step)
            if not target.numel():
                continue
            both = shapes(*context.predict(step, known, level))
            rounded_mean, numbers = to_host(torch.stack(both).flatten(1)).numpy()
            values = reader.read(numbers) + rounded_mean
            if (largest := np.abs(values).max()) > LARGEST_SYMBOL:
                why = f"it has a symbol of {largest}"
                raise ValueError(f"the stream of {len(stream)} bytes is not one this model wrote: {why}")
            target.copy_(to_device(torch.from_numpy(values), target.device).view(target.shape))
        reader.finish()
        return known.codes()

    if level.device.type in _IN_PROCESSES:
        return processes.decode(stream, decoded)
    return decoded(StreamReader(stream))


def _of_photo(both: Integers, positions: tuple[int, int]) -> tuple[Integers, Integers]:
    """Of a photo's step on a canvas (2, C, h, w): distances and numbers of shapes at its own positions."""
    rows, columns = positions
    distances, numbers = both[:, :, :rows, :columns].reshape(2, -1)
    return distances, numbers


def _steps(
    context: ContextModel,
    iteration: int,
    previous: Tensor | None,
    codes: Tensor,
    level: Tensor,
    extents: Extents | None,
) -> Iterator[tuple[Step, Integers]]:
    """Distances from the mean and shapes' numbers, (2, N, C, h, w), step by step.

    A GPU computes many steps ahead, and one copy brings them here.
    """
    ahead = _AHEAD.get(codes.device.type, 0)
    waiting: list[tuple[Step, Tensor, Tensor, Tensor]] = []
    symbols, known = 0, context.known(iteration, previous, codes, extents)
    for step in context.steps(iteration):
        mean, log_scale = context.predict(step, known, level)
        waiting.append((step, mean, log_scale, step.symbols(codes)))
        symbols += mean.numel()
        if symbols > ahead:
            yield from _brought_here(waiting)
            waiting, symbols = [], 0
    if waiting:
        yield from _brought_here(waiting)


def _brought_here(waiting: list[tuple[Step, Tensor, Tensor, Tensor]]) -> Iterator[tuple[Step, Integers]]:
    """The same of steps' means, log2 of scales and symbols on a device."""
    steps, *parts = zip(*waiting, strict=True)
    flat = ([x.flatten(1) for x in part] for part in parts)
    mean, log_scale, values = (part[0] if len(part) == 1 else torch.cat(part, dim=1) for part in flat)
    rounded, numbers = shapes(mean, log_scale)
    whole = to_host(torch.stack([values.to(torch.int16) - rounded, numbers]))
    lengths = [x[0].numel() for x in parts[0]]
    for step, like, both in zip(steps, parts[0], torch.split(whole, lengths, dim=2), strict=True):
        yield step, both.view(2, *like.shape).numpy()
