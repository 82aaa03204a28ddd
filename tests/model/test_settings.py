from pathlib import Path

import pytest

import rgc
from model.settings import DEFAULT_TARGET_MS_SSIM, Settings


def test_the_default_is_a_quality() -> None:
    assert Settings.from_options(None, None, None) == Settings(target_ms_ssim=DEFAULT_TARGET_MS_SSIM)


@pytest.mark.parametrize("path", ["README.md", "docs/auditing.md", "infra/template/metadata.json", "rgc.py"])
def test_the_default_is_named_where_users_read(path: str) -> None:
    assert f"{DEFAULT_TARGET_MS_SSIM}" in (Path(rgc.__file__).parent / path).read_text()


def test_canonical_json() -> None:
    assert Settings(target_ms_ssim=0.95).to_json() == '{"target_ms_ssim":0.95}'
    assert Settings(iterations=3).to_json() == '{"iterations":3}'


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "none"),
        ({"target_ms_ssim": 0.9, "iterations": 2}, "target_ms_ssim.*iterations"),
        ({"target_ms_ssim": 1.0}, r"target_ms_ssim is 1\.0"),
        ({"max_bits_per_pixel": 0.0}, r"max_bits_per_pixel is 0\.0"),
        ({"max_bits_per_pixel": float("inf")}, "max_bits_per_pixel is inf"),
        ({"iterations": 0}, "iterations is 0"),
    ],
)
def test_refuses(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**values)  # type: ignore[arg-type]
