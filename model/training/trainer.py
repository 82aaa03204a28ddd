"""Training for rate and distortion together, at every iteration's rate at once."""

import math
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from model.codec import native_dtype
from model.ms_ssim import ms_ssim
from model.network import STRIDE, ResidualGRUCodec, Stage
from model.training.data import PhotoSet, crops

SECONDS_BETWEEN_CHECKPOINTS = 300
MUON_LEARNING_RATE_SCALE = 2.0  # over AdamW's; Muon's steps are already scaled to AdamW's size


@dataclass(frozen=True)
class TrainingConfig:
    """One training run, read from a TOML file of the same names.

    Attributes:
        stage: "coarse" or "fine": what is trained; the other stage's weights stay as they are.
        steps, batch, crop: length of the run, crops a step, their side in pixels, a multiple of 16.
        learning_rate: at its peak; it rises over the first 2% of the steps and falls to zero on a cosine.
        unroll: numbers of the stage's iterations, of which each step draws one with equal chances. Few
            are trained faster, and all have the first.
        rate_ramp: shares of the steps at which the rate's pull on the encoder starts and is whole.
            From the first step of a new model it would kill the bits before the decoder uses them.
        target_rates: bits per pixel that each of the model's iterations should cost (`RateControl`).
        l1_weight: weight of L1 beside 1 - MS-SSIM, each relative to its mean.
        seed: of the weights' initial values and the crops.

    Raises:
        ValueError: values that do not go together, with both.
    """

    stage: str
    steps: int
    batch: int
    crop: int
    learning_rate: float
    unroll: tuple[int, ...]
    rate_ramp: tuple[float, float]
    target_rates: tuple[float, ...]
    l1_weight: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stage not in ("coarse", "fine"):
            raise ValueError(f"stage is {self.stage!r}; it is coarse or fine")
        if self.crop % STRIDE or self.crop < 1:
            raise ValueError(f"crop is {self.crop}; it is a multiple of {STRIDE}")
        if not self.unroll or min(self.unroll) < 1:
            raise ValueError(f"unroll is {self.unroll}; it holds one number or more, from 1")
        start, whole = self.rate_ramp
        if not 0 <= start < whole:
            raise ValueError(f"rate_ramp is {self.rate_ramp}; its first share is the smaller")

    @classmethod
    def from_toml(cls, path: Path) -> "TrainingConfig":
        """Raises ValueError naming the file where its keys are not those above, or its values are wrong."""
        try:
            read = tomllib.loads(path.read_text())
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in read.items()}
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def iterations_at(self, step: int) -> int:
        """How many of the stage's iterations a step unrolls: the same whenever it is asked."""
        return int(np.random.default_rng((self.seed, step)).choice(self.unroll))

    def rate_pull_at(self, step: int) -> float:
        start, whole = (share * self.steps for share in self.rate_ramp)
        return min(max((step - start) / (whole - start), 0.0), 1.0)

    def learning_rate_at(self, step: int) -> float:
        warmup = min((step + 1) / (0.02 * self.steps), 1.0)
        return self.learning_rate * warmup * (1 + math.cos(math.pi * step / self.steps)) / 2


class RateControl:
    """Prices of a bit per pixel in each iteration, in nats of distortion, that lead to the target rates.

    They start from the published curves, on which ln D falls by about s(R) = 1.08 / (R + 0.03) for
    each bit per pixel at rate R. A bit of iteration i is part of every later reconstruction's rate,
    so its price is the mean over the iterations j that are trained together of s(R[j]) where j >= i, and
    nothing where j < i. A price then rises while its iteration costs more than its target, and falls
    while less.
    """

    SPEED = 0.02
    LIMITS = (-4.0, 2.0)  # of the correction's logarithm

    def __init__(self, target_rates: tuple[float, ...]) -> None:
        self.target_rates = target_rates
        self.correction = [0.0] * len(target_rates)

    def prices(self, first: int, stop: int) -> list[float]:
        """Of the iterations first .. stop - 1, which are trained together."""
        slopes = [1.08 / (sum(self.target_rates[: i + 1]) + 0.03) for i in range(first, stop)]
        return [
            sum(slopes[i:]) / len(slopes) * math.exp(self.correction[first + i]) for i in range(len(slopes))
        ]

    def update(self, first: int, rates: Iterable[float]) -> None:
        """Takes what the iterations from `first` cost in one step."""
        low, high = self.LIMITS
        for i, rate in enumerate(rates, start=first):
            excess = max(min(rate / self.target_rates[i] - 1, 1.0), -1.0)
            self.correction[i] = max(min(self.correction[i] + self.SPEED * excess, high), low)


