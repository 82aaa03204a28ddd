"""Binary codes to bytes and back: `constriction`'s range coder, fed by the context model."""

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.context import LOGIT_LIMIT, LOGIT_UNIT, ContextModel, probability_table

_POSITIONS_AT_ONCE = 1 << 15  # code positions whose context is computed together; bounds memory
_MARGIN = 2  # rows that a band sees beyond those that count: one would do, two keep even rows even
_PROBABILITIES = probability_table().astype(np.float32)  # 20-bit fractions, exact in float32
_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)


def encode_iteration(context: ContextModel, codes: Tensor, iteration: int) -> list[bytes]:
    """Entropy-codes B[iteration] of each photo of a batch.

    Args:
        codes: (N, C, h, w) int8 of -1 and +1: the bits of all iterations up to and with this one.
        iteration: counted from 0.

    Returns:
        One stream a photo: its bits step by step, in each step by channel, row and column.
    """
    probabilities, symbols = [], []
    for number, step in enumerate(context.steps[iteration]):
        probabilities.append(_probabilities(context, codes, iteration, number))
        symbols.append((step.bits(codes) > 0).to(torch.int32).cpu().numpy())
    streams = []
    for photo in range(codes.shape[0]):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(
            np.concatenate([bits[photo].ravel() for bits in symbols]),
            _BERNOULLI,
            np.concatenate([p[photo].ravel() for p in probabilities]),
        )
        streams.append(encoder.get_compressed().astype("<u4").tobytes())
    return streams


def decode_iteration(context: ContextModel, codes: Tensor, iteration: int, stream: bytes) -> Tensor:
    """B[iteration] (1, bits, h, w) of one photo from its stream.

    Args:
        codes: (1, C, h, w) int8: the bits of all earlier iterations, C = 0 before the first.

    Raises:
        ValueError: the stream is no whole number of words, or longer than its bits. (One that is too
            short reads as if zeros followed; the file's lengths and checksums find that.)
    """
    if len(stream) % 4:
        raise ValueError(f"a stream of {len(stream)} bytes is no whole number of 32-bit words")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    known = F.pad(codes, (0, 0, 0, 0, 0, context.bits[iteration]))
    for number, step in enumerate(context.steps[iteration]):
        probabilities = _probabilities(context, known, iteration, number)
        try:
            symbols = decoder.decode(_BERNOULLI, probabilities.ravel())
        except (AssertionError, ValueError) as error:
            raise ValueError(f"the stream of {len(stream)} bytes is not one this model wrote") from error
        bits = torch.from_numpy(symbols.reshape(probabilities.shape))
        step.bits(known).copy_(bits * 2 - 1)
    if not decoder.maybe_exhausted():
        raise ValueError(f"the stream of {len(stream)} bytes goes on after its last bit")
    return known[:, codes.shape[1] :]


def _probabilities(context: ContextModel, codes: Tensor, iteration: int, number: int) -> NDArray[np.float32]:
    """p(+1) of the bits of one step, in the shape of `Step.bits`, in bands of rows that bound memory."""
    photos, _, height, width = codes.shape
    step = context.steps[iteration][number]
    rows = max(_POSITIONS_AT_ONCE // (photos * width) // 2 * 2, 2)
    bands = []
    for top in range(0, height, rows):
        above = min(top, _MARGIN)
        band = codes[:, : step.seen, top - above : top + rows + _MARGIN].float()
        logits = context.step_logits(band, iteration, number)
        logits = logits[:, :, above // step.stride : (above + rows) // step.stride]
        bands.append(((logits + LOGIT_LIMIT) * LOGIT_UNIT).to(torch.int32).cpu().numpy())
    probabilities: NDArray[np.float32] = _PROBABILITIES[np.concatenate(bands, axis=2)]
    return probabilities
