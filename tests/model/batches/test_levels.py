from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from model.batches import levels
from model.batches.batch import Batch, Goal
from model.codec import Codec


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("target", [0.97, 0.9985])  # in the first iteration, and in a later one
def test_a_large_photo_meets_its_target_by_what_parts_of_it_say(
    shipped_codec: Codec,
    astronaut_pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    target: float,
    grey: bool,
) -> None:
    pixels = astronaut_pixels[:, :, :1].repeat(3, axis=2) if grey else astronaut_pixels
    sizes: list[int] = []
    measure = Batch.qualities

    def counted(self: Batch, reconstructions: Tensor, which: Sequence[int]) -> list[float]:
        sizes.append(len(which))
        return measure(self, reconstructions, which)

    def encode() -> tuple[int, int]:
        """How many trials it takes, and bytes."""
        sizes.clear()
        (encoding,) = shipped_codec.encode([pixels], [Goal(ms_ssim=target)], [grey])
        assert target <= encoding.ms_ssim[-1] <= target + 0.001
        return len(sizes), sum(map(len, encoding.codes))

    monkeypatch.setattr(Batch, "qualities", counted)
    trials, size = encode()
    monkeypatch.setattr(levels, "LARGE", 0)
    fewer, same_size = encode()
    assert fewer <= trials
    assert same_size == pytest.approx(size, rel=0.03)
