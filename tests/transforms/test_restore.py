import pytest

from transforms.restore import image_name


@pytest.mark.parametrize(
    "relative, image_format, expected",
    [
        ("a.jpg.rgc", "jpeg", "a.jpg"),
        ("b/a.JPEG.rgc", "jpeg", "b/a.JPEG"),
        ("a.jpg.rgc", "png", "a.jpg.png"),
        ("a.heic.rgc", "jpeg", "a.heic.jpg"),
        ("a.heic.jpg.rgc", "jpeg", "a.heic.jpg.jpg"),
        ("v1.2.png.rgc", "png", "v1.2.png"),
    ],
)
def test_image_names(relative: str, image_format: str, expected: str) -> None:
    assert image_name(relative, image_format) == expected
