"""Distances of symbols from their predictions to bits to bytes and back: `constriction`'s range coder.

A symbol is written as bits of its distance from the predicted mean, rounded: is it zero, its sign, is it
beyond 1, beyond 2, and so on. Each bit's probability is a quotient of differences of the logistic
distribution, given what is known. It depends on the distribution's *shape* alone: on its scale, and on where
within a unit its mean lies. There are 2,832 shapes, so that probabilities are looked up in tables.

No torch here: a process that does nothing else starts in a moment, and is small.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache

import constriction
import numpy as np
from numpy.typing import NDArray

from model.coding.limits import ACTIVATION_UNIT, LARGEST_MEAN, LARGEST_SYMBOL, LOG_SCALES

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

Integers = NDArray[np.int16]


def encode(steps: Iterable[tuple[Integers, Integers]]) -> bytes:
    """The stream of some steps' symbols.

    Args:
        steps: of each, distances from the rounded means and the numbers of shapes, (symbols,).
    """
    encoder = constriction.stream.queue.RangeEncoder()
    for distance, shape in steps:
        for bits, table, rows in _planes(distance, shape):
            for piece in _pieces(len(bits)):
                encoder.encode(bits[piece].astype(np.int32), _BERNOULLI, table.take(rows[piece]))
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words.astype("<u4").tobytes()


class StreamReader:
    """Reads the symbols of a stream, step by step.

    Raises:
        ValueError: the stream is no whole number of words.
    """

    def __init__(self, stream: bytes) -> None:
        self._length = len(stream)
        if self._length % 4:
            raise ValueError(f"a stream of {self._length} bytes is no whole number of 32-bit words")
        self._bits = _BitReader(np.frombuffer(stream, "<u4").astype(np.uint32))

    def read(self, shape: Integers) -> Integers:
        """Distances of a step's symbols, from the numbers of their shapes; (symbols,) both.

        Raises:
            ValueError: no encoder would have made the stream of these symbols and all before.
        """
        try:
            return _read(self._bits, shape)
        except (AssertionError, ValueError) as error:
            raise ValueError(f"the stream of {self._length} bytes is not one this model wrote") from error

    def finish(self) -> None:
        """After the last step.

        Raises:
            ValueError: the stream is longer.
        """
        if not self._bits.is_at_end():
            raise ValueError(f"the stream of {self._length} bytes goes on after its last bit")


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
