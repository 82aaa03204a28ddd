"""The Residual GRU codec network: encoders, binarizer and decoders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.context import ContextModel

CODE_STRIDE = 8  # pixels a code position spans on each axis
STRIDE = 16  # image sides must be multiples of this: the coarsest layers work at 1/16


@dataclass(frozen=True)
class CodecConfig:
    """Widths of a `ResidualGRUCodec`. The defaults are the shipped model's.

    Attributes:
        coarse_iterations, fine_iterations: how many each of the two stages makes.
        coarse_bits, fine_bits: binary codes for each 8x8 pixels and iteration.
        quarter_channels, eighth_channels, sixteenth_channels: widths of the coarse stage's layers at
            1/4, 1/8, 1/16 of the image's size.
        fine_channels: width of the fine stage's layers, all at 1/4.
        context_groups: that each iteration's bits are coded in, one after the other.
        context_hidden: width of the context model in each step.
    """

    coarse_iterations: int = 3
    fine_iterations: int = 5
    coarse_bits: int = 16
    fine_bits: int = 32
    quarter_channels: int = 64
    eighth_channels: int = 160
    sixteenth_channels: int = 224
    fine_channels: int = 64
    context_groups: int = 4
    context_hidden: int = 48

    @property
    def iterations(self) -> int:
        """The most iterations the model has learnt."""
        return self.coarse_iterations + self.fine_iterations

    @property
    def bits(self) -> list[int]:
        """Of each iteration, for each 8x8 pixels."""
        return [self.coarse_bits] * self.coarse_iterations + [self.fine_bits] * self.fine_iterations


class State(NamedTuple):
    """Hidden states of one network, one (N, C, H, W) tensor a GRU, or None before its first iteration."""

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


class PatchConv(nn.Conv2d):
    """A 1x1 convolution of `pixel_unshuffle(x, 2)`: each 2x2 patch of (N, C, H, W) to one position.

    Computed as the 2x2 convolution of stride 2 that it is: in half the time, and with sums in the same
    order for any number of threads, which oneDNN's 1x1 kernel does not keep with over 512 channels.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(4 * channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.view(self.out_channels, -1, 2, 2), self.bias, stride=2)


def _each(iterations: int, layer: Callable[[], nn.Module]) -> nn.ModuleList:
    """A layer of its own for each iteration: what is worth coding differs from one to the next."""
    return nn.ModuleList(layer() for _ in range(iterations))


class CoarseEncoder(nn.Module):
    """Residual and reconstruction (N, 6, H, W) to what the binarizer signs (N, bits, H/8, W/8)."""

    GRUS = 2
    # How far an iteration sees beyond a multiple of 16, in pixels: the sum of its kernels' reaches and
    # of the blocks that they end in, rounded up to the next multiple of 16 (from 44).
    REACH = 48

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.quarter_channels, config.eighth_channels, config.sixteenth_channels
        iterations = config.coarse_iterations
        self.stem = _each(iterations, lambda: nn.Conv2d(6 * 16, c4, 3, padding=1))
        self.to_eighth = PatchConv(c4, c8)
        self.gru_eighth = ResidualGRU(c8, iterations)
        self.to_sixteenth = PatchConv(c8, c16)
        self.gru_sixteenth = ResidualGRU(c16, iterations)
        self.from_sixteenth = nn.Conv2d(c16, 4 * c8, 1)
        self.to_bits = _each(iterations, lambda: nn.Conv2d(c8, config.coarse_bits, 3, padding=1))

    def forward(self, x: Tensor, state: State, iteration: int) -> tuple[Tensor, State]:
        x = F.leaky_relu(self.stem[iteration](F.pixel_unshuffle(x, 4)), 0.1)
        x = self.to_eighth(x)
        x, eighth = self.gru_eighth(x, state.hidden[0], iteration)
        coarse = self.to_sixteenth(x)
        coarse, sixteenth = self.gru_sixteenth(coarse, state.hidden[1], iteration)
        x = x + F.pixel_shuffle(self.from_sixteenth(coarse), 2)
        return self.to_bits[iteration](F.leaky_relu(x, 0.1)), State((eighth, sixteenth))


