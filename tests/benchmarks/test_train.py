"""The GPU's training command, on the CPU at a tiny size."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from model.network import ResidualGRUCodec
from model.weights.loading import load_weights, save_weights
from tests.benchmarks import train
from tests.conftest import TINY, tiny_model

CONFIG = """
iterations = [0]
steps = 100
context_steps = 0
batch = 1
crop = 16
learning_rate = 1e-3
decay = 0.3
prices = [[3.0, 0.5]]
weights = [0.3, 0.2, 0.4, 0.1]
"""


@pytest.fixture
def tars(tmp_path: Path, astronaut: Image.Image) -> list[Path]:
    astronaut.resize((80, 70)).save(tmp_path / "a.png")
    paths = [tmp_path / "one.tar", tmp_path / "other.tar"]
    for path, count in zip(paths, (2, 9), strict=True):
        with tarfile.open(path, "w") as archive:
            for number in range(count):
                archive.add(tmp_path / "a.png", f"{path.stem}-{number}.png")
    return paths


def main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    train.main()


def test_a_tar_file_of_bounded_size_is_cut_from_several(tars: list[Path], tmp_path: Path) -> None:
    size = (tmp_path / "a.png").stat().st_size
    assert train.make_tar(tmp_path / "training" / "cut.tar", tars, limit=6 * (size + 1024) + 20480) == 6
    with tarfile.open(tmp_path / "training" / "cut.tar") as archive:
        assert [name.split("-")[0] for name in archive.getnames()] == ["one", "other"] * 2 + ["other"] * 2
    assert (tmp_path / "training" / "cut.tar").stat().st_size <= 6 * (size + 1024) + 20480
    assert len(train.read_photos(tmp_path / "training" / "cut.tar")) == 6


def test_training_saves_weights_in_parts(
    tars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "PART_BYTES", 20_000)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    (tmp_path / "config.toml").write_text(CONFIG)
    main(
        monkeypatch, tars[0], "--config", tmp_path / "config.toml", "--out", tmp_path / "out",
        "--start-from", tmp_path / "tiny.safetensors", "--batch", 2, "--crop", 32, "--steps", 4,
        "--print-every", 2, "--look-every", 1, "--peak", 0.1,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert (
        "2 photos" in printed and "MP/s" in printed and "% of peak" in printed and "iteration 1: " in printed
    )
    assert len(list((tmp_path / "out").iterdir())) > 3
    main(monkeypatch, "--join", tmp_path / "out", tmp_path / "joined.safetensors")
    trained, before = (
        load_weights(tmp_path / "joined.safetensors"),
        load_weights(tmp_path / "tiny.safetensors"),
    )
    assert trained.config == TINY
    changed = [
        name
        for name, value in trained.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    ]
    assert any(name.startswith("first_decoder") for name in changed)
    part = tmp_path / "out" / "weights.part0"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"the parts' checksum is"):
        train.join_parts(tmp_path / "out", tmp_path / "joined.safetensors")


def test_operations_of_a_step_are_three_times_those_of_its_networks() -> None:
    model = ResidualGRUCodec(TINY)
    first, later, _ = train.operations(model)
    assert first.encoder > 0 and first.context > 0 and later.decoder > 0
    assert train.training_flops(model, [0]) == pytest.approx(
        6 * (first.encoder + first.decoder + first.context)
    )
    both = 6 * (later.encoder + later.decoder + later.context) + 2 * (first.encoder + first.decoder)
    assert train.training_flops(model, [1]) == pytest.approx(both)


def test_it_needs_no_more_than_torch_numpy_pillow_and_safetensors() -> None:

    code = "import tests.benchmarks.train, sys; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert not loaded & {"constriction", "apache_beam", "scipy", "matplotlib", "typer", "rich", "pyarrow"}
