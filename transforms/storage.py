"""Whole files through Beam's filesystems: local folders and object stores alike."""

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

_PLAIN = CompressionTypes.UNCOMPRESSED  # a name that ends in .gz is still just bytes to us
OUTPUT_FOLDERS = ("codes", "manifest")  # below OUTPUT; all that rgc compress writes
_GLOB_CHARACTERS = frozenset("*?[")


def read_bytes(uri: str) -> bytes:
    with FileSystems.open(uri, compression_type=_PLAIN) as file:
        return file.read()


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all.

    On a local disk it is written under another name, then renamed; an object store shows an object
    only once it is complete.
    """
    local = "://" not in uri
    target = f"{uri}.partial" if local else uri
    with FileSystems.create(target, compression_type=_PLAIN) as file:
        file.write(data)
    if local:
        FileSystems.rename([target], [uri])


def delete_if_there(uri: str) -> None:
    if FileSystems.exists(uri):
        FileSystems.delete([uri])


def join(base: str, relative: str) -> str:
    """`relative` with forward slashes, below `base`."""
    return f"{base.rstrip('/')}/{relative}"


def is_glob(uri: str) -> bool:
    return not _GLOB_CHARACTERS.isdisjoint(uri)


def escape_glob(uri: str) -> str:
    """`uri` as a pattern that matches only itself."""
    return "".join(f"[{character}]" if character in _GLOB_CHARACTERS else character for character in uri)
