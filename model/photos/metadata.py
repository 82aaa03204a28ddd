"""EXIF and XMP of a Pillow image, and their orientation."""

import re
import struct

from PIL import ExifTags, Image

_TIFF_LONG = 4
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)[2-8]")
# Tags of a TIFF that describe how its pixels are stored, which end with its pixels.
_TIFF_LAYOUT_TAGS = {
    254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 321, 322,
    323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531, 532, 700, 34675,
}  # fmt: skip


def orientation_of(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF must not cost the photo
        return 1


def exif_of(image: Image.Image) -> bytes:
    if image.format != "TIFF":
        return bytes(image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    try:
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())  # a copy
        for tag in _TIFF_LAYOUT_TAGS & set(exif):
            del exif[tag]
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else b""
    except Exception:  # broken EXIF must not cost the photo
        return b""


def xmp_of(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


def upright_exif(exif: bytes) -> bytes:
    """Sets the orientation in the first directory of a TIFF structure to 1, in place."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == ExifTags.Base.Orientation:
                upright = (
                    struct.pack(f"{order}I", 1) if kind == _TIFF_LONG else struct.pack(f"{order}HH", 1, 0)
                )
                return exif[: entry + 8] + upright + exif[entry + 12 :]
    except struct.error:  # broken EXIF stays as it is: Pillow reads no orientation from it
        pass
    return exif


def upright_xmp(xmp: bytes) -> bytes:
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
