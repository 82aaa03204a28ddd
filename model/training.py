"""Training for rate and distortion together, at every iteration's rate at once."""

import math
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from model.context import cross_entropy
from model.ms_ssim import ms_ssim
from model.network import ResidualGRUCodec
from model.training_data import PhotoSet, crops

SECONDS_BETWEEN_CHECKPOINTS = 300
MUON_LEARNING_RATE_SCALE = 2.0  # over AdamW's; Muon's steps are already scaled to AdamW's size


@dataclass(frozen=True)
class TrainingConfig:
    """One training run, read from a TOML file of the same names.

    Attributes:
        steps, batch, crop: length of the run, crops a step, their side in pixels.
        learning_rate: at its peak; it rises over the first 2% of the steps and falls to zero on a cosine.
        unroll: (share of the steps, iterations unrolled up to there) pairs.
        rate_ramp: shares of the steps at which the rate's pull on the encoder starts and is whole.
            From the first step it would kill the bits before the decoder has learnt to use them.
        target_rates: bits per pixel that each iteration should cost; prices follow (`RateControl`).
        l1_weight: weight of ln L1 beside ln (1 - MS-SSIM).
        seed: of the weights' initial values and the crops.
    """

    steps: int
    batch: int
    crop: int
    learning_rate: float
    unroll: tuple[tuple[float, int], ...]
    rate_ramp: tuple[float, float]
    target_rates: tuple[float, ...]
    l1_weight: float
    seed: int = 0

    @classmethod
    def from_toml(cls, path: Path) -> "TrainingConfig":
        """Raises ValueError naming the file where its keys are not those above."""
        values: dict[str, Any] = tomllib.loads(path.read_text())
        tuples = {name: _as_tuple(value) for name, value in values.items()}
        try:
            return cls(**tuples)
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error

    def iterations_at(self, step: int) -> int:
        return next(iterations for share, iterations in self.unroll if step < share * self.steps)

    def rate_pull_at(self, step: int) -> float:
        start, whole = (share * self.steps for share in self.rate_ramp)
        return min(max((step - start) / (whole - start), 0.0), 1.0)

    def learning_rate_at(self, step: int) -> float:
        warmup = min((step + 1) / (0.02 * self.steps), 1.0)
        return self.learning_rate * warmup * (1 + math.cos(math.pi * step / self.steps)) / 2


def _as_tuple(value: Any) -> Any:
    """TOML's arrays as tuples, which a frozen dataclass can hold."""
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


class RateControl:
    """Prices of a bit per pixel in each iteration, in nats of distortion, that lead to the target rates.

    They start from the published curves, on which ln D falls by about s(R) = 1.08 / (R + 0.03) for
    each bit per pixel at rate R. A bit of iteration i is part of every later reconstruction's rate,
    so its price is the mean over iterations j of s(R[j]) where j >= i, and nothing where j < i. A
    price then rises while its iteration costs more than its target, and falls while it costs less.
    """

    SPEED = 0.02
    LIMITS = (-4.0, 2.0)  # of the correction's logarithm

    def __init__(self, target_rates: tuple[float, ...]) -> None:
        self.target_rates = target_rates
        self.correction = [0.0] * len(target_rates)

    def prices(self, iterations: int) -> list[float]:
        cumulative = [sum(self.target_rates[: i + 1]) for i in range(iterations)]
        slopes = [1.08 / (rate + 0.03) for rate in cumulative]
        return [sum(slopes[i:]) / iterations * math.exp(self.correction[i]) for i in range(iterations)]

    def update(self, rates: Iterable[float]) -> None:
        low, high = self.LIMITS
        for i, rate in enumerate(rates):
            excess = max(min(rate / self.target_rates[i] - 1, 1.0), -1.0)
            self.correction[i] = max(min(self.correction[i] + self.SPEED * excess, high), low)


@dataclass(frozen=True)
class IterationFigures:
    """Mean bits per pixel of one iteration, and MS-SSIM and L1 (0 to 1) after it, over a batch."""

    bits_per_pixel: float
    ms_ssim: float
    l1: float


