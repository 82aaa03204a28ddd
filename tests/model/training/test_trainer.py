import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import training
from model.network import CodecConfig, ResidualGRUCodec
from model.training.data import PhotoSet, crops
from model.training.trainer import (
    RateControl,
    RunningMeans,
    Trainer,
    TrainingConfig,
    rate_and_distortion,
    train,
)
from model.weights.loading import load_weights, model_id, save_weights
from pipeline.cli.samples import sample_folder
from tests.conftest import TINY

CONFIG = TrainingConfig(
    stage="coarse",
    steps=30,
    batch=2,
    crop=64,
    learning_rate=3e-3,
    unroll=(1, 2, 2),
    rate_ramp=(0.5, 0.9),
    target_rates=(0.1, 0.1, 0.2),
    l1_weight=0.3,
)
TOML = """
stage = "coarse"
steps = 30
batch = 2
crop = 64
learning_rate = 3e-3
unroll = [1, 2, 2]
rate_ramp = [0.5, 0.9]
target_rates = [0.1, 0.1, 0.2]
l1_weight = 0.3
"""
FINE = replace(CONFIG, stage="fine", unroll=(1,))


@pytest.fixture
def photos(tmp_path: Path) -> PhotoSet:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee"):
        Image.open(sample_folder() / f"{name}.png").resize((150, 100)).save(folder / f"{name}.png")
    return PhotoSet([folder])


def trainer(seed: int = 0, config: TrainingConfig = CONFIG) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(ResidualGRUCodec(TINY), config, torch.device("cpu"))


@pytest.mark.parametrize("config", [CONFIG, FINE])
def test_training_lowers_the_distortion(photos: PhotoSet, tmp_path: Path, config: TrainingConfig) -> None:
    """Measured on crops that stay the same, before and after."""
    subject = trainer(config=config)
    images = next(crops(photos, 64, 8, seed=(9,)))
    last = subject.stage.stop

    def error() -> float:
        with torch.no_grad():
            return rate_and_distortion(subject.model, images, last - 1, last, 0.0)[0].error.item()

    before = error()
    steps = list(train(subject, photos, tmp_path / "checkpoint.pt"))
    assert len(steps) == 30 and {len(step.figures) for step in steps} == set(config.unroll)
    assert error() < 0.9 * before


@pytest.mark.parametrize("config", [CONFIG, FINE])
def test_every_parameter_of_a_stage_is_trained_and_no_other(config: TrainingConfig) -> None:
    subject = trainer(config=replace(config, unroll=(max(config.unroll),)))
    before = {name: value.clone() for name, value in subject.model.named_parameters()}
    subject.step = CONFIG.steps // 2
    for _ in range(3):
        subject.train_step(torch.rand(2, 3, 64, 64))
    changed = {
        name for name, value in subject.model.named_parameters() if not torch.equal(value, before[name])
    }
    iterations = range(subject.stage.first, subject.stage.stop)
    of_context = [f"context.{layer}.{i}." for layer in ("neighbours", "logits") for i in iterations]
    expected = {name for name in before if name.startswith((f"{config.stage}.", *of_context))}
    # Nothing is known before the first bit, and a stage's first iteration finds no hidden state.
    unused = {"context.neighbours.0.0.weight"}
    if max(config.unroll) == 1:
        unused |= {name for name in expected if "from_hidden" in name}
    assert changed == expected - unused


def test_a_restored_run_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    images = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    config = replace(CONFIG, rate_ramp=(0.0, 0.1))  # so that prices change
    whole = trainer(config=config)
    for batch in images:
        whole.train_step(batch)
    first, second = trainer(config=config), trainer(config=config)
    with torch.no_grad():
        for parameter in second.stage.parameters():
            parameter.zero_()
    for batch in images[:2]:
        first.train_step(batch)
    first.save(tmp_path / "checkpoint.pt")
    second.restore(tmp_path / "checkpoint.pt")
    for batch in images[2:]:
        second.train_step(batch)
    assert second.step == whole.step
    assert any(whole.rate_control.correction)
    assert second.rate_control.correction == pytest.approx(whole.rate_control.correction)
    for (name, one), other in zip(whole.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "checkpoint.pt")
    trainer(config=replace(CONFIG, steps=50)).restore(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt was saved under another.*'crop': \(64, 32\)"):
        trainer(config=replace(CONFIG, crop=32)).restore(tmp_path / "checkpoint.pt")


def test_a_checkpoint_that_started_from_other_weights_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt was started from other weights: its fine stage"):
        trainer(seed=1).restore(tmp_path / "checkpoint.pt")


def test_a_run_is_not_made_shorter_than_it_is(tmp_path: Path) -> None:
    subject = trainer()
    subject.step = 20
    subject.save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"'steps': \(30, 10\)"):
        trainer(config=replace(CONFIG, steps=10)).restore(tmp_path / "checkpoint.pt")


