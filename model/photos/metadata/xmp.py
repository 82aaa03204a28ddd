"""The orientation in an XMP packet, found and reset as text: every other byte stays."""

import re

_PREFIX = re.compile(rb"xmlns:([\w.-]+)\s*=\s*[\"']http://ns\.adobe\.com/tiff/1\.0/[\"']")
_USUAL_PREFIX = b"tiff"


def orientation(packet: bytes) -> int:
    """1 to 8; 1 where there is none."""
    match = _pattern(packet).search(packet)
    return int(match[2]) if match else 1


def reset_orientation(packet: bytes) -> bytes:
    """The packet with every orientation in it 1."""
    return _pattern(packet).sub(rb"\g<1>1", packet)


def _pattern(packet: bytes) -> re.Pattern[bytes]:
    """An attribute in either kind of quotes, or an element, under any prefix that stands for TIFF's names."""
    prefixes = b"|".join(map(re.escape, {_USUAL_PREFIX, *_PREFIX.findall(packet)}))
    return re.compile(
        rb"((?:" + prefixes + rb"):Orientation"
        rb"(?:\s*=\s*[\"']\s*|(?:\s[^<>]{0,500})?>\s*))([1-8])(?=\s*[\"'<])"
    )
