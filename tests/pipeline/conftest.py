from pathlib import Path

import pytest
from PIL import Image

from pipeline.cli.samples import sample_folder
from tests.conftest import small_archive
from tests.runs import rgc


@pytest.fixture(scope="session")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of two runs over a few real photos."""
    folder = tmp_path_factory.mktemp("audited")
    with Image.open(sample_folder() / "astronaut.png") as image:
        photos = small_archive(folder / "photos", image.convert("RGB"))
    for target in ("0.9", "0.95"):
        rgc("compress", photos, folder / "out", "--target-ms-ssim", target)
    return folder / "out"
