"""Every released model decodes its files for good: to the same symbols and nearly the same picture.

python -m tests.model.test_released     writes the golden file of the default model, once, when it is released
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import weights
from model.codec import Codec
from model.files import encode_photo
from model.format.container import RgcFile, read_rgc
from model.photos.reading import decode_image
from model.settings import Settings
from model.weights.loading import DEFAULT_MODEL, model_id, released_weights
from pipeline.cli.samples import sample_folder

GOLDEN = Path(__file__).parent / "golden"
RELEASED = sorted(path.stem for path in Path(weights.__file__).parent.glob("*.safetensors"))


def symbols_of(codec: Codec, file: RgcFile) -> str:
    """A digest of all symbols."""
    symbols = [each.numpy().astype("<i2").tobytes() for each in codec.symbols(file)]
    return hashlib.sha256(b"".join(symbols)).hexdigest()


def test_the_default_is_released() -> None:
    assert DEFAULT_MODEL in RELEASED
    with pytest.raises(ValueError, match=r"none of those that this rgc has: rgc-"):
        released_weights("rgc-000000000000")


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_model_decodes_its_files(name: str) -> None:
    codec = Codec.load(dtype=torch.float32)
    assert model_id(released_weights(name)) == name
    file = read_rgc((GOLDEN / f"{name}.rgc").read_bytes())
    assert file.model_id == name and len(file.codes) == len(file.ms_ssim)
    assert symbols_of(codec, file) == (GOLDEN / f"{name}.txt").read_text().strip()
    picture = np.asarray(Image.open(GOLDEN / f"{name}.png")).astype(int)
    assert np.abs(codec.decode(file) - picture).max() <= 1


def write_golden_file() -> None:
    codec = Codec.load(dtype=torch.float32)
    astronaut = Image.open(sample_folder() / "astronaut.png").convert("RGB")
    photo = decode_image(astronaut.crop((170, 30, 266, 110)))
    file = encode_photo(codec, photo, Settings(iterations=codec.iterations))
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / f"{DEFAULT_MODEL}.rgc").write_bytes(file.to_bytes())
    (GOLDEN / f"{DEFAULT_MODEL}.txt").write_text(symbols_of(codec, file) + "\n")
    Image.fromarray(codec.decode(file)).save(GOLDEN / f"{DEFAULT_MODEL}.png")


if __name__ == "__main__":
    write_golden_file()
