"""FORMAT.md and the code say the same, and go on doing so."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.codec import Codec
from model.coding.context import ContextModel
from model.coding.entropy import decode_iteration, encode_iteration
from model.files import encode_photo
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from model.weights.loading import DEFAULT_WEIGHTS
from tests.model.format import stranger

GROUPS = ((4, 2, 2), (3, 5))
# Streams of `golden_codes` under `golden_context`. What changes them breaks every archive, and needs a new
# version of the format.
GOLDEN = (
    "edad4dd1bde56d750b67803b6418487c936f0025546b36c9ea693cd15cb5659d52075be4d1f67a53214b097df625a114"
    "85658e5dbe4df479fb4a63c4388288a796faab6231fc2c0d46a1f576d7d3b8b32d8a08c567b17d16f399bddd90117fc2"
    "566c96893fc90792cfa6f3899ae412982f5dbba79ecb17175948e79ae94d3ed6957af732a09ee9745eae0ba5c6de18c2"
    "3c6c8c8f8cc3f8f72e4efd8a7a1bbfcd3b372a8e74ebcdf6",
    "fbb24db758610a07023eab7919ff46263c6450265783ffdb9cfd18465753e242def502ceacfa97185a898547a65340b7"
    "09f7b603d1494d89d705eb177289468aef744c2e4e77e8fef7c72829c1307e87003d81403d97dace6985d8a1768e09d7"
    "6efdf1e3733edd132dc635c59dbef6f7f455a8dd273818c39d5ab44f86590e3224f93e1a93dce14cf17d514b8cd71db9"
    "c8a08d26e3b786026bf5f166cb9dd08ee79eae37",
)
LEVEL = torch.tensor([150 / 128])


def golden_context() -> ContextModel:
    """Weights by a formula, not by a random generator that may change."""
    context = ContextModel(*GROUPS, iterations=2, hidden=(8, 8))
    with torch.no_grad():
        for number, parameter in enumerate(context.parameters()):
            index = torch.arange(parameter.numel())
            parameter.copy_(((index * 7919 + number * 104729) % 127 - 63).view_as(parameter) / 512)
    return context.requires_grad_(False)


def golden_codes() -> list[torch.Tensor]:
    index = torch.arange(16 * 6 * 8)
    values = ((index * index * 31 + index * 17) % 101 % 7 - 3).float().view(1, 16, 6, 8)
    return list(values.split(8, dim=1))


def test_streams_stay_what_they_are() -> None:
    context, codes = golden_context(), golden_codes()
    for iteration, previous in enumerate((None, codes[0])):
        (stream,) = encode_iteration(context, iteration, previous, codes[iteration], LEVEL)
        assert stream.hex() == GOLDEN[iteration]
        decoded = decode_iteration(context, iteration, previous, (6, 8), LEVEL, stream)
        assert torch.equal(decoded, codes[iteration])


@pytest.mark.parametrize("size", [(48, 32), (40, 43)])
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
