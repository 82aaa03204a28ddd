"""The Residual GRU codec network: encoders, binarizer and decoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.canvas import only_inside
from model.coding.context import ContextModel
from model.coding.limits import LARGEST_SYMBOL
from model.transform import BlockTransform, frequencies

RESIDUAL_SCALE = 64.0  # of what a later encoder sees: what is left over is that much smaller than an image
GAIN_ANCHORS = 5  # gains in between are interpolated


@dataclass(frozen=True)
class CodecConfig:
    """Widths of a `ResidualGRUCodec`. The defaults are the shipped model's.

    Attributes:
        iterations: how many the model has learnt.
        first_groups, later_groups: sizes of the groups in which the symbols of the first and of each later
            iteration are coded.
        quarter_channels, eighth_channels, sixteenth_channels: widths of the layers at 1/4, 1/8, 1/16
            of the image's size; the later iterations work at 1/4 alone.
        context_hidden: widths of the context model's layers in the first iteration and in later ones.
    """

    iterations: int = 3
    first_groups: tuple[int, ...] = (5, 11, 24, 56)
    later_groups: tuple[int, ...] = (16, 48, 128)
    quarter_channels: int = 64
    eighth_channels: int = 160
    sixteenth_channels: int = 256
    context_hidden: tuple[int, int] = (96, 64)

    @property
    def symbols(self) -> list[int]:
        """Of each iteration, for each 8x8 pixels."""
        return [sum(self.first_groups), *[sum(self.later_groups)] * (self.iterations - 1)]


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that sees zeros around each photo."""

    def __init__(self, channels: int, out: int, bias: bool = True) -> None:
        super().__init__(channels, out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(only_inside(x))


class ResidualGRU(nn.Module):
    """A convolutional GRU with a shortcut around it: output = input + h'.

        z, r = sigmoid(W_z * x + U_z h), sigmoid(W_r * x + U_r h)
        h' = h + z (tanh(W * x + r (U h)) - h)

    3x3 kernels over the input, 1x1 over the hidden state, and a bias for each iteration, since what
    is left over looks more like noise each time.
    """

    def __init__(self, channels: int, iterations: int) -> None:
        super().__init__()
        self.from_input = Conv3x3(channels, 3 * channels, bias=False)
        self.from_hidden = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(iterations, 3 * channels))

    def forward(self, x: Tensor, hidden: Tensor, number: int) -> tuple[Tensor, Tensor]:
        gates = self.from_input(x) + self.bias[number].to(x.dtype).view(1, -1, 1, 1)
        update, reset, candidate = gates.chunk(3, dim=1)
        hidden_update, hidden_reset, hidden_candidate = self.from_hidden(hidden).chunk(3, dim=1)
        candidate = (candidate + (reset + hidden_reset).sigmoid() * hidden_candidate).tanh()
        hidden = torch.lerp(hidden, candidate, (update + hidden_update).sigmoid())
        return x + hidden, hidden


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv3x3(channels, channels)
        self.second = Conv3x3(channels, channels)
        with torch.no_grad():  # a stack of blocks begins as little more than its shortcuts
            self.second.weight.mul_(0.2)
            cast(Tensor, self.second.bias).zero_()

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.leaky_relu(self.first(x), 0.1))
        return x + change


