import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.network import ResidualGRUCodec
from model.training.trainer import Trainer, as_matrix
from tests.benchmarks import device
from tests.benchmarks.device import BatchedMuon, DevicePhotos, DeviceTrainer
from tests.conftest import TINY
from tests.model.training.test_trainer import CONFIG

CPU = torch.device("cpu")


def ramps(height: int, width: int, blue: int) -> NDArray[np.uint8]:
    """Red is the row, green the column: a crop says where it comes from."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, blue)], axis=2).astype(np.uint8)


@pytest.fixture
def nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for share in ("HALVED", "GREY", "FLAT", "FRAMED"):
        monkeypatch.setattr(device, share, 0.0)


@pytest.mark.usefixtures("nothing_changed")
def test_crops_are_whole_pieces_of_photos_turned_and_mirrored() -> None:
    torch.manual_seed(0)
    photos = [ramps(40, 60, 10), ramps(70, 33, 200), ramps(20, 90, 90)]
    crops = (DevicePhotos(photos, 32, CPU).crops(200) * 255).round()
    assert crops.shape == (200, 3, 32, 32)
    blue = crops[:, 2]
    assert set(blue.unique().tolist()) == {10, 200}  # the third is too small
    assert (blue == blue[:, :1, :1]).all()  # no crop is of two photos
    down = crops[:, :2].diff(dim=2).abs().mean(dim=(2, 3)), crops[:, :2].diff(dim=3).abs().mean(dim=(2, 3))
    turned = down[0][:, 0] == 0
    assert 0.2 < turned.float().mean() < 0.8
    assert (down[0][~turned] == torch.tensor([1.0, 0.0])).all()
    assert (down[1][turned] == torch.tensor([1.0, 0.0])).all()
    largest = crops.amax(dim=(2, 3))
    assert largest[blue[:, 0, 0] == 10, 0].max() == 39 and largest[blue[:, 0, 0] == 10, 1].max() > 55


@pytest.mark.usefixtures("nothing_changed")
def test_a_crop_that_is_reduced_is_the_mean_of_four_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "HALVED", 1.0)
    torch.manual_seed(0)
    crops = DevicePhotos([ramps(64, 64, 0)], 32, CPU).crops(4) * 255
    assert crops[:, :2].amax(dim=(1, 2, 3)).tolist() == pytest.approx([62.5] * 4, abs=1e-3)
    assert crops[:, :2].amin(dim=(1, 2, 3)).tolist() == pytest.approx([0.5] * 4, abs=1e-3)


def test_changed_crops_stay_within_range() -> None:
    torch.manual_seed(0)
    crops = DevicePhotos([ramps(70, 70, 255)], 32, CPU).crops(400)
    assert crops.min() >= 0 and crops.max() <= 1
    grey = (crops - crops.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 1 <= grey.sum() < 40


def test_no_photo_that_is_large_enough_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of 1 photos holds a crop of 64 pixels"):
        DevicePhotos([ramps(63, 100, 0)], 64, CPU)


def test_steps_of_batched_muon_are_those_of_torch() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(8, 12, 3) for _ in range(2)] + [torch.nn.Conv2d(4, 24, 1)]
    weights = [layer.weight for layer in layers]
    theirs = [torch.nn.Parameter(as_matrix(weight.detach()).clone()) for weight in weights]
    for layer in layers:
        layer.to(memory_format=torch.channels_last)
    matrices = [torch.nn.Parameter(as_matrix(weight.data)) for weight in weights]
    rate = torch.tensor(0.01)
    ours = BatchedMuon(list(zip(weights, matrices, strict=True)), rate)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    before = [matrix.detach().clone() for matrix in theirs]
    for _ in range(3):
        for weight, matrix in zip(weights, theirs, strict=True):
            weight.grad = torch.randn_like(weight)
            matrix.grad = as_matrix(weight.grad).clone()
        ours.step()
        reference.step()
    for mine, other, start in zip(weights, theirs, before, strict=True):
        moved = (other - start).norm()
        assert moved > 0 and (as_matrix(mine.detach()) - other).norm() < 0.05 * moved  # bfloat16


def test_a_step_without_waits_trains_what_the_usual_one_trains() -> None:
    torch.manual_seed(0)
    usual = Trainer(ResidualGRUCodec(TINY), replace(CONFIG, iterations=(1,)), CPU)
    model = copy.deepcopy(usual.model)
    trainer = Trainer(model, usual.config, CPU)
    subject = DeviceTrainer(trainer, DevicePhotos([ramps(80, 80, 99)], 64, CPU), captured=False)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for usual.step in (8, 9):
        usual.train_step(torch.rand(2, 3, 64, 64))
        loss, figures = subject.step(8.0)
    assert loss.isfinite() and figures.iteration == 1 and trainer.step == 2

    def changed(trained: ResidualGRUCodec) -> set[str]:
        return {name for name, value in trained.named_parameters() if not torch.equal(value, before[name])}

    assert changed(subject.model) == changed(usual.model)


class NothingFromTheHost(TorchDispatchMode):
    """Refuses operations that take tensors of the CPU and of a device together, but for plain numbers."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        of_the_host = [x for x in tensors if x.device.type == "cpu" and x.ndim]
        assert not of_the_host or len(of_the_host) == len(tensors), f"{function} copies from the host"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("iteration", [0, 1])
def test_a_step_neither_waits_for_its_device_nor_copies_to_it(
    monkeypatch: pytest.MonkeyPatch, iteration: int
) -> None:
    """What a CUDA graph demands. On the meta device there is nothing to wait for: reading a value fails."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which meta does not know
    monkeypatch.setattr(torch.optim, "AdamW", MagicMock())  # whose `capturable` is for GPUs alone
    meta = torch.device("meta")
    trainer = Trainer(ResidualGRUCodec(TINY).to(meta), replace(CONFIG, iterations=(iteration,)), meta)
    subject = DeviceTrainer(trainer, DevicePhotos([ramps(80, 80, 99)], 64, meta), captured=False)
    subject.step(8.0)  # makes the constants
    with NothingFromTheHost():
        loss, _ = subject.step(8.0)
    assert loss.is_meta
    with pytest.raises(RuntimeError):
        loss.item()
