import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.network import ResidualGRUCodec
from model.training import RateControl, Trainer, TrainingConfig, rate_distortion_loss, train
from model.training_data import PhotoSet, crops
from model.weights import DEFAULT_TRAINING, load_weights, model_id, save_weights
from pipeline.samples import sample_folder
from tests.conftest import TINY

CONFIG = TrainingConfig(
    steps=30,
    batch=2,
    crop=64,
    learning_rate=3e-3,
    unroll=((0.2, 1), (1.0, 2)),
    rate_ramp=(0.5, 0.9),
    target_rates=(0.1, 0.1),
    l1_weight=0.3,
)


@pytest.fixture
def photos(tmp_path: Path) -> PhotoSet:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee"):
        Image.open(sample_folder() / f"{name}.png").resize((150, 100)).save(folder / f"{name}.png")
    return PhotoSet([folder])


def trainer(seed: int = 0) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(ResidualGRUCodec(TINY), CONFIG, torch.device("cpu"))


def test_training_lowers_the_loss(photos: PhotoSet, tmp_path: Path) -> None:
    """Measured on crops that stay the same, before and after."""
    subject = trainer()
    images = next(crops(photos, 64, 8, seed=(9,)))

    def loss() -> float:
        with torch.no_grad():
            return rate_distortion_loss(subject.model, images, [0.0, 0.0], 0.0, 0.3)[0].item()

    before = loss()
    steps = list(train(subject, photos, tmp_path / "checkpoint.pt"))
    assert [len(step.figures) for step in steps] == [1] * 6 + [2] * 24
    assert loss() < before - 0.3


def test_every_parameter_is_trained() -> None:
    subject = trainer()
    before = {name: value.clone() for name, value in subject.model.named_parameters()}
    subject.step = CONFIG.steps // 2
    for _ in range(3):
        subject.train_step(torch.rand(2, 3, 64, 64))
    still = {name for name, value in subject.model.named_parameters() if torch.equal(value, before[name])}
    steps_of_the_last_iteration = range(2 * TINY.context_groups, 3 * TINY.context_groups)
    layers = ("neighbours", "logits")
    # Two iterations are unrolled: the third one's own parameters wait. Nothing precedes the first group.
    assert still == {"context.neighbours.0.weight"} | {
        f"context.{layer}.{step}.{kind}"
        for layer in layers
        for step in steps_of_the_last_iteration
        for kind in ("weight", "bias")
    }


def test_a_restored_run_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    images = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    whole = trainer()
    for batch in images:
        whole.train_step(batch)
    first, second = trainer(), trainer(seed=1)
    for batch in images[:2]:
        first.train_step(batch)
    first.save(tmp_path / "checkpoint.pt")
    second.restore(tmp_path / "checkpoint.pt")
    for batch in images[2:]:
        second.train_step(batch)
    assert second.step == whole.step
    for (name, one), other in zip(whole.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_the_rates_pull_acts_on_the_encoder_only_when_asked(photos: PhotoSet) -> None:
    subject = trainer()
    images = next(crops(photos, 64, 2, seed=(1,)))

    def gradients(pull: float) -> tuple[torch.Tensor, torch.Tensor]:
        subject.model.zero_grad()
        rate_distortion_loss(subject.model, images, [100.0, 100.0], pull, 0.3)[0].backward()
        encoder, context = (
            subject.model.encoder.to_bits.weight.grad,
            subject.model.context.logits[0].weight.grad,
        )
        return encoder.clone(), context.clone()

    (encoder_off, context_off), (encoder_on, context_on) = gradients(0.0), gradients(1.0)
    assert not torch.allclose(encoder_off, encoder_on)
    assert torch.allclose(context_off, context_on)


def test_prices_rise_while_an_iteration_costs_too_much() -> None:
    control = RateControl((0.1, 0.1))
    before = control.prices(2)
    assert before[0] > before[1] > 0
    for _ in range(10):
        control.update([0.2, 0.05])
    after = control.prices(2)
    assert after[0] > before[0] and after[1] < before[1]


def test_schedules() -> None:
    assert [CONFIG.iterations_at(step) for step in (0, 5, 6, 29)] == [1, 1, 2, 2]
    assert CONFIG.rate_pull_at(0) == 0 and CONFIG.rate_pull_at(29) == 1
    assert 0 < CONFIG.rate_pull_at(20) < 1
    assert CONFIG.learning_rate_at(0) > CONFIG.learning_rate_at(29) > 0


def test_crops_come_from_folders_and_tar_files_alike(photos: PhotoSet, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "photos", "photos")
    from_tar = PhotoSet([tmp_path / "photos.tar"], memory=0)
    assert len(from_tar) == len(photos) == 2
    assert all(np.array_equal(from_tar[i], photos[i]) for i in range(2))
    one, other = (next(crops(source, 64, 4, seed=(3,))) for source in (photos, photos))
    assert one.shape == (4, 3, 64, 64) and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, other)


def test_photos_smaller_than_a_crop_are_an_error(photos: PhotoSet) -> None:
    with pytest.raises(ValueError, match="smaller than a crop of 500 pixels"):
        next(crops(photos, 500, 2, seed=(0,)))


def test_no_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no photos under {tmp_path}"):
        PhotoSet([tmp_path])


def test_the_shipped_configuration_is_read_and_a_wrong_one_named(tmp_path: Path) -> None:
    config = TrainingConfig.from_toml(DEFAULT_TRAINING)
    assert len(config.target_rates) == config.unroll[-1][1]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("stepz = 3")
    with pytest.raises(ValueError, match=r"wrong\.toml.*stepz"):
        TrainingConfig.from_toml(wrong)


def test_a_weights_file_alone_restores_its_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ResidualGRUCodec(replace(TINY, eighth_channels=24)).eval()
    save_weights(model, tmp_path / "w.safetensors")
    restored = load_weights(tmp_path / "w.safetensors")
    assert restored.config == model.config
    saved = model.half().float().state_dict()
    assert all(torch.equal(saved[name], value) for name, value in restored.state_dict().items())
    assert model_id(tmp_path / "w.safetensors").startswith("rgc-")
