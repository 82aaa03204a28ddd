"""Symbols to bits to bytes and back: `constriction`'s range coder, fed by the context model.

A symbol is written as bits of its distance from the predicted mean, rounded: is it zero, its sign, is it
beyond 1, beyond 2, and so on. Each bit's probability is a quotient of differences of the logistic
distribution, given what is known. It depends on the distribution's *shape* alone: on its scale, and on where
within a unit its mean lies. There are 2,832 shapes, so that probabilities are looked up in tables.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property, lru_cache

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.canvas import Extents
from model.coding.context import LARGEST_MEAN, LOG_SCALES, ContextModel
from model.coding.steps import ACTIVATION_UNIT, CODE_STRIDE, LARGEST_SYMBOL, Step
from model.devices import to_device, to_host

_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)
_PROBABILITY_BITS = 20  # probabilities are multiples of 2**-20: exact in float32
_TABLE_BITS = 24  # of the logistic function's values
_TABLE_UNIT = 512  # of its argument
_TABLE_REACH = 16 * _TABLE_UNIT
_INVERSE_BITS = 16  # of 1 / scale
_SMALLEST = 1
# "Is it beyond k" is never taken for less likely than 1/128: where a prediction is wrong altogether, a
# symbol still costs only some bits a unit.
_SMALLEST_BEYOND = 1 << (_PROBABILITY_BITS - 7)
_LARGEST_DISTANCE = LARGEST_MEAN + LARGEST_SYMBOL
_HALF = ACTIVATION_UNIT // 2
_SHAPES = (LOG_SCALES[1] - LOG_SCALES[0] + 1) * ACTIVATION_UNIT
# Bits that go to the range coder at once. It holds Python's lock meanwhile, under half a millisecond for so
# many; and they stay in the cache.
_PIECE = 1 << 14
# Symbols that a device computes ahead of coding. Each takes some 40 bytes there and 4 here until it is coded:
# a 12-megapixel photo has 18 million in an iteration, one of 48 megapixels goes in three parts.
_AHEAD = {"cuda": 1 << 25}

Integers = NDArray[np.int16]


def shapes(mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded means, and the numbers of the distributions' shapes, from `ContextModel.predict`'s; int16.

    Means are rounded to the next integer, and lie somewhere in the 16 sixteenths that go to the same one.
    """
    up = mean.to(torch.int16) + _HALF
    number = (log_scale.to(torch.int16) - LOG_SCALES[0]) * ACTIVATION_UNIT + (up & (ACTIVATION_UNIT - 1))
    return up >> (ACTIVATION_UNIT.bit_length() - 1), number


class Stream:
    """Symbols of a photo's iteration, with what is predicted of them. Its `bytes` are their stream.

    They are coded when first asked for: that needs no networks, and may happen in another thread.

    Args:
        steps: of each step, distances from the rounded means and the numbers of shapes.
    """

    def __init__(self, steps: list[tuple[Integers, Integers]]) -> None:
        self._steps = steps

    def __bytes__(self) -> bytes:
        return self._coded

    @cached_property
    def _coded(self) -> bytes:
        encoder = constriction.stream.queue.RangeEncoder()
        for distance, shape in self._steps:
            for bits, table, rows in _planes(distance, shape):
                for piece in _pieces(len(bits)):
                    encoder.encode(bits[piece].astype(np.int32), _BERNOULLI, table.take(rows[piece]))
        self._steps = []  # they take more memory than the stream
        words: NDArray[np.uint32] = encoder.get_compressed()
        return words.astype("<u4").tobytes()


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
        Stream([_of_photo(both[:, n], step.positions(*size)) for step, both in steps])
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
    if len(stream) % 4:
        raise ValueError(f"a stream of {len(stream)} bytes is no whole number of 32-bit words")
    bits = _BitReader(np.frombuffer(stream, "<u4").astype(np.uint32))
    # NumPy's zeros take no memory before they are touched; for most of what a broken header claims, never.
    zeros = np.zeros((1, sum(context.groups[iteration]), *shape), np.float32)
    codes = to_device(torch.from_numpy(zeros), level.device)
    known = context.known(iteration, previous, codes)
    for step in context.steps(iteration):
        target = known.symbols(step)
        if not target.numel():
            continue
        both = shapes(*context.predict(step, known, level))
        rounded_mean, numbers = to_host(torch.stack(both).flatten(1)).numpy()
        try:
            values = _read(bits, numbers) + rounded_mean
            if (largest := np.abs(values).max()) > LARGEST_SYMBOL:
                raise ValueError(f"a symbol of {largest}; the largest is {LARGEST_SYMBOL}")
        except (AssertionError, ValueError) as error:
            raise ValueError(f"the stream of {len(stream)} bytes is not one this model wrote") from error
        target.copy_(to_device(torch.from_numpy(values), target.device).view(target.shape))
    if not bits.is_at_end():
        raise ValueError(f"the stream of {len(stream)} bytes goes on after its last bit")
    return known.codes()


