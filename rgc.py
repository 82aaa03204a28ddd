"""rgc in Python: encode, decode, and `.rgc` in Pillow.

import rgc
data = rgc.encode(image, target_ms_ssim=0.95)
image = rgc.decode(data)
Image.open("photo.rgc"); image.save("photo.rgc", target_ms_ssim=0.95)
"""

from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from model.codec import Codec
from model.files import TargetOutOfReachError, choose_device, encode_photo, image_info, to_image
from model.format.container import SIGNATURE, RgcError, read_rgc
from model.photos.reading import decode_image
from model.settings import Settings

__all__ = ["RgcError", "TargetOutOfReachError", "decode", "encode"]


def encode(
    image: Image.Image | NDArray[np.uint8],
    target_ms_ssim: float | None = None,
    max_bpp: float | None = None,
    iterations: int | None = None,
    device: str = "auto",
) -> bytes:
    """A .rgc file of an image, with its EXIF, ICC profile, XMP and alpha.

    Args:
        image: a Pillow image, or an array (H, W), (H, W, 3) or (H, W, 4).
        target_ms_ssim, max_bpp, iterations: at most one; MS-SSIM 0.985 if none is given.
        device: "auto", "cpu" or "cuda".

    Raises:
        TargetOutOfReachError: naming the best MS-SSIM the model reaches.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    settings = Settings.from_options(target_ms_ssim, max_bpp, iterations)
    return encode_photo(_codec(device), decode_image(image), settings).to_bytes()


def decode(data: bytes, iterations: int | None = None, device: str = "auto") -> Image.Image:
    """The image of a .rgc file, or a coarser one after its first `iterations`.

    Raises:
        RgcError: not a .rgc file, damaged, or of another model.
        ValueError: `iterations` is less than 1.
    """
    file = read_rgc(data)
    if iterations is not None:
        file = file.first_iterations(iterations)
    return to_image(_codec(device), file)


@lru_cache
def _codec(device: str) -> Codec:
    return Codec.load(choose_device(device))


class RgcImageFile(ImageFile.ImageFile):
    """Opens .rgc files in Pillow; the codes are decoded when pixels are asked for."""

    format = "RGC"
    format_description = "Residual GRU codec"

    def _open(self) -> None:
        assert self.fp is not None
        try:
            self._file = read_rgc(self.fp.read(), str(self.filename or "data"))
            info = image_info(self._file)
        except RgcError as error:
            raise SyntaxError(str(error)) from error  # what Pillow expects of a plugin
        self._size = (self._file.width, self._file.height)
        self._mode = ("L" if self._file.grey else "RGB") + ("A" if self._file.alpha else "")
        self.info.update(info)

    def load(self) -> Any:
        if self._im is None:
            try:
                self._im = to_image(_codec("auto"), self._file).im
            except RgcError as error:
                raise OSError(str(error)) from error  # what Pillow's own plugins raise of damaged pixels
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    options = dict(image.encoderinfo)
    names = ("target_ms_ssim", "max_bpp", "iterations")
    image = image.copy()
    for key in ("exif", "icc_profile", "xmp"):
        if key in options:
            image.info[key] = options[key].tobytes() if isinstance(options[key], Image.Exif) else options[key]
    fp.write(encode(image, **{name: options[name] for name in names if name in options}))


Image.register_open(RgcImageFile.format, RgcImageFile, lambda prefix: prefix[:8] == SIGNATURE)
Image.register_save(RgcImageFile.format, _save)
Image.register_extension(RgcImageFile.format, ".rgc")
Image.register_mime(RgcImageFile.format, "image/x-rgc")
