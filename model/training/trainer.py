"""Training for rate and distortion together, at every rate at once."""

import math
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from model.batches.search import BOTTOM, TOP, position
from model.devices import native_dtype
from model.format.limits import MARGIN, STRIDE
from model.network import ResidualGRUCodec, quantize
from model.training.data import PhotoSet, crops
from model.training.distortion import ms_ssim_to_the_border, ssimulacra2_distance

SECONDS_BETWEEN_CHECKPOINTS = 120
# Learning rates over the configuration's, which is the context model's. Muon's steps are already scaled to
# AdamW's size; at 3e-3 training goes astray in a hundred steps, since nothing bounds the blocks' shortcuts.
MUON_SCALE = 0.7
# By how much more the outermost four pixels count in the squared error: they are known from one side only.
BORDER_EMPHASIS = 3.0


@dataclass(frozen=True)
class TrainingConfig:
    """One training run, read from a TOML file of the same names.

    Attributes:
        iterations: which are trained, (0,) or later ones, counted from 0. Earlier ones run at their
            highest level and stay as they are.
        steps, batch, crop: length of the run, crops a step, their side in pixels, a multiple of 16.
        context_steps: at first only the context model learns: rates that it does not know yet are no price.
        learning_rate: at its peak; it rises over the first 1% of the steps, stays, and falls to zero on
            a cosine over the last `decay` of them.
        prices: of each trained iteration, at the lowest and at the highest level: nats of distortion for
            each bit per pixel; in between they are interpolated by their logarithm.
        weights: of the logarithms of MS-SSIM's, the squared error's, SSIMULACRA2's and the low
            frequencies' errors in the distortion.
        seed: of the weights' initial values and the crops.

    Raises:
        ValueError: values that do not go together, with both.
    """

    iterations: tuple[int, ...]
    steps: int
    context_steps: int
    batch: int
    crop: int
    learning_rate: float
    decay: float
    prices: tuple[tuple[float, float], ...]
    weights: tuple[float, float, float, float]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop % STRIDE or self.crop < 1:
            raise ValueError(f"crop is {self.crop}; it is a multiple of {STRIDE}")
        if not self.iterations or min(self.iterations) < 0:
            raise ValueError(f"iterations is {self.iterations}; it holds one number or more, from 0")
        if len(self.prices) != len(self.iterations):
            raise ValueError(f"{len(self.prices)} pairs of prices, {len(self.iterations)} iterations")

    @classmethod
    def from_toml(cls, path: Path) -> "TrainingConfig":
        """Raises ValueError naming the file where its keys are not those above, or its values are wrong."""
        try:
            read = tomllib.loads(path.read_text())
            values = {key: _as_tuples(value) for key, value in read.items()}
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def networks_learn_at(self, step: float) -> bool:
        return step >= self.context_steps

    def learning_rate_at(self, step: float) -> float:
        warmup = min((step + 1) / (0.01 * self.steps), 1.0)
        left = min((self.steps - step) / max(self.decay * self.steps, 1.0), 1.0)
        return self.learning_rate * warmup * (1 - math.cos(math.pi * left)) / 2


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class StepFigures:
    """What photos came to in one iteration, counted from 0: (N,) each, on the trainer's device.

    Bits per pixel are cross-entropies; for `ssimulacra2_distance` see the function of that name.
    """

    iteration: int
    level: Tensor
    bits_per_pixel: Tensor
    ms_ssim: Tensor
    ssimulacra2_distance: Tensor
    psnr: Tensor