class RunningMeans:
    """Means of each iteration's 1 - MS-SSIM and L1 over the last steps, in whose unit a step's count.

    So every rate weighs the same, as with a logarithm; but the logarithm of a small batch's mean would
    give easy photos more weight than the mean over many photos does, which is what is reported.
    """

    DECAY = 0.98

    def __init__(self, iterations: int) -> None:
        self.values: list[list[float]] = [[] for _ in range(iterations)]

    def update(self, iteration: int, values: list[float]) -> list[float]:
        """Takes a step's values; returns the means."""
        old = self.values[iteration] or values
        decay = self.DECAY
        self.values[iteration] = [decay * mean + (1 - decay) * v for mean, v in zip(old, values, strict=True)]
        return self.values[iteration]


@dataclass(frozen=True)
class IterationFigures:
    """Mean bits per pixel of one iteration, and MS-SSIM and L1 (0 to 1) after it, over a batch."""

    bits_per_pixel: float
    ms_ssim: float
    l1: float


@dataclass(frozen=True)
class IterationTerms:
    """What one iteration adds to the loss, scalars with gradients: bits per pixel, 1 - MS-SSIM, L1."""

    rate: Tensor
    error: Tensor
    l1: Tensor

    def figures(self) -> IterationFigures:
        return IterationFigures(self.rate.item(), 1 - self.error.item(), self.l1.item())


def rate_and_distortion(
    model: ResidualGRUCodec, images: Tensor, first: int, stop: int, rate_pull: float
) -> list[IterationTerms]:
    """Of the iterations first .. stop - 1 on a batch of images (N, 3, H, W), means over the batch.

    `rate_pull` scales the gradient of the rate in the encoder, but not in the context model.
    """
    dtype = native_dtype(images.device)
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        codes, reconstructions = model(images, stop, frozen=first)
    codes = [bits.float() for bits in codes]
    pulled = [bits.detach() * (1 - rate_pull) + bits * rate_pull for bits in codes]
    pixels = images[:, 0].numel()
    terms = []
    for i in range(first, stop):
        rate = model.context.cross_entropy(torch.cat(pulled[: i + 1], dim=1), i).sum() / pixels
        error = 1 - ms_ssim(reconstructions[i], images, data_range=1.0).mean()
        terms.append(IterationTerms(rate, error, (reconstructions[i] - images).abs().mean()))
    return terms


