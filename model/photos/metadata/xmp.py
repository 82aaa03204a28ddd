"""The orientation in an XMP packet, found and reset as text: every other byte stays."""

import re
from collections.abc import Iterator

_PREFIX = re.compile(rb"xmlns:([\w.-]+)\s*=\s*[\"']http://ns\.adobe\.com/tiff/1\.0/[\"']")
_USUAL_PREFIX = b"tiff"
_NAME = re.compile(rb"(?<![\w.-])([\w.-]+):Orientation")
# Of an attribute, in either kind of quotes, or of an element.
_VALUE = re.compile(rb"(?:\s*=\s*[\"']\s*|(?:\s[^<>]{0,500})?>\s*)[1-8](?=\s*[\"'<])")


def orientation(packet: bytes) -> int:
    """1 to 8; 1 where there is none."""
    return next((int(packet[place : place + 1]) for place in _places(packet)), 1)


def reset_orientation(packet: bytes) -> bytes:
    """The packet with every orientation in it 1."""
    changed = bytearray(packet)
    for place in _places(packet):
        changed[place] = ord("1")
    return bytes(changed)


def _places(packet: bytes) -> Iterator[int]:
    """Of the digits that say it, under any prefix that stands for TIFF's names."""
    prefixes = {_USUAL_PREFIX, *_PREFIX.findall(packet)}
    for name in _NAME.finditer(packet):
        if name[1] in prefixes and (value := _VALUE.match(packet, name.end())):
            yield value.end() - 1
