"""FORMAT.md and the code say the same, and go on doing so."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.codec import Codec
from model.context import ContextModel
from model.entropy import decode_iteration, encode_iteration
from model.files import encode_photo
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from model.weights.loading import DEFAULT_WEIGHTS
from tests.model.format import stranger

GROUPS = ((2, 2), (3, 5))
# Streams of `golden_codes` under `golden_context`. What changes them breaks every archive, and needs a new
# version of the format.
GOLDEN = (
    "3a89c3ae09f078a026113e4ae04b4b5ae0d222769b3edc0d8b0dc473ed118bcc06dfc8914924fb08e373033d20aec08c"
    "c72a7758f74e25b0d75671f8b7fb0d4f7b182fb63fbe5f1550487f24465329033293b4d2",
    "8d005797ad80335bd0cc9cd725aba4ad86cf5cc5a7219419625678bb7012f16cf65299d98fe57f63429feb327e26241e"
    "6e2b12e7432251cd8a3b06a9e88d761a724341485d5212f90c05b45f36278fc6016baab21c96935687b04a7d13714d60"
    "c4dc0af8e206fa24dc689ea53adc5134902a1a174c6a1d0d6328c69938304ba5632d6644296a6fcc2ac2dcc056664d43"
    "98d65f5e56c70d39e29d8d4b7ff51955cfd79710",
)
LEVEL = torch.tensor([150 / 256])


def golden_context() -> ContextModel:
    """Weights by a formula, not by a random generator that may change."""
    context = ContextModel(GROUPS, hidden=8)
    with torch.no_grad():
        for number, parameter in enumerate(context.parameters()):
            index = torch.arange(parameter.numel())
            parameter.copy_(((index * 7919 + number * 104729) % 127 - 63).view_as(parameter) / 512)
    return context.requires_grad_(False)


def golden_codes() -> list[torch.Tensor]:
    index = torch.arange(12 * 6 * 8)
    values = ((index * index * 31 + index * 17) % 101 % 7 - 3).float().view(1, 12, 6, 8)
    return list(values.split([4, 8], dim=1))


def test_streams_stay_what_they_are() -> None:
    context, codes = golden_context(), golden_codes()
    for iteration, earlier in enumerate((None, codes[0])):
        (stream,) = encode_iteration(context, iteration, earlier, codes[iteration], LEVEL)
        assert stream.hex() == GOLDEN[iteration]
        decoded = decode_iteration(context, iteration, earlier, (6, 8), LEVEL, stream)
        assert torch.equal(decoded, codes[iteration])


@pytest.mark.parametrize("size", [(96, 64), (50, 75)])
def test_a_stranger_decodes_the_symbols_and_the_pixels(
    shipped_codec: Codec, astronaut: Image.Image, size: tuple[int, int]
) -> None:
    codec = Codec.load(dtype=torch.float32)
    photo = DecodedPhoto(np.array(astronaut.resize(size)), grey=False, format="PNG")
    for settings in (Settings(iterations=codec.iterations), Settings(target_ms_ssim=0.95)):
        file = encode_photo(codec, photo, settings)
        model = stranger.read_weights(DEFAULT_WEIGHTS)
        symbols = stranger.decode_symbols(file.to_bytes(), *model)
        for ours, theirs in zip(codec.symbols(file), symbols, strict=True):
            assert np.array_equal(ours[0].numpy(), theirs)
        difference = stranger.decode_pixels(file.to_bytes(), *model).astype(int) - codec.decode(file)
        assert np.abs(difference).max() <= 1
