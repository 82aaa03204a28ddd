"""Symbols to bits to bytes and back: `constriction`'s range coder, fed by the context model."""

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.context import ACTIVATION_UNIT, LARGEST_MEAN, LOG_SCALE_LIMITS, ContextModel, Step
from model.network import LARGEST_SYMBOL

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


class Distribution:
    """What a step's symbols are binarized against: the logistic distribution in integers.

    A symbol is written as bits of its distance from the predicted mean, rounded: is it zero, its sign,
    is it beyond 1, beyond 2, and so on. Each bit's probability is a quotient of differences of the
    distribution, given what is known.

    Args:
        mean, log_scale: from `ContextModel.predict`, as flat integer arrays in units of 1/16.
    """

    def __init__(self, mean: NDArray[np.int64], log_scale: NDArray[np.int64]) -> None:
        unit = ACTIVATION_UNIT
        self.rounded_mean = (mean + unit // 2) // unit
        self._offset = mean - self.rounded_mean * unit
        self._inverse = _inverse_scales()[log_scale - round(LOG_SCALE_LIMITS[0]) * unit]

    def is_nonzero(self) -> NDArray[np.float32]:
        """p(distance is not 0)."""
        everything = slice(None)
        inside = self._below(everything, 1) - self._below(everything, -1)
        return _probability((1 << _TABLE_BITS) - inside, np.int64(1 << _TABLE_BITS), _SMALLEST)

    def is_positive(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """p(distance is above 0), for those that are not 0."""
        above = (1 << _TABLE_BITS) - self._below(which, 1)
        return _probability(above, above + self._below(which, -1), _SMALLEST)

    def is_beyond(self, which: NDArray[np.int64], signs: NDArray[np.int64], k: int) -> NDArray[np.float32]:
        """p(distance is beyond k), for those with these signs whose distance is k or more."""
        inner, outer = self._below(which, signs * (2 * k - 1)), self._below(which, signs * (2 * k + 1))
        total = np.where(signs > 0, 1 << _TABLE_BITS, 0)
        return _probability(np.abs(total - outer), np.abs(total - inner), _SMALLEST_BEYOND)

    def _below(self, which: slice | NDArray[np.int64], halves: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """The distribution's value at `halves` / 2, times 2**24."""
        distance = halves * (ACTIVATION_UNIT // 2) - self._offset[which]
        # in units of 1/512 of the scale: distance / 16 * inverse / 2**16 * 512
        position = (distance * self._inverse[which]) >> (_INVERSE_BITS + 4 - 9)
        values: NDArray[np.int64] = _logistic()[np.clip(position, -_TABLE_REACH, _TABLE_REACH) + _TABLE_REACH]
        return values


def encode_iteration(
    context: ContextModel, iteration: int, earlier: Tensor | None, codes: Tensor, level: Tensor
) -> list[bytes]:
    """Entropy-codes B[iteration] of each photo of a batch.

    Args:
        iteration: counted from 0.
        earlier: (N, C, h, w) float32: the symbols of all earlier iterations; None before the first.
        codes: (N, symbols, h, w) float32: those of this one, integers.
        level: of each photo's gain, (N,), multiples of 1/128.

    Returns:
        One stream a photo: its bits step by step; in each step by plane, then by channel, row, column.
    """
    encoders = [constriction.stream.queue.RangeEncoder() for _ in range(len(codes))]
    for step in context.steps(iteration):
        means, log_scales = _predict(context, step, earlier, codes, level)
        symbols = _integers(step.symbols(codes), 1)
        for encoder, mean, log_scale, values in zip(encoders, means, log_scales, symbols, strict=True):
            distribution = Distribution(mean, log_scale)
            for bits, probabilities in _bits(distribution, values - distribution.rounded_mean):
                encoder.encode(bits.astype(np.int32), _BERNOULLI, probabilities)
    return [encoder.get_compressed().astype("<u4").tobytes() for encoder in encoders]


def decode_iteration(
    context: ContextModel,
    iteration: int,
    earlier: Tensor | None,
    shape: tuple[int, int],
    level: Tensor,
    stream: bytes,
) -> Tensor:
    """B[iteration] (1, symbols, h, w) float32 of one photo from its stream.

    Args:
        iteration, earlier, level: as in `encode_iteration`.
        shape: (h, w).

    Raises:
        ValueError: the stream is no whole number of words, or longer or shorter than its bits, or no symbols
            come of it. What is too short for the shape is noticed long before its last symbol.
    """
    if len(stream) % 4:
        raise ValueError(f"a stream of {len(stream)} bytes is no whole number of 32-bit words")
    bits = _BitReader(np.frombuffer(stream, "<u4").astype(np.uint32))
    codes = torch.zeros(1, sum(context.groups[iteration]), *shape, dtype=torch.float32, device=level.device)
    for step in context.steps(iteration):
        target = step.symbols(codes)
        if not target.numel():
            continue
        (mean,), (log_scale,) = _predict(context, step, earlier, codes, level)
        try:
            values = _read(bits, Distribution(mean, log_scale))
        except (AssertionError, ValueError) as error:
            raise ValueError(f"the stream of {len(stream)} bytes is not one this model wrote") from error
        target.copy_(torch.from_numpy(values.astype(np.float32)).view(target.shape))
    if not bits.is_at_end():
        raise ValueError(f"the stream of {len(stream)} bytes goes on after its last bit")
    return codes


class _BitReader:
    """Reads the bits of a stream, and counts its words by writing them again: after them it reads zeros.

    Args:
        words: of the stream, uint32.
    """

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._again = constriction.stream.queue.RangeEncoder()
        self._words = len(words)

    def read(self, probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
        """The next bits, whose p(1) these are.

        Raises:
            ValueError: an encoder would have made more words of all bits so far.
        """
        bits: NDArray[np.int32] = self._decoder.decode(_BERNOULLI, probabilities)
        self._again.encode(bits, _BERNOULLI, probabilities)
        if self._again.num_words() > self._words:
            raise ValueError(f"its bits take more than its {self._words} words")
        return bits

    def is_at_end(self) -> bool:
        return bool(self._decoder.maybe_exhausted())


def _bits(
    distribution: Distribution, distance: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """The planes of bits of some symbols, with p(1) of each bit. `_read` is its mirror."""
    yield distance != 0, distribution.is_nonzero()
    which = np.flatnonzero(distance)
    if not len(which):
        return
    yield distance[which] > 0, distribution.is_positive(which)
    k = 1
    while len(which):
        beyond = np.abs(distance[which]) > k
        yield beyond, distribution.is_beyond(which, np.sign(distance[which]), k)
        which = which[beyond]
        k += 1


def _read(bits: _BitReader, distribution: Distribution) -> NDArray[np.int64]:
    """Symbols, from their planes of bits."""
    which = np.flatnonzero(bits.read(distribution.is_nonzero()))
    distance = np.zeros(len(distribution.rounded_mean), np.int64)
    if len(which):
        signs = bits.read(distribution.is_positive(which)).astype(np.int64) * 2 - 1
        k = 1
        while len(which):
            distance[which] = signs * k
            beyond = bits.read(distribution.is_beyond(which, signs, k)).astype(bool)
            which, signs = which[beyond], signs[beyond]
            k += 1
            if k > _LARGEST_DISTANCE:
                raise ValueError(f"a symbol is more than {_LARGEST_DISTANCE} from its mean")
    symbols = distance + distribution.rounded_mean
    if len(symbols) and np.abs(symbols).max() > LARGEST_SYMBOL:
        raise ValueError(f"a symbol of {np.abs(symbols).max()}; the largest is {LARGEST_SYMBOL}")
    return symbols


def _predict(
    context: ContextModel, step: Step, earlier: Tensor | None, codes: Tensor, level: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mean and log2 of scale of a step's symbols, (N, symbols) each, in units of 1/16."""
    mean, log_scale = context.predict(step, earlier, codes, level)
    return _integers(mean, ACTIVATION_UNIT), _integers(log_scale, ACTIVATION_UNIT)


def _integers(x: Tensor, unit: int) -> NDArray[np.int64]:
    """(N, values), times `unit`."""
    integers: NDArray[np.int64] = (x * unit).flatten(1).to(torch.int64).cpu().numpy()
    return integers


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
    low, high = (round(limit) * ACTIVATION_UNIT for limit in LOG_SCALE_LIMITS)
    whole, half = Decimal(1 << _INVERSE_BITS), Decimal("0.5")
    return np.array(
        [int(whole * Decimal(2) ** (Decimal(-n) / ACTIVATION_UNIT) + half) for n in range(low, high + 1)]
    )
