"""Binary codes to bytes and back: `constriction`'s range coder, fed by the context model."""

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.context import LOGIT_LIMIT, LOGIT_UNIT, ContextModel, probability_table

_POSITIONS_AT_ONCE = 1 << 17  # code positions whose context is computed together; bounds memory
_PROBABILITIES = probability_table().astype(np.float32)  # 20-bit fractions, exact in float32
_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)


def encode_iteration(context: ContextModel, codes: Tensor, iteration: int) -> list[bytes]:
    """Entropy-codes B[iteration] of each photo of a batch.

    Args:
        codes: (N, C, h, w) int8 of -1 and +1: the bits of all iterations up to and with this one.
        iteration: counted from 0.

    Returns:
        One stream a photo: its bits group by group, in each group by channel, row and column.
    """
    first = iteration * context.bits
    probabilities = []
    for group in range(context.groups):
        known = codes[:, : first + group * context.group_bits]
        probabilities.append(_probabilities(context, known, iteration, group))
    symbols = (codes[:, first : first + context.bits] > 0).to(torch.int32).cpu().numpy()
    streams = []
    for photo in range(codes.shape[0]):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(
            symbols[photo].ravel(), _BERNOULLI, np.concatenate([p[photo].ravel() for p in probabilities])
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
    known = codes
    for group in range(context.groups):
        probabilities = _probabilities(context, known, iteration, group)
        try:
            symbols = decoder.decode(_BERNOULLI, probabilities.ravel())
        except (AssertionError, ValueError) as error:
            raise ValueError(f"the stream of {len(stream)} bytes is not one this model wrote") from error
        bits = torch.from_numpy(symbols.reshape(probabilities.shape)).to(codes.device, torch.int8)
        known = torch.cat([known, bits * 2 - 1], dim=1)
    if not decoder.maybe_exhausted():
        raise ValueError(f"the stream of {len(stream)} bytes goes on after its last bit")
    return known[:, codes.shape[1] :]


def _probabilities(context: ContextModel, known: Tensor, iteration: int, group: int) -> NDArray[np.float32]:
    """p(+1) of one group's bits (N, bits / groups, h, w), in bands of rows that bound memory."""
    photos, _, height, width = known.shape
    rows = max(_POSITIONS_AT_ONCE // (photos * width), 1)
    bands = []
    # Without cuDNN: its Winograd kernels for 3x3 windows multiply by fractions and are not exact.
    with torch.backends.cudnn.flags(enabled=False):
        for top in range(0, height, rows):
            above = min(top, 1)  # a band sees one row more on each side, where there is one
            band = known[:, :, top - above : top + rows + 1].float()
            logits = context.group_logits(band, iteration, group)[:, :, above : above + rows]
            bands.append(((logits + LOGIT_LIMIT) * LOGIT_UNIT).to(torch.int32).cpu().numpy())
    probabilities: NDArray[np.float32] = _PROBABILITIES[np.concatenate(bands, axis=2)]
    return probabilities