def rate_distortion_loss(
    model: ResidualGRUCodec, images: Tensor, prices: list[float], rate_pull: float, l1_weight: float
) -> tuple[Tensor, list[IterationFigures]]:
    """The loss of one batch of images (N, 3, H, W), unrolled for as many iterations as have prices.

    Mean over iterations of ln (1 - MS-SSIM) + l1_weight ln L1, plus the price of the bits. The
    logarithm weighs every rate equally; a plain mean is ruled by the first iteration. `rate_pull`
    scales the gradient of the bits' price in the encoder, but not in the context model.
    """
    with torch.autocast(images.device.type, torch.bfloat16):
        codes, reconstructions = model(images, len(prices))
    codes = [bits.float() for bits in codes]
    pulled = [bits.detach() * (1 - rate_pull) + bits * rate_pull for bits in codes]
    pixels = images[:, 0].numel()
    loss, figures = images.new_zeros(()), []
    for i, price in enumerate(prices):
        logits = model.context.iteration_logits(pulled, i)
        rate = cross_entropy(pulled[i], logits).sum() / pixels
        error = 1 - ms_ssim(reconstructions[i], images, data_range=1.0).mean()
        l1 = (reconstructions[i] - images).abs().mean()
        loss = loss + price * rate + (error.log() + l1_weight * l1.log()) / len(prices)
        figures.append(IterationFigures(rate.item(), 1 - error.item(), l1.item()))
    return loss, figures


class Trainer:
    """Trains one model. `save` and `restore` keep everything that going on needs."""

    def __init__(self, model: ResidualGRUCodec, config: TrainingConfig, device: torch.device) -> None:
        self.model = model.to(device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.device = device
        self.rate_control = RateControl(config.target_rates)
        self.step = 0
        self._matrices = _matrices(self.model)
        in_matrices = {id(weight) for weight, _ in self._matrices}
        others = [p for p in self.model.parameters() if id(p) not in in_matrices]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                [matrix for _, matrix in self._matrices], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def train_step(self, images: Tensor) -> tuple[float, list[IterationFigures]]:
        """One step on crops (N, 3, H, W) in 0 to 1; returns the loss and each iteration's figures."""
        self._set_learning_rate(self.config.learning_rate_at(self.step))
        loss, figures = rate_distortion_loss(
            self.model,
            images.to(self.device, memory_format=torch.channels_last),
            self.rate_control.prices(self.config.iterations_at(self.step)),
            self.config.rate_pull_at(self.step),
            self.config.l1_weight,
        )
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss} at step {self.step}: lower the learning rate")
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self.model.parameters(), 1.0)
        for weight, matrix in self._matrices:
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        for optimizer in self._optimizers:
            optimizer.step()
        if self.config.rate_pull_at(self.step) > 0:
            self.rate_control.update(figure.bits_per_pixel for figure in figures)
        self.step += 1
        return loss.item(), figures

    def _set_learning_rate(self, learning_rate: float) -> None:
        for optimizer in self._optimizers:
            scale = MUON_LEARNING_RATE_SCALE if isinstance(optimizer, torch.optim.Muon) else 1.0
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * scale

    def save(self, path: Path) -> None:
        """Writes a checkpoint: all of it or, if stopped on the way, nothing."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "rate_correction": self.rate_control.correction,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.rate_control.correction = state["rate_correction"]
        self.step = state["step"]


@dataclass(frozen=True)
class TrainingStep:
    """One finished step: its loss, crops seen a second in megapixels, each iteration's figures."""

    step: int
    loss: float
    megapixels_per_second: float
    figures: list[IterationFigures]


def train(trainer: Trainer, photos: PhotoSet, checkpoint: Path) -> Iterator[TrainingStep]:
    """Runs `trainer` from where it is to its last step, saving it to `checkpoint` on the way.

    Crops go on from a seed of their own after a restart, so that no photo is favoured.
    """
    config = trainer.config
    batches = crops(photos, config.crop, config.batch, seed=(config.seed, trainer.step))
    saved = time.monotonic()
    while trainer.step < config.steps:
        started = time.monotonic()
        loss, figures = trainer.train_step(next(batches))
        seconds = time.monotonic() - started
        yield TrainingStep(trainer.step, loss, config.batch * config.crop**2 / seconds / 1e6, figures)
        if trainer.step == config.steps or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            trainer.save(checkpoint)
            saved = time.monotonic()


def _as_matrix(weight: Tensor) -> Tensor:
    """A convolution's kernel (out, in, height, width) as (out, height width in), a view if channels-last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _matrices(model: ResidualGRUCodec) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each inner kernel and its storage as a matrix, what Muon takes.

    Muon (Jordan et al., 2024) makes each step's matrix orthogonal: here it takes about two thirds of
    AdamW's steps to the same loss. First and last layers and the context model stay with AdamW, as is usual.
    """
    encoder, decoder = model.encoder, model.decoder
    edges = {encoder.stem, encoder.to_bits, decoder.from_bits, decoder.from_reconstruction, decoder.to_pixels}
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
    for network in (encoder, decoder):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d) and layer not in edges:
                matrix = nn.Parameter(_as_matrix(layer.weight.data))
                assert matrix.data_ptr() == layer.weight.data_ptr()
                pairs.append((cast(nn.Parameter, layer.weight), matrix))
    return pairs
