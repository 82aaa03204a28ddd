import torch

from model.stages import _without_lone


def left(*symbols: tuple[int, int, int, int]) -> int:
    """How many of some symbols are left, (channel, row, column, value), of 9 channels at 12x12 positions."""
    given = torch.zeros(1, 9, 12, 12)
    for channel, row, column, value in symbols:
        given[0, channel, row, column] = value
    return int(_without_lone(given).count_nonzero())


def test_a_symbol_that_stands_alone_is_left_out() -> None:
    assert left((3, 5, 5, 1)) == 0
    assert left((3, 0, 11, -1), (7, 9, 9, -1)) == 0


def test_others_stay() -> None:
    assert left((3, 5, 5, 2)) == 1
    assert left((3, 5, 5, 1), (3, 6, 4, -1)) == 2
    assert left((3, 5, 5, 1), (8, 5, 5, 1)) == 2
