from pathlib import Path

import pytest
from PIL import Image

from pipeline.samples import sample_folder
from tests.runs import rgc


@pytest.fixture(scope="session")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of two runs over a few real photos."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "photos" / "trip").mkdir(parents=True)
    with Image.open(sample_folder() / "astronaut.png") as image:
        small = image.convert("RGB").resize((160, 96))
    small.save(folder / "photos" / "a.jpg", quality=95)
    small.rotate(180).save(folder / "photos" / "trip" / "b.png")
    (folder / "photos" / "trip" / "broken.jpg").write_bytes((folder / "photos" / "a.jpg").read_bytes()[:2000])
    (folder / "photos" / "notes.txt").write_text("not a photo")
    for iterations in ("1", "2"):
        rgc("compress", folder / "photos", folder / "out", "--iterations", iterations)
    return folder / "out"
