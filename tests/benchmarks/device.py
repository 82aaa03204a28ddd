"""Training where everything stays on one device: photos, crops, steps. For a GPU that must not wait."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from model.batches.search import BOTTOM, FIRST_ANCHOR, LEVELS_OF_ANCHORS, TOP
from model.network import ResidualGRUCodec
from model.training.data import FLAT, FRAMED, GREY, HALVED
from model.training.trainer import (
    MUON_SCALE,
    StepFigures,
    Trainer,
    TrainingConfig,
    as_matrix,
)

_WARM_UP_STEPS = 3  # before a CUDA graph is captured: optimizers' states and kernels are made in them
_LUMA = (0.299, 0.587, 0.114)


class DevicePhotos:
    """Photos as bytes in a device's memory, and random crops of them.

    Args:
        photos: (H, W, 3) each.
        size: of the crops; smaller photos are left out.

    Raises:
        ValueError: no photo is large enough.
    """

    def __init__(self, photos: Sequence[NDArray[np.uint8]], size: int, device: torch.device) -> None:
        large = [photo for photo in photos if min(photo.shape[:2]) >= size]
        if not large:
            raise ValueError(f"none of {len(photos)} photos holds a crop of {size} pixels")
        self.size = size
        self.device = device
        self.pixels = torch.cat([torch.from_numpy(photo).reshape(-1, 3) for photo in large]).to(device)
        self.heights, self.widths = (
            torch.tensor([photo.shape[axis] for photo in large], device=device) for axis in (0, 1)
        )
        areas = self.heights * self.widths
        self.starts = areas.cumsum(0) - areas

    def crops(self, batch: int) -> Tensor:
        """(batch, 3, size, size) in 0 to 1, channels last, much as `data.crops` makes them."""
        which = torch.randint(len(self.starts), (batch,), device=self.device)
        start, height, width = (x[which] for x in (self.starts, self.heights, self.widths))
        # A crop that is reduced by two steps over every other pixel and takes the mean of four.
        step = 1 + (self._chance(batch, HALVED) & (torch.minimum(height, width) >= 2 * self.size)).long()
        top, left = (
            (torch.rand(batch, device=self.device) * (side - self.size * step + 1)).long()
            for side in (height, width)
        )
        rows, columns = self._turned(batch)
        place = (start + top * width + left)[:, None, None]
        place = place + (rows * width[:, None, None] + columns) * step[:, None, None]
        total = torch.zeros(*place.shape, 3, device=self.device)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            total += self.pixels[place + ((step - 1) * (down * width + right))[:, None, None]]
        return self._changed(total / (4 * 255)).permute(0, 3, 1, 2)

    def _chance(self, batch: int, share: float) -> Tensor:
        return torch.rand(batch, device=self.device) < share

    def _turned(self, batch: int) -> tuple[Tensor, Tensor]:
        """Row and column in the photo of each of a crop's pixels (batch, size, size), mirrored and turned."""
        along = torch.arange(self.size, device=self.device)
        first, second = (
            torch.where(self._chance(batch, 0.5)[:, None], self.size - 1 - along, along) for _ in range(2)
        )
        down = first[:, :, None].expand(-1, -1, self.size)
        across = second[:, None, :].expand(-1, self.size, -1)
        turned = self._chance(batch, 0.5)[:, None, None]
        return torch.where(turned, across, down), torch.where(turned, down, across)

    def _changed(self, crops: Tensor) -> Tensor:
        """Some of (batch, size, size, 3) grey, some with dark frames, some of nearly one colour."""
        batch = len(crops)
        grey = sum(share * crops[..., i : i + 1] for i, share in enumerate(_LUMA))
        crops = torch.where(self._chance(batch, GREY)[:, None, None, None], grey, crops)
        crops = torch.where(
            self._chance(batch, FRAMED)[:, None, None, None], crops * self._frames(batch), crops
        )
        colour = torch.rand(batch, 1, 1, 3, device=self.device)
        saturated = self._chance(batch, 0.5)[:, None, None, None] & (torch.rand_like(colour) < 0.5)
        colour = torch.where(saturated, (torch.rand_like(colour) < 0.5).float(), colour)
        ramp = torch.linspace(0, 24 / 255, self.size, device=self.device)[:, None, None]
        flat = (colour + ramp * self._chance(batch, 0.5)[:, None, None, None]).clamp(0, 1)
        flat = (flat * 255).floor() / 255
        return torch.where(self._chance(batch, FLAT)[:, None, None, None], flat, crops)

    def _frames(self, batch: int) -> Tensor:
        """What lines along the four sides leave of the light (batch, size, size, 1)."""
        along = torch.arange(self.size, device=self.device)
        light = torch.ones(batch, self.size, self.size, device=self.device)
        for distance in (along, self.size - 1 - along):
            for axis in (1, 2):
                width = torch.randint(4, (batch, 1), device=self.device)
                dark = torch.where(distance < width, 0.8 * torch.rand(batch, 1, device=self.device), 1.0)
                light = light * dark.unsqueeze(3 - axis)
        return light.unsqueeze(3)