class _BitReader:
    """Reads the bits of a stream, and counts its words by writing them again: after them it reads zeros.

    Args:
        words: of the stream, uint32.
    """

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._again = constriction.stream.queue.RangeEncoder()
        self._words = len(words)

    def read(self, table: NDArray[np.float32], rows: Integers) -> NDArray[np.bool_]:
        """The next bits, whose p(1) are in these rows of a table.

        Raises:
            AssertionError: the stream does not decode.
            ValueError: an encoder would have made more words of all bits so far.
        """
        bits = np.empty(len(rows), np.bool_)
        for piece in _pieces(len(rows)):
            probabilities = table.take(rows[piece])
            read = self._decoder.decode(_BERNOULLI, probabilities)
            self._again.encode(read, _BERNOULLI, probabilities)
            if self._again.num_words() > self._words:
                raise ValueError(f"its bits take more than its {self._words} words")
            bits[piece] = read
        return bits

    def is_at_end(self) -> bool:
        return bool(self._decoder.maybe_exhausted())


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


def _planes(
    distance: Integers, shape: Integers
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32], Integers]]:
    """The planes of bits of some symbols: bits, a table of p(1), and each bit's row in it.

    `_read` is its mirror.
    """
    nonzero = distance != 0
    yield nonzero, _is_nonzero(), shape
    distance, shape = distance[nonzero], shape[nonzero]
    positive = distance > 0
    yield positive, _is_positive(), shape
    distance, shape = np.abs(distance), shape + _SHAPES * positive.astype(np.int16)
    k = 1
    while len(distance):
        beyond = distance > k
        yield beyond, _is_beyond(k), shape
        distance, shape = distance[beyond], shape[beyond]
        k += 1


def _read(bits: _BitReader, shape: Integers) -> Integers:
    """Distances from the mean, from their planes of bits.

    Raises:
        AssertionError, ValueError: see `_BitReader.read`; or a distance is larger than there are.
    """
    which = np.flatnonzero(bits.read(_is_nonzero(), shape))
    distance, shape = np.zeros(len(shape), np.int16), shape[which]
    positive = bits.read(_is_positive(), shape)
    signs = np.where(positive, np.int16(1), np.int16(-1))
    shape = shape + _SHAPES * positive.astype(np.int16)
    k = 1
    while len(which):
        distance[which] = signs * np.int16(k)
        beyond = bits.read(_is_beyond(k), shape)
        which, signs, shape = which[beyond], signs[beyond], shape[beyond]
        k += 1
        if k > _LARGEST_DISTANCE:
            raise ValueError(f"a symbol is more than {_LARGEST_DISTANCE} from its mean")
    return distance


def _pieces(length: int) -> Iterator[slice]:
    return (slice(start, start + _PIECE) for start in range(0, length, _PIECE))


@lru_cache(1)
def _is_nonzero() -> NDArray[np.float32]:
    """p(distance is not 0) of each shape."""
    inside = _below(1) - _below(-1)
    return _probability((1 << _TABLE_BITS) - inside, np.int64(1 << _TABLE_BITS), _SMALLEST)


@lru_cache(1)
def _is_positive() -> NDArray[np.float32]:
    """p(distance is above 0) of each shape, where it is not 0."""
    above = (1 << _TABLE_BITS) - _below(1)
    return _probability(above, above + _below(-1), _SMALLEST)


@lru_cache(_LARGEST_DISTANCE + 1)
def _is_beyond(k: int) -> NDArray[np.float32]:
    """p(distance is beyond k) where it is k or more: of each shape below the mean, then above it."""
    whole = 1 << _TABLE_BITS
    below = _probability(_below(-2 * k - 1), _below(-2 * k + 1), _SMALLEST_BEYOND)
    above = _probability(whole - _below(2 * k + 1), whole - _below(2 * k - 1), _SMALLEST_BEYOND)
    return np.concatenate([below, above])


def _below(halves: int) -> NDArray[np.int64]:
    """The value of each shape's distribution at `halves` / 2 from the rounded mean, times 2**24."""
    distance = halves * _HALF - np.arange(-_HALF, _HALF)
    # in units of 1/512 of the scale: distance / 16 * inverse / 2**16 * 512
    position = (distance * _inverse_scales()[:, None]).ravel() >> (_INVERSE_BITS + 4 - 9)
    values: NDArray[np.int64] = _logistic()[np.clip(position, -_TABLE_REACH, _TABLE_REACH) + _TABLE_REACH]
    return values


def _probability(
    part: NDArray[np.int64], whole: NDArray[np.int64] | np.int64, smallest: int
) -> NDArray[np.float32]:
    """part / whole as a multiple of 2**-20, not nearer than `smallest` of those to 0; nor to 1, than one."""
    quotient = (part << _PROBABILITY_BITS) // np.maximum(whole, 1)
    largest = (1 << _PROBABILITY_BITS) - 1
    values: NDArray[np.float32] = np.clip(quotient, smallest, largest).astype(np.float32)
    return values / np.float32(1 << _PROBABILITY_BITS)


@lru_cache(1)
def _logistic() -> NDArray[np.int64]:
    """floor(2**24 / (1 + exp(-n / 512))), n from -8192 to 8192, in decimal arithmetic: the same anywhere."""
    whole = 1 << _TABLE_BITS
    exponentials = (Decimal(-n) / _TABLE_UNIT for n in range(-_TABLE_REACH, _TABLE_REACH + 1))
    return np.array([int(whole / (1 + exponential.exp())) for exponential in exponentials])


@lru_cache(1)
def _inverse_scales() -> NDArray[np.int64]:
    """floor(2**16 / scale + 1/2) for each log2 of a scale, in steps of 1/16."""
    low, high = LOG_SCALES
    whole, half = Decimal(1 << _INVERSE_BITS), Decimal("0.5")
    return np.array(
        [int(whole * Decimal(2) ** (Decimal(-n) / ACTIVATION_UNIT) + half) for n in range(low, high + 1)]
    )
