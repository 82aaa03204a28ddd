from pathlib import Path

import pytest
from PIL import Image

from model.training.data import PhotoSet
from pipeline.cli.samples import sample_folder


@pytest.fixture
def photos(tmp_path: Path) -> PhotoSet:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee"):
        Image.open(sample_folder() / f"{name}.png").resize((150, 100)).save(folder / f"{name}.png")
    return PhotoSet(folder)
