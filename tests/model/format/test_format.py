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
    "3a89c3ae09f078a026113e4ae04b4b5ae0d222769b3edc0d8b0dc473ed118bcc06dfc8914924fb08b527033d69211b9b"
    "73583343f9c765e71ee1364920d0e0cda3699994bd9c6337e117c78b279f49939db4f453",
    "38a88ca4898e792ba031cdc5ea1e22c6399412465a2cca30aab7b62147fbcb0312300f234f201e669bbaa1493a360466"
    "1ad63729fefc141e00b03a7ac7647381b8b200ff0db3f068e02e95a43d874f735a5ca7e825c0976c1404da15ef9a39df"
    "22bb0907f9e8a7106e3293431f165ef59d96aa077e619836c4aa26177231d0c739688762efec3e86e0d0df65794005ea"
    "5e806e186f646cfdb469d259f05f4e17e052b1eb",
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