class Trainer:
    """Trains one stage of a model. `save` and `restore` keep everything that going on needs."""

    def __init__(self, model: ResidualGRUCodec, config: TrainingConfig, device: torch.device) -> None:
        self.model = model.to(device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.device = device
        self.stage: Stage = getattr(model, config.stage)
        if max(config.unroll) > self.stage.stop - self.stage.first:
            raise ValueError(
                f"unroll is {config.unroll}, the {config.stage} stage's iterations are "
                f"{self.stage.first + 1} to {self.stage.stop}"
            )
        if len(config.target_rates) != model.config.iterations:
            raise ValueError(f"{len(config.target_rates)} target_rates, {model.config.iterations} iterations")
        self.rate_control = RateControl(config.target_rates)
        self.means = RunningMeans(model.config.iterations)
        self.step = 0
        self._matrices = _matrices(self.stage)
        in_matrices = {id(weight) for weight, _ in self._matrices}
        context = model.context.parameters_of(self.stage.first, self.stage.stop)
        self._parameters = [*self.stage.parameters(), *context]
        others = [p for p in self._parameters if id(p) not in in_matrices]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                [matrix for _, matrix in self._matrices], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def train_step(self, images: Tensor) -> tuple[float, list[IterationFigures]]:
        """One step on crops (N, 3, H, W) in 0 to 1; returns the loss and each iteration's figures."""
        self._set_learning_rate(self.config.learning_rate_at(self.step))
        pull, first = self.config.rate_pull_at(self.step), self.stage.first
        stop = first + self.config.iterations_at(self.step)
        images = images.to(self.device, memory_format=torch.channels_last)
        terms = rate_and_distortion(self.model, images, first, stop, pull)
        loss = self._loss(terms)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss} at step {self.step}: lower the learning rate")
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self._parameters, 1.0)
        for weight, matrix in self._matrices:
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        for optimizer in self._optimizers:
            optimizer.step()
        if pull > 0:
            self.rate_control.update(first, (term.rate.item() for term in terms))
        self.step += 1
        return loss.item(), [term.figures() for term in terms]

    def _loss(self, terms: list[IterationTerms]) -> Tensor:
        """Distortion, as a mean over the iterations of 1 - MS-SSIM and L1 over their means, and price."""
        first = self.stage.first
        prices = self.rate_control.prices(first, first + len(terms))
        loss = torch.zeros((), device=self.device)
        for i, (term, price) in enumerate(zip(terms, prices, strict=True), start=first):
            error, l1 = self.means.update(i, [term.error.item(), term.l1.item()])
            distortion = term.error / error + self.config.l1_weight * term.l1 / l1
            loss = loss + distortion / len(terms) + price * term.rate
        return loss

    def _set_learning_rate(self, learning_rate: float) -> None:
        for optimizer in self._optimizers:
            scale = MUON_LEARNING_RATE_SCALE if isinstance(optimizer, torch.optim.Muon) else 1.0
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * scale

    def save(self, path: Path) -> None:
        """Writes a checkpoint: all of it or, if stopped on the way, nothing."""
        state = {
            "config": asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "rate_correction": self.rate_control.correction,
            "means": self.means.values,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            ValueError: it was saved under another configuration, naming what differs; or it was started
                from other weights, by which the stage that is not trained differs.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        ours, theirs = asdict(self.config), state["config"]
        changed = {key: (theirs.get(key), ours[key]) for key in ours if theirs.get(key) != ours[key]}
        if changed.keys() - {"steps"} or state["step"] > self.config.steps:  # a run may be made longer
            raise ValueError(f"{path} was saved under another configuration (there, here): {changed}")
        still = "fine" if self.config.stage == "coarse" else "coarse"
        saved = state["model"]
        ours_still = {name: w for name, w in self.model.state_dict().items() if name.startswith(still)}
        if any(name not in saved or not torch.equal(w, saved[name]) for name, w in ours_still.items()):
            raise ValueError(f"{path} was started from other weights: its {still} stage is another one")
        self.model.load_state_dict(saved)
        for optimizer, optimizer_state in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.rate_control.correction = state["rate_correction"]
        self.means.values = state["means"]
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
        if trainer.step == config.steps or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            trainer.save(checkpoint)
            saved = time.monotonic()
        yield TrainingStep(trainer.step, loss, config.batch * config.crop**2 / seconds / 1e6, figures)


def _as_matrix(weight: Tensor) -> Tensor:
    """A convolution's kernel (out, in, height, width) as (out, height width in), a view if channels-last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _matrices(stage: Stage) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each inner kernel and its storage as a matrix, what Muon takes.

    Muon (Jordan et al., 2024) makes each step's matrix orthogonal: here it takes about two thirds of
    AdamW's steps to the same loss. First and last layers and the context model stay with AdamW, as is usual.
    """
    edges = ("stem", "to_bits", "from_bits", "from_reconstruction", "to_pixels")
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
    for name, layer in stage.named_modules():
        if isinstance(layer, nn.Conv2d) and name.split(".")[1] not in edges:
            matrix = nn.Parameter(_as_matrix(layer.weight.data))
            assert matrix.data_ptr() == layer.weight.data_ptr()
            pairs.append((cast(nn.Parameter, layer.weight), matrix))
    return pairs
