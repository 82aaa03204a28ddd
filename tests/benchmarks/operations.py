"""What the codec's networks compute, counted by torch's own counter. Needs torch alone."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.coding.steps import CODE_STRIDE
from model.network import ResidualGRUCodec

_SIDE = 256  # of the image that is counted on


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates for each pixel in one iteration."""

    encoder: float
    decoder: float
    context: float


@torch.no_grad()
def operations(model: ResidualGRUCodec) -> list[Operations]:
    """Of each iteration of a model, on the device and in the precision that its networks have."""
    device = model.log_gain[0].device
    images = torch.rand(1, 3, _SIDE, _SIDE, device=device)
    level = torch.zeros(1, device=device)
    reconstruction = encoder_state = decoder_state = previous = None
    counted = []
    code_side = _SIDE // CODE_STRIDE
    for i, count in enumerate(model.config.symbols):
        symbols = torch.zeros(1, count, code_side, code_side, device=device)
        counters = [FlopCounterMode(display=False) for _ in range(3)]
        with counters[0]:
            _, encoder_state = model.encode(images, reconstruction, encoder_state, i)
        with counters[1]:
            reconstruction, decoder_state = model.decode(symbols, level, reconstruction, decoder_state, i)
        with counters[2]:
            model.context.rate(i, previous, symbols, symbols, level)
        previous = symbols
        counted.append(Operations(*(counter.get_total_flops() / 2 / _SIDE**2 for counter in counters)))
    return counted