class PatchConv(nn.Conv2d):
    """A 1x1 convolution of `pixel_unshuffle(x, 2)`: each 2x2 patch of (N, C, H, W) to one position.

    Computed as the 2x2 convolution of stride 2 that it is: in half the time, and with sums in the same
    order for any number of threads, which oneDNN's 1x1 kernel does not keep with over 512 channels.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(4 * channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.view(self.out_channels, -1, 2, 2), self.bias, stride=2)


def interpolate(anchors: Tensor, level: Tensor) -> Tensor:
    """Rows of `anchors` (K, C) at levels (N,), 0 the first row and 1 the last: (N, C, 1, 1).

    Levels beyond them are extrapolated.
    """
    position = level * (len(anchors) - 1)
    below = position.floor().clamp(0, len(anchors) - 2).long()
    share = (position - below).unsqueeze(1).to(anchors.dtype)
    return torch.lerp(anchors[below], anchors[below + 1], share)[:, :, None, None]


class FirstEncoder(nn.Module):
    """Image (N, 3, H, W) to latents (N, symbols, H/8, W/8) and features at 1/4 for the next encoder."""

    # How far an iteration sees beyond a multiple of 16, in pixels: the sum of its kernels' reaches and
    # of the blocks that they end in, rounded up to the next multiple of 16.
    REACH = 96

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.quarter_channels, config.eighth_channels, config.sixteenth_channels
        self.stem = Conv3x3(3 * 16, c4)
        self.quarter = ResidualBlock(c4)
        self.to_eighth = PatchConv(c4, c8)
        self.eighth = ResidualBlock(c8)
        self.to_sixteenth = PatchConv(c8, c16)
        self.sixteenth = ResidualBlock(c16)
        self.from_sixteenth = nn.Conv2d(c16, 4 * c8, 1)
        self.eighth_again = ResidualBlock(c8)
        self.to_symbols = Conv3x3(c8, config.symbols[0])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.quarter(self.stem(F.pixel_unshuffle(images - 0.5, 4)))
        x = self.eighth(self.to_eighth(features))
        x = x + F.pixel_shuffle(self.from_sixteenth(self.sixteenth(self.to_sixteenth(x))), 2)
        return self.to_symbols(self.eighth_again(x)), features


class FirstDecoder(nn.Module):
    """Dequantized symbols (N, symbols, H/8, W/8) to an image (N, 3, H, W) and features at 1/4.

    At 1/4 it sees what the linear transform makes of them, too, with its ripples and edges of blocks. The
    gain's level is known to it, as a bias at 1/8 and at 1/4: it says how coarse the symbols are.
    """

    REACH = 144  # see `FirstEncoder`

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.quarter_channels, config.eighth_channels, config.sixteenth_channels
        self.from_symbols = Conv3x3(config.symbols[0], c8)
        self.level_eighth = nn.Parameter(torch.zeros(GAIN_ANCHORS, c8))
        self.to_sixteenth = PatchConv(c8, c16)
        self.sixteenth = nn.Sequential(ResidualBlock(c16), ResidualBlock(c16))
        self.from_sixteenth = nn.Conv2d(c16, 4 * c8, 1)
        self.eighth = nn.Sequential(ResidualBlock(c8), ResidualBlock(c8))
        self.to_quarter = nn.Conv2d(c8, 4 * c4, 1)
        self.from_linear = Conv3x3(3 * 16, c4)
        self.level_quarter = nn.Parameter(torch.zeros(GAIN_ANCHORS, c4))
        self.quarter = nn.Sequential(ResidualBlock(c4), ResidualBlock(c4))
        self.to_pixels = Conv3x3(c4, 3 * 16)

    def forward(self, values: Tensor, linear: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        x = self.from_symbols(values)
        x = x + interpolate(self.level_eighth, level.clamp(0, 1)).to(x.dtype)
        x = x + F.pixel_shuffle(self.from_sixteenth(self.sixteenth(self.to_sixteenth(x))), 2)
        x = F.pixel_shuffle(self.to_quarter(self.eighth(x)), 2)
        x = x + self.from_linear(F.pixel_unshuffle(linear, 4))
        features = self.quarter(x + interpolate(self.level_quarter, level.clamp(0, 1)).to(x.dtype))
        return F.pixel_shuffle(self.to_pixels(features), 4), features


class LaterEncoder(nn.Module):
    """Residual and reconstruction (N, 6, H, W) to latents (N, symbols, H/8, W/8), all at 1/4."""

    REACH = 32

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.quarter_channels
        self.stem = Conv3x3(6 * 16, channels)
        self.gru = ResidualGRU(channels, config.iterations - 1)
        self.block = ResidualBlock(channels)
        self.to_symbols = PatchConv(channels, sum(config.later_groups))

    def forward(self, x: Tensor, hidden: Tensor, number: int) -> tuple[Tensor, Tensor]:
        x, hidden = self.gru(self.stem(F.pixel_unshuffle(x, 4)), hidden, number)
        return self.to_symbols(self.block(x)), hidden


class LaterDecoder(nn.Module):
    """Dequantized symbols and reconstruction (N, 3, H, W) to the residual (N, 3, H, W), all at 1/4."""

    REACH = 32

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.quarter_channels
        self.from_symbols = nn.Conv2d(sum(config.later_groups), 4 * channels, 1)
        self.level = nn.Parameter(torch.zeros(config.iterations - 1, GAIN_ANCHORS, channels))
        self.from_reconstruction = Conv3x3(3 * 16, channels)
        self.gru = ResidualGRU(channels, config.iterations - 1)
        self.blocks = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.to_pixels = Conv3x3(channels, 3 * 16)

    def forward(
        self, values: Tensor, reconstruction: Tensor, hidden: Tensor, level: Tensor, number: int
    ) -> tuple[Tensor, Tensor]:
        x = F.pixel_shuffle(self.from_symbols(values), 2)
        x = x + self.from_reconstruction(F.pixel_unshuffle(reconstruction, 4))
        x = x + interpolate(self.level[number], level.clamp(0, 1)).to(x.dtype)
        x, hidden = self.gru(x, hidden, number)
        return F.pixel_shuffle(self.to_pixels(self.blocks(x)), 4), hidden


def _log_gains(iteration: int, symbols: int) -> Tensor:
    """(anchors, symbols): at first. Later iterations begin where the one before them ends.

    Those of frequency 0 differ less between levels: errors of brightness are seen at once.
    """
    position = torch.linspace(0, 1, GAIN_ANCHORS)[:, None] - 0.25
    if iteration:
        return (0.9 * position + 2.1 + 1.4 * (iteration - 1)).expand(-1, symbols).clone()
    return position * torch.where(torch.tensor(frequencies(symbols)) == 0, 1.1, 2.0)


def quantize(scaled: Tensor) -> Tensor:
    """To the nearest integer, the symbol; its gradient passes straight through."""
    rounded = scaled.detach().round().clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL)
    return scaled + (rounded - scaled).detach() if scaled.requires_grad else rounded


class ResidualGRUCodec(nn.Module):
    """Full Resolution Image Compression with Recurrent Neural Networks (Toderici et al., CVPR 2017).

        R[0] = I                                                      for i in 1 .. iterations:

        R[i-1], P[i-1] ── encoder ── gain ── round ── B[i] ── 1 / gain ── decoder ── + P[i-1] ── P[i]
          iteration 1:    1/4 1/8 1/16 1/8            1/8                1/8 1/16 1/8 1/4
          later:               1/4                    1/8                    1/4         R[i] = I - P[i]

    What differs from the paper:

    - Rounding to integers with a zero, of which the context model makes bits, in place of a sign.
    - A gain on the symbols, chosen for each photo and iteration by its *level*, about -3/4 to 5/4: within an
      iteration the rate is continuous ("Asymmetric gained deep image compression", Cui et al., 2021).
    - The first iteration has a deep network of its own. The later ones share a small one at 1/4, whose
      GRUs start from the first one's features.
    - Encoder and decoder are sums of a linear transform, JPEG's, and of a network, which adds offsets to the
      symbols and a correction to the pixels. So training starts from what JPEG does.
    - Additive reconstruction with a scale learnt for each iteration and level.
    - Symbols for each 8x8 pixels, not for each 16x16.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.first_encoder = FirstEncoder(config)
        self.first_decoder = FirstDecoder(config)
        self.later_encoder = LaterEncoder(config)
        self.later_decoder = LaterDecoder(config)
        symbols = config.symbols
        self.transforms = nn.ModuleList(BlockTransform(count) for count in symbols[:2])
        self.log_gain = nn.ParameterList(_log_gains(i, count) for i, count in enumerate(symbols))
        self.log_offset = nn.ParameterList(torch.zeros(GAIN_ANCHORS, count) for count in symbols)
        # A correction's unit: about an eighth of what all symbols but those of frequency 0 are steps of.
        self.log_step = nn.ParameterList(-2.0 - _log_gains(i, 2)[:, 1:] for i in range(config.iterations))
        self.context = ContextModel(
            config.first_groups, config.later_groups, config.iterations, config.context_hidden
        )
        with torch.no_grad():  # all begins as the linear transforms alone
            encoders = self.first_encoder.to_symbols, self.later_encoder.to_symbols
            for layer in (*encoders, self.first_decoder.to_pixels, self.later_decoder.to_pixels):
                layer.weight.zero_()
                cast(Tensor, layer.bias).zero_()

    def gain(self, iteration: int, level: Tensor) -> Tensor:
        """What an iteration's latents are multiplied by before rounding (N, symbols, 1, 1).

        In the first no more than makes the largest possible latent the largest symbol.
        """
        gain = interpolate(self.log_gain[iteration], level).exp()
        return gain if iteration else gain.minimum(LARGEST_SYMBOL / self.transform(0).largest)

    def scale(self, latents: Tensor, level: Tensor, iteration: int) -> Tensor:
        """What is rounded to symbols (N, symbols, H/8, W/8), from latents as `encode` gives them."""
        linear, offsets = latents.chunk(2, dim=1)
        return (
            linear * self.gain(iteration, level)
            + offsets * interpolate(self.log_offset[iteration], level).exp()
        )

    def encode(
        self, images: Tensor, reconstruction: Tensor | None, hidden: Tensor | None, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """Latents (N, 2 symbols, H/8, W/8) of R[i-1], for `scale`, and the encoder's new state.

        The linear transform's come first, in units that the gain is for, then the network's, as offsets in
        units of a symbol: so they are as small beside the former as the level is high.

        Args:
            images, reconstruction: I and P[i-1], (N, 3, H, W) in 0 to 1; None in iteration 0.
            hidden: the encoder's state (N, C, H/4, W/4); None in iteration 0.
            iteration: counted from 0.
        """
        if iteration == 0:
            offsets, features = self.first_encoder(images.to(self._dtype()))
            linear = self.transform(iteration)(images - 0.5)
            return torch.cat([linear, offsets.float()], dim=1), features.tanh()
        assert reconstruction is not None
        residual = images - reconstruction
        seen = torch.cat([residual * RESIDUAL_SCALE, reconstruction - 0.5], dim=1).to(self._dtype())
        offsets, hidden = self.later_encoder(seen, hidden, iteration - 1)
        linear = self.transform(iteration)(residual)
        return torch.cat([linear, offsets.float()], dim=1), cast(Tensor, hidden)

    def decode(
        self,
        symbols: Tensor,
        level: Tensor,
        reconstruction: Tensor | None,
        hidden: Tensor | None,
        iteration: int,
    ) -> tuple[Tensor, Tensor]:
        """P[i] (N, 3, H, W) in float32 and the decoder's new state.

        Args:
            symbols: B[i] as integers (N, symbols, H/8, W/8).
            level: of each photo's gain, (N,).
            reconstruction, hidden, iteration: as in `encode`.
        """
        latents = symbols.float() / self.gain(iteration, level)
        values, linear = latents.to(self._dtype()), self.transform(iteration).inverse(latents)
        if iteration == 0:
            correction, hidden = self.first_decoder(values, linear.to(self._dtype()), level)
            base, hidden = torch.full_like(linear, 0.5), hidden.tanh()
        else:
            assert reconstruction is not None
            base, seen = reconstruction, (reconstruction - 0.5).to(self._dtype())
            correction, hidden = self.later_decoder(values, seen, hidden, level, iteration - 1)
        # To planes while it is still in half precision: images are kept as planes.
        correction = correction.contiguous().float() * interpolate(self.log_step[iteration], level).exp()
        return base + linear.contiguous() + correction, cast(Tensor, hidden)

    def stages(self, iteration: int) -> Sequence[nn.Module]:
        """Encoder and decoder of an iteration, which may run in half precision."""
        if iteration == 0:
            return self.first_encoder, self.first_decoder
        return self.later_encoder, self.later_decoder

    def transform(self, iteration: int) -> BlockTransform:
        """The linear part of an iteration."""
        return cast(BlockTransform, self.transforms[min(iteration, 1)])

    def reach(self, iteration: int) -> tuple[int, int]:
        """How far an iteration's encoder and decoder see, in pixels: multiples of 16."""
        if iteration == 0:
            return FirstEncoder.REACH, FirstDecoder.REACH
        return LaterEncoder.REACH, LaterDecoder.REACH

    def _dtype(self) -> torch.dtype:
        return self.first_decoder.to_pixels.weight.dtype
