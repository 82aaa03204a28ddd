"""How large a picture and its metadata may be. Pixels count with the padding that coding adds."""

import math

MAX_PIXELS = 1 << 27  # 134 megapixels
# The networks work on a margin of repeated pixels around the picture, which decoding cuts off, and on whole
# multiples of 16. Without a margin the outermost pixels, coded from one side only, are a quarter worse.
MARGIN, STRIDE = 8, 16
# Flat colour takes a JPEG 1 byte for 64 pixels, a PNG 1 for 344 (8,256 with 1-bit pixels), a WebP 1 for
# tens of thousands. Sizes that any machine has the memory for are let through whatever they claim.
HARMLESS_PIXELS = 25_000_000
MAX_PIXELS_A_BYTE = 10_000
# Flat colour takes a stream 1 byte for 32,000 pixels with the released weights. Up to a megapixel any file
# may claim.
_MOST_DECODED_A_BYTE = 250_000
_HARMLESS_DECODED = 1 << 20
_MOST_PADDING = 4  # times the pixels that are there
MAX_METADATA_BLOCKS = 1 << 16
_MAX_METADATA_BYTES = 1 << 28  # of all blocks together, uncompressed
# Up to 16 MiB any file may claim; more only where its own length is an eighth of that. Huffman coding without
# a search for repetitions never takes less.
_HARMLESS_METADATA = 1 << 24
_MOST_METADATA_A_BYTE = 8


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Both sides with their margins, rounded up: what the networks work on."""
    padded_height, padded_width = (-(-(side + 2 * MARGIN) // STRIDE) * STRIDE for side in (height, width))
    return padded_height, padded_width


def padded_pixels(width: int, height: int) -> int:
    """Pixels of that size."""
    return math.prod(padded_size(height, width))


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


def why_implausible(width: int, height: int, code_bytes: int) -> str:
    """Why streams of so many bytes cannot hold a picture of this size; empty if they may."""
    most = max(_HARMLESS_DECODED, _MOST_DECODED_A_BYTE * code_bytes)
    if padded_pixels(width, height) <= most:
        return ""
    return f"{width}x{height} pixels in {code_bytes} bytes of codes: no file of rgc's is as small as that"


def most_metadata(packed_bytes: int) -> int:
    """How many bytes of metadata a zlib stream of so many bytes may hold."""
    return min(max(_HARMLESS_METADATA, _MOST_METADATA_A_BYTE * packed_bytes), _MAX_METADATA_BYTES)


def why_too_much_metadata(blocks: int, content_bytes: int) -> str:
    """Why so many blocks, of so many bytes together, are refused; empty if they are not."""
    if blocks > MAX_METADATA_BLOCKS:
        return f"{blocks} blocks of metadata; rgc takes up to {MAX_METADATA_BLOCKS}"
    if content_bytes > _MAX_METADATA_BYTES:
        return f"{content_bytes} bytes of metadata; rgc takes up to {_MAX_METADATA_BYTES}"
    return ""
