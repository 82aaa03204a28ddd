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

GROUPS = ((2, 6), (3, 5))
# Streams of `golden_codes` under `golden_context`. What changes them breaks every archive, and needs a new
# version of the format.
GOLDEN = (
    "d72117b1664c08ba3f6a78fb102efa7c36069b4ed7451695047a3f0f087b7b899de3dfa1152ec078d6e4db075311c36c"
    "4cc37a774613551228d278a976ebc3b6138933e81d76b5b5f0485edc01708295230b22f8124a3f89e63e425f7a295cc2"
    "b13951a19fe82b1aa70c38591a3a1a5354e53e0ab58e003ae37425644b58650b54b5395b89144f5fdf9c34476e872bde"
    "6a8a74e5b2a78b3e581e062394cfc4371b0a573a",
    "424976c0cf957d746c4d002f5dc14f5dcba9f0bb9cf8458c51aa367452f2171f48d9b9c8636746e13d11e188bda8a024"
    "909ca77373d239a4f41b98a3e1630f28eb6764f690f0771a75bba90333cb5fb26d9de6cf8c3f94f497dcdfbc41ab320d"
    "79194c10ce66a4dffb3d2cb5a49ae9c450f6215ede996f31d8f8f6115c4eb25ff65001eec28d1f032361090b805cc73a"
    "6c79cfd32736bc105e58be6b2196f429287d8982d807e29e",
)
LEVEL = torch.tensor([150 / 128])


def golden_context() -> ContextModel:
    """Weights by a formula, not by a random generator that may change."""
    context = ContextModel(*GROUPS, iterations=2, hidden=8)
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
