"""The linear part of the codec: the DCT of 8x8 blocks, as in JPEG."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 8
# Steps of the quantizer, in grey levels: for frequency 0 of brightness, of the rest, and more for each unit
# of frequency. About those of JPEG at quality 50, but flatter; gains are learnt from there.
_BRIGHTNESS, _FINEST, _RISE = 24.0, 16.0, 3.0
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class BlockTransform(nn.Module):
    """The DCT of YCbCr's 8x8 blocks, low frequencies first, brightness in finer detail than colour.

    It is not trained: steps of a size that changes the networks change it beyond recognition. It is
    computed in float32: bfloat16 has too few digits for brightness.
    """

    rows: Tensor
    columns: Tensor
    largest: Tensor  # that a latent of pixels from -1/2 to 1/2 can be, (1, symbols, 1, 1)

    def __init__(self, symbols: int) -> None:
        super().__init__()
        rows, columns, steps = _dct(symbols)
        self.register_buffer("rows", (rows / steps[:, None])[:, :, None, None], persistent=False)
        largest = (rows / steps[:, None]).abs().sum(dim=1) / 2
        self.register_buffer("largest", largest[None, :, None, None], persistent=False)
        self.register_buffer("columns", (columns * steps[:, None]).T[:, :, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) to latents (N, symbols, H/8, W/8) in units of a step."""
        with torch.autocast(pixels.device.type, enabled=False):
            return F.conv2d(F.pixel_unshuffle(pixels.float(), BLOCK), self.rows)

    def inverse(self, latents: Tensor) -> Tensor:
        """Latents (N, symbols, H/8, W/8) to pixels (N, 3, H, W)."""
        with torch.autocast(latents.device.type, enabled=False):
            return F.pixel_shuffle(F.conv2d(latents.float(), self.columns), BLOCK)


def frequencies(symbols: int) -> list[int]:
    """How often each symbol's basis changes along both sides of a block."""
    return [u + v for *_, u, v in _places(symbols)]


def are_colour(symbols: int) -> list[bool]:
    """Of each symbol: whether it is of Cb or Cr."""
    return [channel > 0 for _, channel, *_ in _places(symbols)]


def _places(symbols: int) -> list[tuple[int, int, int, int]]:
    """Each symbol's rank, channel and frequencies. Frequencies of colour count twice."""
    frequency = range(BLOCK)
    places = (
        (1 + 2 * (u + v) if c else u + v, c, u, v) for c in range(3) for u in frequency for v in frequency
    )
    return sorted(places)[:symbols]


def _dct(symbols: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (symbols, 192) of the DCT, columns (symbols, 192) of its inverse, and steps (symbols,)."""
    n = torch.arange(BLOCK, dtype=torch.float64)
    basis = torch.cos(math.pi * (n + 0.5) * n[:, None] / BLOCK) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    colours = torch.tensor(_YCBCR, dtype=torch.float64)
    back = torch.linalg.inv(colours)
    places = _places(symbols)
    blocks = [(channel, torch.outer(basis[u], basis[v]).flatten()) for _, channel, u, v in places]
    rows = torch.stack([torch.outer(colours[channel], block).flatten() for channel, block in blocks])
    columns = torch.stack([torch.outer(back[:, channel], block).flatten() for channel, block in blocks])
    steps = [_FINEST + _RISE * rank for rank, *_ in places]
    steps[0] = _BRIGHTNESS
    return rows.float(), columns.float(), torch.tensor(steps) / 255