class CoarseDecoder(nn.Module):
    """Codes (N, bits, H/8, W/8) and reconstruction (N, 3, H, W) to the residual (N, 3, H, W)."""

    GRUS = 3
    REACH = 80  # from 72, see `CoarseEncoder`

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.quarter_channels, config.eighth_channels, config.sixteenth_channels
        iterations = config.coarse_iterations
        self.from_bits = _each(iterations, lambda: nn.Conv2d(config.coarse_bits, c8, 3, padding=1))
        self.to_sixteenth = PatchConv(c8, c16)
        self.gru_sixteenth = ResidualGRU(c16, iterations)
        self.from_sixteenth = nn.Conv2d(c16, 4 * c8, 1)
        self.gru_eighth_1 = ResidualGRU(c8, iterations)
        self.gru_eighth_2 = ResidualGRU(c8, iterations)
        self.to_quarter = nn.Conv2d(c8, 4 * c4, 1)
        self.from_reconstruction = nn.Conv2d(3 * 16, c4, 3, padding=1)
        self.blocks = nn.Sequential(ResidualBlock(c4), ResidualBlock(c4))
        self.to_pixels = _each(iterations, lambda: nn.Conv2d(c4, 3 * 16, 3, padding=1))

    def forward(
        self, codes: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        x = self.from_bits[iteration](codes)
        coarse = self.to_sixteenth(x)
        coarse, sixteenth = self.gru_sixteenth(coarse, state.hidden[0], iteration)
        x = x + F.pixel_shuffle(self.from_sixteenth(coarse), 2)
        x, first = self.gru_eighth_1(x, state.hidden[1], iteration)
        x, second = self.gru_eighth_2(x, state.hidden[2], iteration)
        x = F.pixel_shuffle(self.to_quarter(x), 2)
        x = x + self.from_reconstruction(F.pixel_unshuffle(reconstruction, 4))
        x = self.to_pixels[iteration](self.blocks(F.leaky_relu(x, 0.1)))
        return F.pixel_shuffle(x, 4), State((sixteenth, first, second))


class FineEncoder(nn.Module):
    """As `CoarseEncoder`, all at 1/4; its codes there are channels of the code positions at 1/8."""

    GRUS = 1
    REACH = 16  # from 12

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels, iterations = config.fine_channels, config.fine_iterations
        self.stem = nn.Conv2d(6 * 16, channels, 3, padding=1)
        self.gru = ResidualGRU(channels, iterations)
        self.to_bits = _each(iterations, lambda: nn.Conv2d(channels, config.fine_bits // 4, 3, padding=1))

    def forward(self, x: Tensor, state: State, iteration: int) -> tuple[Tensor, State]:
        x = F.leaky_relu(self.stem(F.pixel_unshuffle(x, 4)), 0.1)
        x, hidden = self.gru(x, state.hidden[0], iteration)
        logits = self.to_bits[iteration](F.leaky_relu(x, 0.1))
        return F.pixel_unshuffle(logits, 2), State((hidden,))


class FineDecoder(nn.Module):
    """As `CoarseDecoder`, all at 1/4."""

    GRUS = 1
    REACH = 32  # from 28

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels, iterations = config.fine_channels, config.fine_iterations
        self.from_bits = _each(iterations, lambda: nn.Conv2d(config.fine_bits // 4, channels, 3, padding=1))
        self.from_reconstruction = nn.Conv2d(3 * 16, channels, 3, padding=1)
        self.gru = ResidualGRU(channels, iterations)
        self.blocks = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.to_pixels = nn.Conv2d(channels, 3 * 16, 3, padding=1)

    def forward(
        self, codes: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        x = self.from_bits[iteration](F.pixel_shuffle(codes, 2))
        x = x + self.from_reconstruction(F.pixel_unshuffle(reconstruction, 4))
        x, hidden = self.gru(F.leaky_relu(x, 0.1), state.hidden[0], iteration)
        return F.pixel_shuffle(self.to_pixels(self.blocks(x)), 4), State((hidden,))


class Stage(nn.Module):
    """An encoder and a decoder that make some consecutive iterations together.

    Attributes:
        first, stop: its iterations are first .. stop - 1.
        log_gain: logarithm of the gain g of each of its iterations.
    """

    def __init__(
        self,
        encoder: CoarseEncoder | FineEncoder,
        decoder: CoarseDecoder | FineDecoder,
        first: int,
        log_gain: Tensor,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.first = first
        self.stop = first + len(log_gain)
        self.log_gain = nn.Parameter(log_gain)

    def encoder_state(self) -> State:
        """Before the stage's first iteration."""
        return State((None,) * self.encoder.GRUS)

    def decoder_state(self) -> State:
        """Before the stage's first iteration."""
        return State((None,) * self.decoder.GRUS)

    def encode(
        self, images: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        """B[i] before binarization, from images and P[i-1] (N, 3, H, W) in 0 to 1; i counts from 0."""
        number = iteration - self.first
        residual = (images - reconstruction) * self.log_gain[number].exp()
        seen = torch.cat([residual, reconstruction - 0.5], dim=1).to(self._dtype())
        logits, state = self.encoder(seen, state, number)
        return logits, state

    def decode(
        self, codes: Tensor, reconstruction: Tensor, state: State, iteration: int
    ) -> tuple[Tensor, State]:
        """P[i] from B[i] (N, bits, H/8, W/8) of -1 and +1 and P[i-1]; i counts from 0."""
        number, dtype = iteration - self.first, self._dtype()
        residual, state = self.decoder(codes.to(dtype), (reconstruction - 0.5).to(dtype), state, number)
        # To planes while it is still in half precision: images are kept as planes.
        residual = residual.contiguous().to(reconstruction.dtype) * (-self.log_gain[number]).exp()
        return reconstruction + residual, state

    def _dtype(self) -> torch.dtype:
        return self.decoder.from_reconstruction.weight.dtype


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
              coarse stage:    1/4 1/8 1/16       1/8     1/16 1/8 1/8 1/4        R[i] = I - P[i]
              fine stage:          1/4            1/4           1/4

    Encoder and decoder keep their GRUs' hidden states from one iteration to the next. What differs
    from the paper:

    - Two stages: the first iterations code structure, with layers down to 1/16; the later ones code
      texture, with a small network of their own that stays at 1/4 and starts from P alone.
    - Additive reconstruction with a gain g[i] learnt for each iteration (the paper's residual
      scaling), so that the encoder still sees the small residuals of late iterations.
    - Both networks also see P[i-1], which each side of the channel has.
    - 16 bits for each 8x8 pixels (and 8 for each 4x4 in the fine stage), not 32 for each 16x16.
    - Each iteration has its own GRU biases, and its own layers next to the bits and the pixels; GRU
      kernels are 3x3 over the input and 1x1 over the state; patches (pixel shuffle) take the place of
      strided convolutions.
    - The binarizer is a plain sign in training too (see `binarize`).
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        coarse, fine = config.coarse_iterations, config.fine_iterations
        self.coarse = Stage(CoarseEncoder(config), CoarseDecoder(config), 0, torch.linspace(0.7, 1.3, coarse))
        self.fine = Stage(FineEncoder(config), FineDecoder(config), coarse, torch.linspace(1.6, 2.3, fine))
        self.context = ContextModel(config.bits, config.context_groups, config.context_hidden)

    def stage(self, iteration: int) -> Stage:
        """The stage that makes an iteration, counted from 0."""
        return self.coarse if iteration < self.coarse.stop else self.fine

    @staticmethod
    def first_reconstruction(images: Tensor) -> Tensor:
        """P[0], mid-grey, in the shape of `images`."""
        return torch.full_like(images, 0.5)

    def forward(self, images: Tensor, iterations: int, frozen: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """Codes B[1..n] and reconstructions P[1..n] of images (N, 3, H, W) in 0 to 1, for training.

        No gradient is kept of the first `frozen` iterations.
        """
        codes, reconstructions = [], []
        reconstruction = self.first_reconstruction(images)
        for i in range(iterations):
            stage = self.stage(i)
            if i == stage.first:
                encoder_state, decoder_state = stage.encoder_state(), stage.decoder_state()
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= frozen):
                logits, encoder_state = stage.encode(images, reconstruction, encoder_state, i)
                bits = binarize(logits)
                reconstruction, decoder_state = stage.decode(bits, reconstruction, decoder_state, i)
            codes.append(bits)
            reconstructions.append(reconstruction)
        return codes, reconstructions
