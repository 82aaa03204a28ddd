import torch

from model.batches.stages import _are_lone
from model.codec import Codec
from model.transform import are_colour, frequencies


def left(*symbols: tuple[int, int, int, int]) -> int:
    """How many of some symbols are left, (channel, row, column, value), of 9 channels at 12x12 positions."""
    given = torch.zeros(1, 9, 12, 12)
    for channel, row, column, value in symbols:
        given[0, channel, row, column] = value
    return int((given.abs().bool() & ~_are_lone(given)).sum())


def test_a_symbol_that_stands_alone_is_left_out() -> None:
    assert left((3, 5, 5, 1)) == 0
    assert left((3, 0, 11, -1), (7, 9, 9, -1)) == 0


def test_others_stay() -> None:
    assert left((3, 5, 5, 2)) == 1
    assert left((3, 5, 5, 1), (3, 6, 4, -1)) == 2
    assert left((3, 5, 5, 1), (8, 5, 5, 1)) == 2


def test_colour_of_high_frequency_is_the_photo_s_own(shipped_codec: Codec) -> None:
    """The network alone would make spots of 40 grey levels in a smooth sky."""
    stages, count = shipped_codec._stages, 96
    both = zip(are_colour(count), frequencies(count), strict=True)
    colour = torch.tensor([is_colour and frequency >= 3 for is_colour, frequency in both])
    level = stages.level_tensor([83])
    latents = torch.zeros(1, 2 * count, 12, 12)
    latents[:, count:] = 9.0  # what the network adds
    symbols = stages.quantized(latents, 0, level)[0]
    assert not symbols[colour].any() and symbols[~colour].all()
    latents[:, :count] = 0.3 / stages.model.gain(0, level)
    assert stages.quantized(latents, 0, level)[0].all()
