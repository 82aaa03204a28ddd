"""The Residual GRU codec network: encoder, binarizer and decoder."""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.context import ContextModel

CODE_STRIDE = 8  # pixels a code position spans on each axis
STRIDE = 16  # image sides must be multiples of this: the coarsest stage works at 1/16
# How far an iteration sees beyond a multiple of 16, in pixels: the sum of its kernels' reaches and of
# the blocks that they end in, rounded up to the next multiple of 16 (44 and 72 before that).
ENCODER_REACH = 48
DECODER_REACH = 80


@dataclass(frozen=True)
class CodecConfig:
    """Widths of a `ResidualGRUCodec`. The defaults are the shipped model's.

    Attributes:
        iterations: the most iterations the model has learnt, each with biases and a gain of its own.
        bits: binary codes for each 8x8 pixels and iteration.
        quarter_channels, eighth_channels, sixteenth_channels: widths of the stages at 1/4, 1/8, 1/16.
        context_groups: steps in which the bits of one iteration are decoded.
        context_hidden: width of the context model in each step.
    """

    iterations: int = 8
    bits: int = 16
    quarter_channels: int = 64
    eighth_channels: int = 160
    sixteenth_channels: int = 224
    context_groups: int = 4
    context_hidden: int = 48


class State(NamedTuple):
    """Hidden states of one network, one (N, C, H, W) tensor a GRU, or None before the first iteration."""

    hidden: tuple[Tensor | None, ...]

    def select(self, photos: Tensor) -> "State":
        """The states of some photos of the batch, by index."""
        return State(tuple(None if h is None else h[photos] for h in self.hidden))


class ResidualGRU(nn.Module):
    """A convolutional GRU with a shortcut around it: output = input + h'.

        z, r = sigmoid(W_z * x + U_z h), sigmoid(W_r * x + U_r h)
        h' = h + z (tanh(W * x + r (U h)) - h)

    3x3 kernels over the input, 1x1 over the hidden state, and a bias for each iteration, since the
    first iteration codes an image and the last one codes what looks like noise.
    """

    def __init__(self, channels: int, iterations: int) -> None:
        super().__init__()
        self.from_input = nn.Conv2d(channels, 3 * channels, 3, padding=1, bias=False)
        self.from_hidden = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(iterations, 3 * channels))

    def forward(self, x: Tensor, hidden: Tensor | None, iteration: int) -> tuple[Tensor, Tensor]:
        gates = self.from_input(x) + self.bias[iteration].to(x.dtype).view(1, -1, 1, 1)
        update, reset, candidate = gates.chunk(3, dim=1)
        if hidden is None:
            hidden = update.sigmoid() * candidate.tanh()
            return x + hidden, hidden
        hidden_update, hidden_reset, hidden_candidate = self.from_hidden(hidden).chunk(3, dim=1)
        candidate = (candidate + (reset + hidden_reset).sigmoid() * hidden_candidate).tanh()
        hidden = torch.lerp(hidden, candidate, (update + hidden_update).sigmoid())
        return x + hidden, hidden


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.leaky_relu(self.first(x), 0.1))
        return x + change


