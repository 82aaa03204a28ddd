from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import training
from model.network import CodecConfig, ResidualGRUCodec
from model.training.data import PhotoSet, crops
from model.training.trainer import Trainer, TrainingConfig, train
from model.weights.loading import load_weights, model_id, save_weights
from tests.conftest import TINY

CONFIG = TrainingConfig(
    iterations=(0,),
    steps=16,
    context_steps=2,
    batch=2,
    crop=64,
    learning_rate=3e-3,
    decay=0.3,
    prices=((3.0, 0.5),),
    weights=(0.3, 0.2, 0.4, 0.1),
)
TOML = """
iterations = [0]
steps = 30
context_steps = 2
batch = 2
crop = 64
learning_rate = 3e-3
decay = 0.3
prices = [[3.0, 0.5]]
weights = [0.3, 0.2, 0.4, 0.1]
"""
LATER = replace(CONFIG, iterations=(1, 2), prices=((0.8, 0.3), (0.3, 0.1)))


def trainer(seed: int = 0, config: TrainingConfig = CONFIG) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(ResidualGRUCodec(TINY), config, torch.device("cpu"))


@pytest.mark.parametrize("config", [CONFIG, LATER], ids=["first", "later"])
def test_training_lowers_the_loss(photos: PhotoSet, tmp_path: Path, config: TrainingConfig) -> None:
    """Measured on crops that stay the same, before and after."""
    subject = trainer(config=config)
    images = next(crops([photos], 64, 4, seed=(9,)))

    def loss() -> float:
        with torch.no_grad():
            level = torch.full((4,), 0.5)
            return sum(subject.loss(images, level, i)[0].item() for i in config.iterations)

    before = loss()
    steps = list(train(subject, [photos], tmp_path / "checkpoint.pt"))
    assert len(steps) == 16 and {step.figures.iteration for step in steps} == set(config.iterations)
    assert loss() < before - 0.03


def test_figures_are_those_of_each_photo(photos: PhotoSet) -> None:
    images = next(crops([photos], 64, 3, seed=(1,)))
    figures = trainer().measure(images, 0.5, 0)
    measured = (
        figures.level, figures.bits_per_pixel, figures.ms_ssim, figures.ssimulacra2_distance, figures.psnr,
    )  # fmt: skip
    assert all(values.shape == (3,) and not values.requires_grad for values in measured)
    assert (figures.level == 0.5).all() and (figures.bits_per_pixel > 0).all()


@pytest.mark.parametrize("config", [CONFIG, LATER], ids=["first", "later"])
def test_every_parameter_of_the_trained_iterations_is_trained_and_no_other(config: TrainingConfig) -> None:
    subject = trainer(config=config)
    before = {name: value.clone() for name, value in subject.model.named_parameters()}
    for subject.step in range(10, 14):
        subject.train_step(torch.rand(4, 3, 64, 64))
    changed = {
        name for name, value in subject.model.named_parameters() if not torch.equal(value, before[name])
    }

    def is_trained(name: str) -> bool:
        part, _, rest = name.partition(".")
        if part in ("first_encoder", "first_decoder", "later_encoder", "later_decoder"):
            return part.startswith("first") == (0 in config.iterations)
        if rest in ("mean", "log_scale"):
            return 0 in config.iterations
        if part in ("log_gain", "log_offset", "log_step"):
            return int(rest) in config.iterations
        number = rest.removeprefix("networks.").split(".")[0]  # of the context model: 1 is all later ones'
        return (number == "0") == (0 in config.iterations)

    expected = {name for name in before if is_trained(name)}
    # Images of 8x8 positions have only the first symbol of the largest grids, and a group's first quarter
    # knows nothing of its own group.
    dead = ("context.networks.0.0.", ".0.linear.weight")
    assert changed <= expected
    assert all(name.startswith(dead[0]) or name.endswith(dead[1]) for name in expected - changed)


def test_at_first_the_context_model_learns_alone() -> None:
    subject = trainer(config=replace(CONFIG, context_steps=2))
    before = {name: value.clone() for name, value in subject.model.named_parameters()}
    for _ in range(2):
        subject.train_step(torch.rand(4, 3, 64, 64))
    changed = {
        name for name, value in subject.model.named_parameters() if not torch.equal(value, before[name])
    }
    assert changed and all(name.startswith("context.") for name in changed)


def test_a_restored_run_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    images = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def steps(subject: Trainer, batches: list[torch.Tensor]) -> None:
        for batch in batches:
            torch.manual_seed(subject.step)  # of the noise
            subject.train_step(batch)

    whole, first, second = trainer(), trainer(), trainer()
    steps(whole, images)
    with torch.no_grad():
        for network in second.model.stages(0):
            for parameter in network.parameters():
                parameter.zero_()
    steps(first, images[:2])
    first.save(tmp_path / "checkpoint.pt")
    second.restore(tmp_path / "checkpoint.pt")
    steps(second, images[2:])
    assert second.step == whole.step
    for (name, one), other in zip(whole.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "checkpoint.pt")
    trainer(config=replace(CONFIG, steps=50, decay=0.5)).restore(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt was saved under another.*'crop': \(64, 32\)"):
        trainer(config=replace(CONFIG, crop=32)).restore(tmp_path / "checkpoint.pt")


def test_a_checkpoint_that_started_from_other_weights_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt was started from other weights"):
        trainer(seed=1).restore(tmp_path / "checkpoint.pt")


def test_a_run_is_not_made_shorter_than_it_is(tmp_path: Path) -> None:
    subject = trainer()
    subject.step = 12
    subject.save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"'steps': \(16, 10\)"):
        trainer(config=replace(CONFIG, steps=10)).restore(tmp_path / "checkpoint.pt")


def test_schedules() -> None:
    config = replace(CONFIG, steps=30)
    assert [step for step in range(30) if not config.networks_learn_at(step)] == [0, 1]
    assert config.learning_rate_at(0) == config.learning_rate_at(20) == config.learning_rate
    assert config.learning_rate_at(20) > config.learning_rate_at(29) > 0


def test_draws_are_a_matter_of_seed_and_step() -> None:
    subject = trainer(config=LATER)
    drawn = []
    for subject.step in range(8):
        iteration, level = subject.draw(64)
        assert subject.draw(64)[0] == iteration and torch.equal(subject.draw(64)[1], level)
        assert -0.5 <= level.min() < -0.3 and 0.8 < level.max() <= 1
        drawn.append(iteration)
    assert set(drawn) == {1, 2}


CONFIGURATIONS = sorted(Path(training.__file__).parent.glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_shipped_configurations_fit_the_model(path: Path) -> None:
    config = TrainingConfig.from_toml(path)
    assert max(config.iterations) < CodecConfig().iterations


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stepz = 3", "stepz"),
        ("iterations = []", "iterations is"),
        ("iterations = [-1]", "iterations is"),
        ("crop = 100", "crop is 100; it is a multiple of 16"),
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
    with pytest.raises(ValueError, match=r"iterations is \(3,\), the model has 3"):
        trainer(config=replace(CONFIG, iterations=(3,)))


def test_a_weights_file_alone_restores_its_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ResidualGRUCodec(replace(TINY, eighth_channels=24)).eval()
    save_weights(model, tmp_path / "w.safetensors")
    restored = load_weights(tmp_path / "w.safetensors")
    assert restored.config == model.config
    saved = model.half().float().state_dict()
    assert all(torch.equal(saved[name], value) for name, value in restored.state_dict().items())
    assert model_id(tmp_path / "w.safetensors").startswith("rgc-")