class BatchedMuon:
    """`torch.optim.Muon` over matrices of equal shape at once, with a learning rate that is a tensor.

    So it costs few kernel launches and can be captured in a CUDA graph. Momentum 0.95, Nesterov, five
    Newton-Schulz steps in bfloat16, steps as large as AdamW's.
    """

    _COEFFICIENTS = (3.4445, -4.775, 2.0315)
    _MOMENTUM = 0.95

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], learning_rate: Tensor) -> None:
        """`pairs`: each kernel, which has the gradient, and its storage as a matrix."""
        self._learning_rate = learning_rate
        self._groups: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for pair in pairs:
            self._groups[pair[1].shape].append(pair)
        self._momenta = {
            shape: torch.zeros(len(group), *shape, device=learning_rate.device)
            for shape, group in self._groups.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        for shape, group in self._groups.items():
            gradients = torch.stack(
                [as_matrix(weight.grad) for weight, _ in group if weight.grad is not None]
            )
            momentum = self._momenta[shape].lerp_(gradients, 1 - self._MOMENTUM)
            update = self._orthogonal(gradients.lerp(momentum, self._MOMENTUM))
            scaled = update * (self._learning_rate * (-0.2 * math.sqrt(max(shape))))
            torch._foreach_add_([matrix for _, matrix in group], list(scaled.unbind()))

    def _orthogonal(self, x: Tensor) -> Tensor:
        tall = x.shape[1] > x.shape[2]
        x = (x.mT if tall else x).bfloat16()
        x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
        a, b, c = self._COEFFICIENTS
        for _ in range(5):
            gram = x @ x.mT
            x = a * x + (b * gram + c * gram @ gram) @ x
        return (x.mT if tall else x).float()


class DeviceTrainer:
    """The steps of a `Trainer`, without a wait for the device between them.

    On a GPU each iteration's step, from the crops to the optimizers, is captured as a CUDA graph.

    Args:
        trainer: whose model is trained; its own optimizers and `train_step` are not used.
        photos: that its crops come from.
        captured: whether steps are captured; on a GPU only.
    """

    def __init__(self, trainer: Trainer, photos: DevicePhotos, captured: bool) -> None:
        self._trainer, self._photos, self._captured = trainer, photos, captured
        device = trainer.device
        rates = (torch.zeros((), device=device) for _ in range(3))
        self._context_rate, self._muon_rate, self._others_rate = rates
        self._muon = BatchedMuon(trainer.matrices, self._muon_rate)
        self._adamw = torch.optim.AdamW(
            [
                {"params": trainer.others, "lr": self._others_rate},
                {"params": trainer.context, "lr": self._context_rate},
            ],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
            capturable=device.type == "cuda",
        )
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, StepFigures]] = {}
        self._steps_of: dict[int, int] = defaultdict(int)

    @property
    def model(self) -> ResidualGRUCodec:
        return self._trainer.model

    @property
    def config(self) -> TrainingConfig:
        return self._trainer.config

    @property
    def steps(self) -> int:
        """Done so far."""
        return self._trainer.step

    def step(self, at: float) -> tuple[Tensor, StepFigures]:
        """One step; the loss and figures stay on the device, and the next step may overwrite them.

        Args:
            at: where in the configuration's steps its learning rates are taken from.
        """
        config = self._trainer.config
        learning_rate = config.learning_rate_at(at)
        of_networks = learning_rate * config.networks_learn_at(at)
        self._context_rate.fill_(learning_rate)
        self._others_rate.fill_(of_networks)
        self._muon_rate.fill_(of_networks * MUON_SCALE)
        iteration, _ = self._trainer.draw(1)
        self._trainer.step += 1
        self._steps_of[iteration] += 1
        if not self._captured:
            return self._step(iteration)
        if self._steps_of[iteration] <= _WARM_UP_STEPS:
            return self._beside(iteration)
        if iteration not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outcome = self._step(iteration)
            self._graphs[iteration] = (graph, *outcome)
        graph, loss, figures = self._graphs[iteration]
        graph.replay()
        return loss, figures

    def _beside(self, iteration: int) -> tuple[Tensor, StepFigures]:
        """A step on a stream of its own, as steps before a capture must be."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outcome = self._step(iteration)
        torch.cuda.current_stream().wait_stream(stream)
        return outcome

    def _step(self, iteration: int) -> tuple[Tensor, StepFigures]:
        trainer = self._trainer
        batch = trainer.config.batch
        images = self._photos.crops(batch)
        level = BOTTOM + (torch.rand(batch, device=trainer.device) * (TOP + 1 - BOTTOM)).floor()
        level = (level - FIRST_ANCHOR) / LEVELS_OF_ANCHORS
        trainer.model.zero_grad()
        loss, figures = trainer.loss(images, level, iteration)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(trainer.parameters, 1.0)
        self._muon.step()
        self._adamw.step()
        return loss.detach(), figures
