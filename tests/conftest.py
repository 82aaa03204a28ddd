"""What several tests share: real photos that scikit-image ships, and a codec too small to be slow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.codec import Codec
from model.network import CodecConfig, ResidualGRUCodec
from pipeline.cli.samples import sample_folder
from tests.storage import Storage, storage_server
from transforms.storage import gcs

TINY = CodecConfig(
    first_groups=(5, 2, 1),
    later_groups=(4, 6),
    quarter_channels=8,
    eighth_channels=16,
    sixteenth_channels=16,
    context_hidden=(8, 8),
)


def tiny_model() -> ResidualGRUCodec:
    """Untrained, but with a context model that has an opinion, and networks that add something."""
    torch.manual_seed(0)
    model = ResidualGRUCodec(TINY)
    with torch.no_grad():
        for network in (*model.stages(0), *model.stages(1)):
            for name, parameter in network.named_parameters():
                if name in ("to_symbols.weight", "to_pixels.weight"):
                    parameter.normal_(std=0.05)
        for parameter in model.context.parameters():
            parameter.mul_(5)
    return model.eval().requires_grad_(False)


@pytest.fixture
def tiny_codec() -> Codec:
    return Codec(tiny_model(), "rgc-0123456789ab", torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def shipped_codec() -> Codec:
    return Codec.load()


@pytest.fixture
def astronaut() -> Image.Image:
    """A colour photo, 512x512."""
    return Image.open(sample_folder() / "astronaut.png").convert("RGB")


@pytest.fixture
def astronaut_pixels(astronaut: Image.Image) -> NDArray[np.uint8]:
    return np.array(astronaut)


@pytest.fixture
def photo_folder(tmp_path: Path, astronaut: Image.Image) -> Path:
    return small_archive(tmp_path / "photos", astronaut)


def small_archive(folder: Path, astronaut: Image.Image) -> Path:
    """Makes a folder: two good photos, one broken one, and a text file, in two folders."""
    (folder / "trip").mkdir(parents=True)
    small = astronaut.resize((160, 96))
    small.save(folder / "a.jpg", quality=95)
    small.rotate(180).save(folder / "trip" / "b.png")
    (folder / "trip" / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:2000])
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """Google Cloud Storage with an empty bucket, gs://archive, for this test and what it starts."""
    with storage_server() as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        gcs._client.cache_clear()
        yield server
        gcs._client.cache_clear()
