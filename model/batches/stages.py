"""The networks of an iteration, from images to symbols and back, in tiles."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.batches.batch import State
from model.batches.search import position
from model.batches.tiling import run_tiled
from model.canvas import Extents, nothing_beside, spread
from model.coding.steps import CODE_STRIDE
from model.devices import to_device
from model.network import ResidualGRUCodec, quantize
from model.transform import are_colour, frequencies

_EVEN = 0.4  # of a symbol: less change than that, within two positions or in the whole inside, is none
# Positions at the border, where latents of one colour differ from those inside, and by how much at the most.
_BORDER, _EVEN_AT_BORDER = 4, 1.5
_HIGH = 3  # frequencies from there on show as patterns where they stand alone
# Of a symbol: a high frequency of colour of which the photo has less is the network's alone.
_UNFOUNDED = 0.25


class Stages:
    """A model's networks, in the precision that they have.

    Args:
        model: on its device.
    """

    def __init__(self, model: ResidualGRUCodec, device: torch.device) -> None:
        self.model = model
        self._device = device
        count = model.config.symbols[0]
        high = torch.tensor(frequencies(count), device=device) >= _HIGH
        self._high, self._high_colour = high, high & torch.tensor(are_colour(count), device=device)

    def level_tensor(self, levels: Sequence[int]) -> Tensor:
        """Levels of gains 0 to 255 as the networks take them, (N,)."""
        return to_device(torch.from_numpy(position(levels)), self._device)

    def quantized(
        self, latents: Tensor, iteration: int, level: Tensor, extents: Extents | None = None
    ) -> Tensor:
        """Symbols (N, symbols, H/8, W/8) of latents as `analyse` gives them; 0 beside photos."""
        inside = None if extents is None else extents.inside_at(CODE_STRIDE)
        scaled = self.model.scale(latents, level, iteration)
        if iteration == 0:
            very_first = scaled[:, : self.model.config.first_groups[0]]
            very_first.copy_(_evened(very_first, inside))
        symbols = quantize(scaled)
        if inside is not None:
            symbols = symbols.masked_fill(~inside, 0)
        return symbols if iteration else self._without_patterns(symbols, latents, level)

    def _without_patterns(self, symbols: Tensor, latents: Tensor, level: Tensor) -> Tensor:
        """The first iteration's symbols, but high frequencies that would show as spots in smooth places."""
        linear = latents[:, : symbols.shape[1]] * self.model.gain(0, level)
        unfounded = self._high_colour[:, None, None] & (linear.abs() < _UNFOUNDED)
        symbols = symbols.masked_fill(unfounded, 0)
        high = self._high[:, None, None]
        return torch.where(high & _are_lone(symbols * high), 0.0, symbols)

    def analyse(self, images: Tensor, state: State, iteration: int, tile: int) -> tuple[Tensor, Tensor]:
        """Latents of R[i-1], and the encoder's new state."""

        def network(*inputs: Tensor | None) -> Sequence[Tensor]:
            assert inputs[0] is not None
            with nothing_beside(inputs[3]):
                return self.model.encode(inputs[0], inputs[1], inputs[2], iteration)

        reach = self.model.reach(iteration)[0]
        inputs = [images, state.reconstruction, state.encoder, state.inside]
        latents, hidden = run_tiled(network, inputs, tile, reach)
        return latents, hidden

    def synthesize(
        self, symbols: Tensor, level: Tensor, state: State, iteration: int, tile: int
    ) -> tuple[Tensor, Tensor]:
        """P[i], and the decoder's new state."""

        def network(*inputs: Tensor | None) -> Sequence[Tensor]:
            assert inputs[0] is not None
            with nothing_beside(inputs[3]):
                return self.model.decode(inputs[0], level, inputs[1], inputs[2], iteration)

        reach = self.model.reach(iteration)[1]
        inputs = [symbols, state.reconstruction, state.decoder, state.inside]
        reconstruction, hidden = run_tiled(network, inputs, tile, reach, first_stride=CODE_STRIDE)
        return reconstruction, hidden


def _evened(scaled: Tensor, photos: Tensor | None) -> Tensor:
    """Scaled latents (N, C, h, w), averaged where they hardly change: of one colour come equal symbols.

    The networks' offsets differ a little between the four positions of 16x16 pixels, and more at the border,
    beyond which they see zeros. Where a latent lies between two integers, symbols would alternate, at many
    times the cost. Hardly a photo is so even.

    Args:
        photos: (N, 1, h, w), what is of the photos themselves where they are of different sizes.
    """
    if photos is not None:
        scaled = spread(scaled, photos)
    around = F.pad(scaled, (2, 2, 2, 2), mode="replicate")
    change = F.max_pool2d(around, 5, 1) + F.max_pool2d(-around, 5, 1)
    mean = F.avg_pool2d(F.avg_pool2d(around, 4, 1), 2, 1)  # all four positions count alike
    evened = torch.where(change < _EVEN, mean, scaled)
    if photos is not None:
        inside = spread(evened, photos, _BORDER)
    else:
        inside = evened[:, :, _BORDER:-_BORDER, _BORDER:-_BORDER]
    if not inside.numel():
        return evened
    low, high = (x[:, :, None, None] for x in torch.aminmax(inside.flatten(2), dim=2))
    middle = (low + high) / 2
    one_colour = (high - low < _EVEN) & ((evened - middle).abs() < _EVEN_AT_BORDER)
    if photos is not None:
        has_inside = photos[:, :, 2 * _BORDER :, 2 * _BORDER :].flatten(1).any(dim=1)
        one_colour &= has_inside[:, None, None, None]
    return torch.where(one_colour, middle, evened)


def _are_lone(symbols: Tensor) -> Tensor:
    """Which of some symbols (N, C, h, w) are 1 or -1, and the only ones in the nine blocks around them.

    Of a smooth wall's noise few exceed half a step. Each would show as a patch of stripes, and costs most.
    """
    there = (symbols != 0).sum(dim=1, keepdim=True, dtype=symbols.dtype)
    around = F.avg_pool2d(there, 3, 1, padding=1, divisor_override=1)
    return (symbols.abs() == 1) & (around == 1)
