"""How large a picture may be: what is counted is about what coding it allocates, with its sides padded."""

MAX_PIXELS = 1 << 27  # 134 megapixels
PADDED_TO = 16  # pixels; the networks work on whole multiples of it
# Flat colour takes a JPEG 1 byte for 64 pixels, a PNG 1 for 344 (8,256 with 1-bit pixels), a WebP 1 for
# tens of thousands. Sizes that any machine has the memory for are let through whatever they claim.
HARMLESS_PIXELS = 25_000_000
MAX_PIXELS_A_BYTE = 10_000
# A .rgc file of one colour has some 4,000 pixels a byte. Up to a megapixel any file may claim.
_MOST_DECODED_A_BYTE = 100_000
_HARMLESS_DECODED = 1 << 20
_MOST_PADDING = 4  # times the pixels that are there


def padded_pixels(width: int, height: int) -> int:
    """Pixels of a picture once both sides are rounded up."""
    padded_width, padded_height = (-(-side // PADDED_TO) * PADDED_TO for side in (width, height))
    return padded_width * padded_height


def why_too_large(width: int, height: int, file_bytes: int) -> str:
    """Why a picture of this size, in a file of so many bytes, is refused; empty if it is not."""
    padded = padded_pixels(width, height)
    size = f"{width}x{height} pixels"
    if padded > MAX_PIXELS:
        as_coded = "" if width * height > MAX_PIXELS else f", coded as {padded}"
        return f"{size}{as_coded}; rgc takes up to {MAX_PIXELS} pixels"
    if padded > HARMLESS_PIXELS and padded > _MOST_PADDING * width * height:
        return f"{size}, of which coding would make {padded}: too narrow a picture of that length"
    if padded > max(HARMLESS_PIXELS, MAX_PIXELS_A_BYTE * file_bytes):
        return f"claims {size} in {file_bytes} bytes: refused as a decompression bomb"
    return ""


def why_implausible(width: int, height: int, file_bytes: int) -> str:
    """Why a .rgc file of so many bytes cannot hold a picture of this size; empty if it may."""
    most = max(_HARMLESS_DECODED, _MOST_DECODED_A_BYTE * file_bytes)
    if padded_pixels(width, height) <= most:
        return ""
    return f"{width}x{height} pixels in {file_bytes} bytes: no file of rgc's is as small as that"
