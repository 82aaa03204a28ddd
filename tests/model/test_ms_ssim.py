import pytest
import pytorch_msssim
import torch
from numpy.typing import NDArray

from model.ms_ssim import ms_ssim, scales_that_fit


@pytest.mark.parametrize("shape", [(2, 3, 256, 300), (1, 3, 161, 333), (1, 1, 177, 1000)])
def test_agrees_with_pytorch_msssim_on_random_images(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    reference = torch.rand(shape) * 255
    images = (reference + 30 * torch.randn(shape)).clamp(0, 255)
    expected = pytorch_msssim.ms_ssim(images, reference, data_range=255, size_average=False)
    assert torch.allclose(ms_ssim(images, reference), expected, atol=1e-4)


@pytest.mark.parametrize("noise", [2, 20, 60])
def test_agrees_with_pytorch_msssim_on_a_photo(astronaut_pixels: NDArray, noise: float) -> None:
    torch.manual_seed(0)
    photo = torch.from_numpy(astronaut_pixels).permute(2, 0, 1)[None].float()
    noisy = (photo + noise * torch.randn_like(photo)).clamp(0, 255).round()
    expected = pytorch_msssim.ms_ssim(noisy, photo, data_range=255)
    assert ms_ssim(noisy, photo).item() == pytest.approx(expected.item(), abs=1e-4)


def test_bands_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reference, images = torch.rand(2, 1, 3, 300, 200)
    whole = ms_ssim(images, reference, data_range=1.0)
    monkeypatch.setattr("model.ms_ssim._BAND_VALUES", 5000)
    assert torch.allclose(ms_ssim(images, reference, data_range=1.0), whole, atol=1e-6)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 40), (5, 9), (11, 11), (20, 400), (160, 161)])
def test_small_images_use_the_scales_that_fit(height: int, width: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, height, width)
    assert ms_ssim(image, image, data_range=1.0).item() == pytest.approx(1, abs=1e-5)
    assert ms_ssim(1 - image, image, data_range=1.0).item() < 0.9


def test_scales_that_fit() -> None:
    sides = {1: 1, 20: 1, 21: 2, 22: 2, 160: 4, 161: 5, 5000: 5}
    assert {side: scales_that_fit(side, 10_000) for side in sides} == sides


def test_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 16\) and \(1, 3, 16, 17\)"):
        ms_ssim(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 17))
