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

BITS = (4, 8)
# Streams of `golden_codes` under `golden_context`. What changes them breaks every archive, and needs a new
# version of the format.
GOLDEN = (
    "64b3a1aaa2772cf6b051b60f8b1f0a6f9ba9f5a22144bffd53f218b398626d9af468e2a88164ebd0",
    "3b1e96a16909bc5b63a9ea7263fbac2ee8e605bdc8a3cc5b108631c1a21500008fbea349fbda34551e5a635cf00d71ff"
    "61f6b24a8d7fe49061506720535b04f60dc7c04e89f2097660334d19742555853ee305247d49755a21a36511eaac5aab5fb32572",
)


def golden_context() -> ContextModel:
    """Weights by a formula, not by a random generator that may change."""
    context = ContextModel(BITS, groups=2, hidden=8)
    with torch.no_grad():
        for number, parameter in enumerate(context.parameters()):
            index = torch.arange(parameter.numel())
            parameter.copy_(((index * 7919 + number * 104729) % 127 - 63).view_as(parameter) / 64)
    return context.requires_grad_(False)


def golden_codes() -> torch.Tensor:
    index = torch.arange(sum(BITS) * 6 * 8)
    return (((index * index * 31 + index * 17) % 101 < 30).to(torch.int8) * 2 - 1).view(1, sum(BITS), 6, 8)


def test_streams_stay_what_they_are() -> None:
    context, codes = golden_context(), golden_codes()
    for iteration, (start, stop) in enumerate(((0, 4), (4, 12))):
        (stream,) = encode_iteration(context, codes[:, :stop], iteration)
        assert stream.hex() == GOLDEN[iteration]
        decoded = decode_iteration(context, codes[:, :start], iteration, stream)
        assert torch.equal(decoded, codes[:, start:stop])


@pytest.mark.parametrize("size", [(96, 64), (50, 75)])
def test_a_stranger_decodes_the_bits_and_the_pixels(astronaut: Image.Image, size: tuple[int, int]) -> None:
    codec = Codec.load(dtype=torch.float32)
    photo = DecodedPhoto(np.array(astronaut.resize(size)), grey=False, format="PNG")
    file = encode_photo(codec, photo, Settings(iterations=codec.iterations))
    model = stranger.read_weights(DEFAULT_WEIGHTS)
    bits = stranger.decode_bits(file.to_bytes(), *model)
    codes = torch.empty(1, 0, *bits.shape[1:], dtype=torch.int8)
    for iteration, stream in enumerate(file.codes):
        codes = torch.cat([codes, decode_iteration(codec.model.context, codes, iteration, stream)], dim=1)
    assert np.array_equal(codes[0].numpy(), bits)
    difference = stranger.decode_pixels(file.to_bytes(), *model).astype(int) - codec.decode(file)
    assert np.abs(difference).max() <= 1
