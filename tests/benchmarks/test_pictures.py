"""What the sheets of pictures are made from."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluate.codecs import CODECS
from tests.benchmarks.pictures import ZOOM, Column, Crop, most_and_least_detailed, nearest_quality, sheet


def test_crops_lie_where_there_is_most_and_least_detail() -> None:
    pixels = np.full((400, 640, 3), 90, np.uint8)
    pixels[:, 384:, :] = np.random.default_rng(0).integers(0, 256, (400, 256, 3))
    most, least = most_and_least_detailed(pixels)
    assert most.x == 384 and least.x <= 128 and (most.width, most.height) == (256, 256)
    assert [crop.width for crop in most_and_least_detailed(pixels[:, :100])] == [100, 100]
    assert Crop.parse("1,2,30,40").of(pixels).shape == (40, 30, 3)


@pytest.mark.parametrize("name", ["jpeg", "avif"])
def test_the_other_codecs_take_the_nearest_size(name: str, astronaut_pixels: NDArray[np.uint8]) -> None:
    pixels = astronaut_pixels[:96, :128]
    sizes = {quality: len(CODECS[name].encode(pixels, quality)) for quality in (20, 21, 60)}
    assert len(nearest_quality(name, pixels, sizes[60] + 2)) == sizes[60]
    assert len(nearest_quality(name, pixels, 1)) <= sizes[20]


def test_a_sheet_has_a_column_for_each_version_and_a_row_for_each_crop() -> None:
    pixels = np.full((50, 60, 3), 200, np.uint8)
    columns = [Column("original", pixels), Column("other", pixels // 2)]
    picture = sheet(columns, [Crop(0, 0, 40, 30), Crop(10, 10, 20, 20)])
    assert picture.width == 2 * (40 * ZOOM + 6) and picture.height > 50 * ZOOM
    assert picture.getpixel((5, 40)) == (200, 200, 200)
    assert picture.getpixel((40 * ZOOM + 11, 40)) == (100, 100, 100)
    below = sheet(columns, [Crop(0, 0, 40, 30)], across=1)
    assert below.width == 40 * ZOOM + 6
    assert below.getpixel((5, 40)) == (200, 200, 200)
    assert below.getpixel((5, below.height // 2 + 40)) == (100, 100, 100)
