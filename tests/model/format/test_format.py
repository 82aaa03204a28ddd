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
    "d72117b1664c08ba3f6a78fb102efa7c36069b4ed7451695047a3f0f087b7b899de3dfa1142ec0784aa444f52bfa7407"
    "b879d5e0236177f62ddb047401046eff0663a353e15160fd6893f57987a663d72bb82ef3",
    "38a88ca4898e792ba031cdc5ea1e22c6ce761246d36b7f48caa312ecd8f3095d40b492e58d5bf023b9e3d910d7a3d6ab"
    "bc46c42768ba0f821d11fd876ed497fd8648f599e767cbb5e816c0328ab86d7f4f55e6b12b9970cb4034112d2f6ad46d"
    "2e0779cef0e27abf6fb1823647c62761b023c8aa99fc2e09af1c311acb2c2350dc5acd8c6f10e011f41d5063cd567421"
    "a9720597f326690d512734ff97dcc160902b183b",
)
LEVEL = torch.tensor([150 / 128])


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
