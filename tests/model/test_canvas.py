"""Photos of different sizes in one batch."""

import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import canvas
from model.batches import levels
from model.batches.batch import Goal
from model.canvas import LARGEST_MIXED, Extents, groups, only_inside
from model.codec import Codec

SIZES = [(200, 300), (203, 290), (64, 90), (40, 200), (24, 24)]  # of photos, odd ones and hardly any


@pytest.fixture
def photos(astronaut_pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    cut = [astronaut_pixels[90 * n : 90 * n + h, 30 * n : 30 * n + w] for n, (h, w) in enumerate(SIZES)]
    return [*cut, np.full((150, 230, 3), (200, 30, 40), np.uint8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("goal", [Goal(ms_ssim=0.985), Goal(ms_ssim=0.999), Goal(code_bytes=3000)])
def test_codes_do_not_depend_on_photos_of_other_sizes(
    photos: list[NDArray[np.uint8]], goal: Goal, dtype: torch.dtype
) -> None:
    codec = Codec.load(dtype=dtype)
    together = codec.encode(photos, [goal] * len(photos), [False] * len(photos))
    for photo, encoding in zip(photos, together, strict=True):
        (alone,) = codec.encode([photo], [goal], [False])
        assert (encoding.codes, encoding.levels, encoding.ms_ssim) == (
            alone.codes,
            alone.levels,
            alone.ms_ssim,
        ), photo.shape


def test_without_zeros_beside_them_they_would(
    shipped_codec: Codec, photos: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    goals, grey = [Goal(iterations=1)] * len(photos), [False] * len(photos)
    right = shipped_codec.encode(photos, goals, grey)
    monkeypatch.setattr("model.network.only_inside", lambda x: x)
    wrong = shipped_codec.encode(photos, goals, grey)
    assert sum(one.codes != other.codes for one, other in zip(right, wrong, strict=True)) >= 3


def test_tiles_do_not_show_where_sizes_differ(tiny_codec: Codec, photos: list[NDArray[np.uint8]]) -> None:
    goals, grey = [Goal(iterations=2)] * len(photos), [False] * len(photos)
    whole, tiled = (tiny_codec.encode(photos, goals, grey, tile) for tile in (512, 64))
    for one, other in zip(whole, tiled, strict=True):
        sizes = [sum(map(len, encoding.codes)) for encoding in (one, other)]
        assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_zeros_are_seen_beside_each_photo() -> None:
    extents = Extents.of([(32, 48), (48, 32)], torch.device("cpu"))
    assert extents is not None
    with canvas.nothing_beside(extents.inside):
        seen = only_inside(torch.ones(2, 1, 6, 6))
        layer = torch.ones(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
        assert only_inside(layer).is_contiguous(memory_format=torch.channels_last)
    assert seen[0, 0, :4].all() and not seen[0, 0, 4:].any()
    assert seen[1, 0, :, :4].all() and not seen[1, 0, :, 4:].any()
    assert only_inside(torch.ones(2, 1, 6, 6)).all()
    assert Extents.of([(32, 48)] * 3, torch.device("cpu")) is None


def test_a_position_beside_a_photo_takes_the_nearest_value() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    inside = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    inside[..., :2, :3] = True
    assert canvas.spread(x, inside)[0, 0].tolist() == [[0, 1, 2, 2], [4, 5, 6, 6], [4, 5, 6, 6]]
    inside[...] = True
    assert canvas.spread(x, inside, border=1)[0, 0].tolist() == [[5, 5, 6, 6]] * 3


def test_photos_of_similar_sizes_are_grouped_where_a_device_wants_it() -> None:
    random = np.random.default_rng(0)
    sizes = [(16 * int(h), 16 * int(w)) for h, w in random.integers(10, 40, (60, 2))]
    mixed, alike = groups(sizes, mixed=True), groups(sizes, mixed=False)
    for together in (mixed, alike):
        assert sorted(n for group in together for n in group) == list(range(60))
    assert all(len({sizes[n] for n in group}) == 1 for group in alike)
    assert len(mixed) < len(alike) / 2
    for group in mixed:
        height, width = (max(sizes[n][axis] for n in group) for axis in (0, 1))
        assert sum(sizes[n][0] * sizes[n][1] for n in group) >= 0.75 * len(group) * height * width


def test_large_photos_share_no_canvas() -> None:
    large = [(2048, 2064), (2064, 2064), (2064, 2064)]
    assert large[0][0] * large[0][1] > LARGEST_MIXED
    assert groups(large, mixed=True) == [[0], [1, 2]]


def test_many_photos_are_grouped_in_a_moment() -> None:
    sizes = [(16 * int(h), 16 * int(w)) for h, w in np.random.default_rng(0).integers(20, 23, (10_000, 2))]
    started = time.process_time()
    assert sum(map(len, groups(sizes, mixed=True))) == 10_000
    assert time.process_time() - started < 2


def test_a_canvas_as_large_as_a_large_photo_changes_nothing(
    tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First trials on squares are for the photos that are so large themselves."""
    photos = [np.zeros((height, width, 3), np.uint8) for height, width in ((496, 40), (40, 496))]
    monkeypatch.setattr(levels, "LARGE", 512 * 512)
    goal = Goal(ms_ssim=0.5)
    together = tiny_codec.encode(photos, [goal] * 2, [False] * 2)
    for photo, encoding in zip(photos, together, strict=True):
        (alone,) = tiny_codec.encode([photo], [goal], [False])
        assert (encoding.codes, encoding.levels) == (alone.codes, alone.levels)


def test_large_photos_of_different_sizes_are_no_batch(tiny_codec: Codec) -> None:
    photos = [np.zeros((2016, 2080, 3), np.uint8), np.zeros((2032, 2080, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"\(2032, 2096\), \(2048, 2096\)"):
        tiny_codec.encode(photos, [Goal()] * 2, [False] * 2)