def distortion(
    images: Tensor, reference: Tensor, weights: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each photo by itself, (N,): its errors' weighted logarithms, 1 - MS-SSIM, MSE, SSIMULACRA2's sum.

    A logarithm makes smooth photos count as much as detailed ones: what equal targets mean. The small
    constants are errors that nobody sees.
    """
    structure = 1 - ms_ssim_to_the_border(images, reference)
    squares = (images - reference).square()
    square, inside = (x.sum(dim=(1, 2, 3)) / images[0].numel() for x in (squares, squares[:, :, 4:-4, 4:-4]))
    outermost = square - inside
    perceived = ssimulacra2_distance(images, reference)
    low = (F.avg_pool2d(images, STRIDE) - F.avg_pool2d(reference, STRIDE)).square().mean(dim=(1, 2, 3))
    emphasized = square + BORDER_EMPHASIS * outermost
    errors = structure + 1e-3, emphasized + 1e-5, perceived + 0.1, low + 1e-6
    total = torch.stack([w * error.log() for w, error in zip(weights, errors, strict=True)]).sum(dim=0)
    return total, structure, square, perceived


class Trainer:
    """Trains some iterations of a model. `save` and `restore` keep everything that going on needs."""

    def __init__(self, model: ResidualGRUCodec, config: TrainingConfig, device: torch.device) -> None:
        self.model = model.to(device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.device = device
        if max(config.iterations) >= model.config.iterations:
            raise ValueError(f"iterations is {config.iterations}, the model has {model.config.iterations}")
        self.step = 0
        self.distortion = distortion  # may be replaced by a compiled one
        self.parameters = _trained(model, config.iterations)
        trained = {id(p) for p in self.parameters}
        # What Muon takes, and what AdamW does, in two groups.
        self.matrices = [(w, m) for w, m in _matrices(model) if id(w) in trained]
        self.context = _unique(p for i in config.iterations for p in model.context.parameters_of(i))
        apart = {id(p) for p in (*(weight for weight, _ in self.matrices), *self.context)}
        self.others = [p for p in self.parameters if id(p) not in apart]
        muon = [{"params": [matrix for _, matrix in self.matrices], "scale": MUON_SCALE, "networks": True}]
        adamw = [
            {"params": self.others, "scale": 1.0, "networks": True},
            {"params": self.context, "scale": 1.0, "networks": False},
        ]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(muon, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(adamw, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def train_step(self, images: Tensor) -> tuple[float, StepFigures]:
        """One step on crops (N, 3, H, W) in 0 to 1; returns the loss and each photo's figures."""
        self._set_learning_rate(self.config.learning_rate_at(self.step))
        images = images.to(self.device, memory_format=torch.channels_last)
        iteration, level = self.draw(len(images))
        loss, figures = self.loss(images, level.to(self.device), iteration)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss} at step {self.step}: lower the learning rate")
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self.parameters, 1.0)
        for weight, matrix in self.matrices:
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        return loss.item(), figures

    def draw(self, photos: int) -> tuple[int, Tensor]:
        """This step's iteration, and a level for each photo, (N,)."""
        random = np.random.default_rng((self.config.seed, self.step))
        iteration = int(random.choice(self.config.iterations))
        return iteration, torch.from_numpy(position(random.integers(BOTTOM, TOP + 1, photos)))

    def loss(self, images: Tensor, level: Tensor, iteration: int) -> tuple[Tensor, StepFigures]:
        """What a step makes smaller, and each photo's figures.

        Args:
            images: (N, 3, H, W) in 0 to 1.
            level: of each photo's gain, (N,).
        """
        dtype = native_dtype(self.device)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            rate, reconstruction = self._run(images, level, iteration)
        rate = rate.float()
        total, structure, square, perceived = self.distortion(reconstruction, images, self.config.weights)
        cheap, dear = map(math.log, self.config.prices[self.config.iterations.index(iteration)])
        low, high = position([BOTTOM, TOP])
        price = torch.exp(cheap + (dear - cheap) * (level - low) / (high - low))
        psnr = -10 * torch.log10(square.detach() + 1e-12)
        figures = StepFigures(
            iteration, level, rate.detach(), 1 - structure.detach(), perceived.detach(), psnr
        )
        return (total + price * rate).mean(), figures

    @torch.no_grad()
    def measure(self, images: Tensor, level: float, iteration: int) -> StepFigures:
        """What photos (N, 3, H, W) in 0 to 1 come to at one level, untrained."""
        levels = torch.full((len(images),), level, device=self.device)
        images = images.to(self.device, memory_format=torch.channels_last)
        return self.loss(images, levels, iteration)[1]

    def _run(self, images: Tensor, level: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Bits per pixel (N,) of an iteration, and its reconstruction, both as the codec makes them."""
        pixels = images[0, 0].numel()
        images = F.pad(images, (MARGIN,) * 4, mode="replicate")
        top = torch.full_like(level, position([TOP]).item())
        reconstruction = encoder_state = decoder_state = previous = None
        for i in range(iteration + 1):
            last = i == iteration
            at = level if last else top
            with torch.set_grad_enabled(torch.is_grad_enabled() and last):
                latents, encoder_state = self.model.encode(images, reconstruction, encoder_state, i)
                scaled = self.model.scale(latents, at, i)
                symbols = quantize(scaled)
                reconstruction, decoder_state = self.model.decode(
                    symbols, at, reconstruction, decoder_state, i
                )
                if not last:
                    previous = symbols
        noisy = scaled + torch.rand_like(scaled) - 0.5
        cost = self.model.context.rate(iteration, previous, symbols, noisy, level)
        assert reconstruction is not None
        return cost / pixels, reconstruction[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]

    def _set_learning_rate(self, learning_rate: float) -> None:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                learns = self.config.networks_learn_at(self.step) or not group["networks"]
                group["lr"] = learning_rate * group["scale"] * learns

    def save(self, path: Path) -> None:
        """Writes a checkpoint: all of it or, if stopped on the way, nothing."""
        state = {
            "config": asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            ValueError: it was saved under another configuration, naming what differs; or it was started
                from other weights, by which the iterations that are not trained differ.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        ours, theirs = asdict(self.config), state["config"]
        changed = {key: (theirs.get(key), ours[key]) for key in ours if theirs.get(key) != ours[key]}
        if changed.keys() - {"steps", "decay"} or state["step"] > self.config.steps:  # it may be made longer
            raise ValueError(f"{path} was saved under another configuration (there, here): {changed}")
        saved = state["model"]
        trained = {id(p) for p in self.parameters}
        still = {name: p for name, p in self.model.named_parameters() if id(p) not in trained}
        if any(name not in saved or not torch.equal(p, saved[name]) for name, p in still.items()):
            raise ValueError(f"{path} was started from other weights than those given here")
        self.model.load_state_dict(saved)
        for optimizer, optimizer_state in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.step = state["step"]


@dataclass(frozen=True)
class TrainingStep:
    """One finished step: its loss, crops seen a second in megapixels, the photos' figures."""

    step: int
    loss: float
    megapixels_per_second: float
    figures: StepFigures


def train(trainer: Trainer, sets: Sequence[PhotoSet], checkpoint: Path) -> Iterator[TrainingStep]:
    """Runs `trainer` from where it is to its last step, saving it to `checkpoint` on the way.

    Crops go on from a seed of their own after a restart, so that no photo is favoured.
    """
    config = trainer.config
    torch.set_flush_denormal(True)  # denormal gradients make a processor several times slower
    batches = crops(sets, config.crop, config.batch, seed=(config.seed, trainer.step))
    saved = time.monotonic()
    while trainer.step < config.steps:
        started = time.monotonic()
        loss, figures = trainer.train_step(next(batches))
        seconds = time.monotonic() - started
        if trainer.step == config.steps or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            trainer.save(checkpoint)
            saved = time.monotonic()
        yield TrainingStep(trainer.step, loss, config.batch * config.crop**2 / seconds / 1e6, figures)


def _trained(model: ResidualGRUCodec, iterations: Sequence[int]) -> list[nn.Parameter]:
    """The parameters of some iterations: a later one brings what all later ones share."""
    parameters: list[nn.Parameter] = []
    for i in iterations:
        for module in model.stages(i):
            parameters += module.parameters()
        parameters += [
            model.log_gain[i],
            model.log_offset[i],
            model.log_step[i],
            *model.context.parameters_of(i),
        ]
    return _unique(parameters)


def _unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Later iterations share most of theirs."""
    return list({id(p): p for p in parameters}.values())


def as_matrix(weight: Tensor) -> Tensor:
    """A convolution's kernel (out, in, height, width) as (out, height width in), a view if channels-last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _matrices(model: ResidualGRUCodec) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each kernel of the networks and its storage as a matrix, what Muon takes.

    Muon (Jordan et al., 2024) makes each step's matrix orthogonal: here it takes about two thirds of
    AdamW's steps to the same loss. AdamW's steps have nearly one sign throughout the first and last layers,
    which shows as wrong brightness and colour. The context model stays with AdamW.
    """
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and not name.startswith("context."):
            matrix = nn.Parameter(as_matrix(layer.weight.data))
            assert matrix.data_ptr() == layer.weight.data_ptr()
            pairs.append((cast(nn.Parameter, layer.weight), matrix))
    return pairs