class Encoder(nn.Module):
    """Residual and reconstruction (N, 6, H, W) to what the binarizer signs (N, bits, H/8, W/8)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.quarter_channels, config.eighth_channels, config.sixteenth_channels
        self.stem = nn.Conv2d(6 * 16, c4, 3, padding=1)
        self.to_eighth = nn.Conv2d(4 * c4, c8, 1)
        self.gru_eighth = ResidualGRU(c8, config.iterations)
        self.to_sixteenth = nn.Conv2d(4 * c8, c16, 1)
        self.gru_sixteenth = ResidualGRU(c16, config.iterations)
        self.from_sixteenth = nn.Conv2d(c16, 4 * c8, 1)
        self.to_bits = nn.Conv2d(c8, config.bits, 3, padding=1)

    def forward(self, x: Tensor, state: State, iteration: int) -> tuple[Tensor, State]:
        x = F.leaky_relu(self.stem(F.pixel_unshuffle(x, 4)), 0.1)
        x = self.to_eighth(F.pixel_unshuffle(x, 2))
        x, eighth = self.gru_eighth(x, state.hidden[0], iteration)
        coarse = self.to_sixteenth(F.pixel_unshuffle(x, 2))
        coarse, sixteenth = self.gru_sixteenth(coarse, state.hidden[1], iteration)
        x = x + F.pixel_shuffle(self.from_sixteenth(coarse), 2)
        return self.to_bits(F.leaky_relu(x, 0.1)), State((eighth, sixteenth))


class Decoder(nn.Module):
    """Codes (N, bits, H/8, W/8) and reconstruction (N, 3, H, W) to the residual (N, 3, H, W)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.quarter_channels, config.eighth_channels, config.sixteenth_channels
        self.from_bits = nn.Conv2d(config.bits, c8, 3, padding=1)
        self.to_sixteenth = nn.Conv2d(4 * c8, c16, 1)
        self.gru_sixteenth = ResidualGRU(c16, config.iterations)
        self.from_sixteenth = nn.Conv2d(c16, 4 * c8, 1)
        self.gru_eighth_1 = ResidualGRU(c8, config.iterations)
        self.gru_eighth_2 = ResidualGRU(c8, config.iterations)
        self.to_quarter = nn.Conv2d(c8, 4 * c4, 1)
        self.from_reconstruction = nn.Conv2d(3 * 16, c4, 3, padding=1)
        self.blocks = nn.Sequential(ResidualBlock(c4), ResidualBlock(c4))
        self.to_pixels = nn.Conv2d(c4, 3 * 16, 3, padding=1)

    def forward(
        self, codes: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        x = self.from_bits(codes)
        coarse = self.to_sixteenth(F.pixel_unshuffle(x, 2))
        coarse, sixteenth = self.gru_sixteenth(coarse, state.hidden[0], iteration)
        x = x + F.pixel_shuffle(self.from_sixteenth(coarse), 2)
        x, first = self.gru_eighth_1(x, state.hidden[1], iteration)
        x, second = self.gru_eighth_2(x, state.hidden[2], iteration)
        x = F.pixel_shuffle(self.to_quarter(x), 2)
        x = x + self.from_reconstruction(F.pixel_unshuffle(reconstruction, 4))
        x = self.to_pixels(self.blocks(F.leaky_relu(x, 0.1)))
        return F.pixel_shuffle(x, 4), State((sixteenth, first, second))


def binarize(logits: Tensor) -> Tensor:
    """The sign of each value, as -1 or +1 (zero counts as +1).

    The gradient is that of tanh ("straight through" the step). The paper rounds at random in
    training; a plain sign lets the rate loss push each bit towards its likelier symbol.
    """
    soft = logits.tanh()
    hard = torch.where(logits >= 0, 1.0, -1.0).to(logits.dtype)
    return soft + (hard - soft).detach() if logits.requires_grad else hard


class ResidualGRUCodec(nn.Module):
    """Full Resolution Image Compression with Recurrent Neural Networks (Toderici et al., CVPR 2017).

        R[0] = I,  P[0] = 1/2                       for i in 1 .. iterations:

        g[i] R[i-1], P[i-1] ── encoder ── sign ── B[i] ── decoder ── 1/g[i] ── + P[i-1] ── P[i]
                                 (1/4 1/8 1/16)    (1/8)   (1/16 1/8 1/8 1/4)      R[i] = I - P[i]

    Encoder and decoder keep their GRUs' hidden states from one iteration to the next. What differs
    from the paper:

    - Additive reconstruction with a gain g[i] learnt for each iteration (the paper's residual
      scaling), so that the encoder still sees the small residuals of late iterations.
    - Both networks also see P[i-1], which each side of the channel has.
    - 16 bits for each 8x8 pixels, not 32 for each 16x16: 1/16 is a side branch for context.
    - Each iteration has its own GRU biases; GRU kernels are 3x3 over the input and 1x1 over the
      state; patches (pixel shuffle) take the place of strided convolutions.
    - The binarizer is a plain sign in training too (see `binarize`).
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.context = ContextModel(
            config.iterations, config.bits, config.context_groups, config.context_hidden
        )
        self.log_gain = nn.Parameter(torch.linspace(0.7, 2.1, config.iterations))

    @staticmethod
    def encoder_state() -> State:
        return State((None, None))

    @staticmethod
    def decoder_state() -> State:
        return State((None, None, None))

    @staticmethod
    def first_reconstruction(images: Tensor) -> Tensor:
        """P[0], mid-grey, in the shape of `images`."""
        return torch.full_like(images, 0.5)

    def encode_iteration(
        self, images: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        """B[i] before binarization, from images and P[i-1] (N, 3, H, W) in 0 to 1; i counts from 0."""
        residual = (images - reconstruction) * self.log_gain[iteration].exp()
        seen = torch.cat([residual, reconstruction - 0.5], dim=1).to(self.encoder.stem.weight.dtype)
        return cast(tuple[Tensor, State], self.encoder(seen, state, iteration))

    def decode_iteration(
        self, codes: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        """P[i] from B[i] (N, bits, H/8, W/8) of -1 and +1 and P[i-1]; i counts from 0."""
        seen = (reconstruction - 0.5).to(self.decoder.from_bits.weight.dtype)
        residual, state = self.decoder(codes, seen, state, iteration)
        # To planes while it is still in half precision: images are kept as planes.
        residual = residual.contiguous().to(reconstruction.dtype) * (-self.log_gain[iteration]).exp()
        return reconstruction + residual, state

    def forward(self, images: Tensor, iterations: int) -> tuple[list[Tensor], list[Tensor]]:
        """Codes B[1..n] and reconstructions P[1..n] of images (N, 3, H, W) in 0 to 1, for training."""
        codes, reconstructions = [], []
        reconstruction = self.first_reconstruction(images)
        encoder_state, decoder_state = self.encoder_state(), self.decoder_state()
        for i in range(iterations):
            logits, encoder_state = self.encode_iteration(images, reconstruction, encoder_state, i)
            bits = binarize(logits)
            reconstruction, decoder_state = self.decode_iteration(bits, reconstruction, decoder_state, i)
            codes.append(bits)
            reconstructions.append(reconstruction)
        return codes, reconstructions
