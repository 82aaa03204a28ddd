import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluate import metrics
from pipeline.evaluate.metrics import measure


def test_equal_images_are_the_best_of_every_measure(astronaut_pixels: NDArray[np.uint8]) -> None:
    pixels = astronaut_pixels[:96, :128]
    equal = measure(96 * 128, pixels, pixels)
    assert equal.bits_per_pixel == 8 and equal.ms_ssim == pytest.approx(1) and equal.psnr > 100
    assert equal.ssimulacra2 == pytest.approx(100) and equal.butteraugli in (None, 0)
    assert equal.border_error == equal.inside_error == 0


def test_a_wrong_border_is_told_from_what_is_inside(astronaut_pixels: NDArray[np.uint8]) -> None:
    pixels = astronaut_pixels[:96, :128].clip(0, 200)
    framed = pixels + 2
    framed[:4] = pixels[:4] + 10
    framed[:, -4:] = pixels[:, -4:] + 10
    found = measure(1000, framed, pixels)
    assert found.inside_error == pytest.approx(2) and 2 < found.border_error < 10
    assert found.ssimulacra2 < 100


def test_grey_images_count_as_three_equal_channels(astronaut_pixels: NDArray[np.uint8]) -> None:
    grey = astronaut_pixels[:64, :64, 0]
    assert measure(1, grey, np.repeat(grey[:, :, None], 3, axis=2)).psnr > 100


@pytest.mark.skipif(shutil.which("butteraugli_main") is None, reason="libjxl-devtools is not installed")
def test_butteraugli_rises_with_the_error(astronaut_pixels: NDArray[np.uint8]) -> None:
    pixels = astronaut_pixels[:96, :128].clip(20, 200)
    near, far = (measure(1, pixels + shift, pixels).butteraugli for shift in (2, 12))
    assert near is not None and far is not None and 0 < near < far


def test_without_its_program_butteraugli_is_left_out(
    astronaut_pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = astronaut_pixels[:32, :32]
    monkeypatch.setattr(metrics, "_BUTTERAUGLI", str(tmp_path / "missing"))
    assert measure(1, pixels, pixels).butteraugli is None
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such colour space >&2\n")
    broken.chmod(0o755)
    monkeypatch.setattr(metrics, "_BUTTERAUGLI", str(broken))
    with pytest.raises(ValueError, match="no such colour space"):
        measure(1, pixels, pixels)