def test_the_rates_pull_acts_on_the_encoder_only_when_asked(photos: PhotoSet) -> None:
    subject = trainer()
    images = next(crops(photos, 64, 2, seed=(1,)))

    def gradients(pull: float) -> tuple[torch.Tensor, torch.Tensor]:
        subject.model.zero_grad()
        sum(terms.rate for terms in rate_and_distortion(subject.model, images, 0, 2, pull)).backward()
        encoder = subject.model.coarse.encoder.to_bits[0].weight.grad
        return encoder if encoder is None else encoder.clone(), subject.model.context.logits[0][
            0
        ].bias.grad.clone()

    (encoder_off, context_off), (encoder_on, context_on) = gradients(0.0), gradients(1.0)
    assert encoder_off is None or not encoder_off.any()
    assert encoder_on.any() and torch.allclose(context_off, context_on)


def test_prices_rise_while_an_iteration_costs_too_much() -> None:
    control = RateControl((0.1, 0.1, 0.2))
    before = control.prices(0, 2)
    assert before[0] > before[1] > 0
    for _ in range(10):
        control.update(0, [0.2, 0.05])
    after = control.prices(0, 2)
    assert after[0] > before[0] and after[1] < before[1]
    assert control.prices(2, 3) == [1.08 / 0.43]


def test_distortions_count_relative_to_their_running_mean() -> None:
    means = RunningMeans(2)
    assert means.update(1, [0.2, 4.0]) == [0.2, 4.0]
    assert means.update(1, [0.4, 4.0]) == pytest.approx([0.204, 4.0])
    assert means.update(0, [0.1, 1.0]) == [0.1, 1.0]


def test_schedules() -> None:
    drawn = [CONFIG.iterations_at(step) for step in range(30)]
    assert drawn == [CONFIG.iterations_at(step) for step in range(30)] and set(drawn) == {1, 2}
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


def test_a_broken_photo_is_named_and_left_out(
    photos: PhotoSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    batch = next(crops(PhotoSet([tmp_path / "photos"]), 64, 16, seed=(0,)))
    assert batch.shape == (16, 3, 64, 64)
    assert 1 <= caplog.text.count("broken.jpg") <= 2  # two threads may come upon it at the same time


CONFIGURATIONS = sorted(Path(training.__file__).parent.glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_shipped_configurations_fit_the_model(path: Path) -> None:
    Trainer(ResidualGRUCodec(CodecConfig()), TrainingConfig.from_toml(path), torch.device("cpu"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stepz = 3", "stepz"),
        ("stage = 'middle'", "stage is 'middle'; it is coarse or fine"),
        ("crop = 100", "crop is 100; it is a multiple of 16"),
        ("unroll = []", "unroll is"),
        ("rate_ramp = [0.5, 0.5]", "rate_ramp is"),
        ("steps 3", "Expected"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, line: str, message: str) -> None:
    wrong = tmp_path / "wrong.toml"
    kept = [other for other in TOML.splitlines() if other.partition("=")[0] != line.partition("=")[0]]
    wrong.write_text("\n".join([*kept, line]))
    with pytest.raises(ValueError, match=rf"wrong\.toml.*{message}"):
        TrainingConfig.from_toml(wrong)


def test_a_configuration_that_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unroll is .*, the fine stage's iterations are 3 to 3"):
        trainer(config=replace(FINE, unroll=(2,)))
    with pytest.raises(ValueError, match="2 target_rates, 3 iterations"):
        trainer(config=replace(CONFIG, target_rates=(0.1, 0.1)))


def test_a_weights_file_alone_restores_its_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ResidualGRUCodec(replace(TINY, eighth_channels=24)).eval()
    save_weights(model, tmp_path / "w.safetensors")
    restored = load_weights(tmp_path / "w.safetensors")
    assert restored.config == model.config
    saved = model.half().float().state_dict()
    assert all(torch.equal(saved[name], value) for name, value in restored.state_dict().items())
    assert model_id(tmp_path / "w.safetensors").startswith("rgc-")
