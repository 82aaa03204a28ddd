import numpy as np
import pytest

from model.border import border_errors


def test_border_and_inside_apart() -> None:
    pixels = np.full((30, 40, 3), 100, np.uint8)
    decoded = pixels + 2
    decoded[:4], decoded[-4:], decoded[:, :4], decoded[:, -4:] = 90, 90, 90, 90
    assert border_errors(decoded, pixels) == (10, 2)
    assert border_errors(decoded[:, :, 0], pixels) == (10, 2)


@pytest.mark.parametrize("size", [(1, 1), (8, 50), (5, 5)])
def test_small_photos_are_all_border(size: tuple[int, int]) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    assert border_errors(pixels + 3, pixels) == (3, 3)
