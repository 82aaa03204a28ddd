"""Damaged .rgc files whose checksums fit: only RgcError, little memory, little time.

    python -m tests.benchmarks.fuzz [--parse 100000] [--decode 5000] [--seed 0]

Files of small pictures with all kinds of chunks are changed at random: bytes, lengths, numbers in the header,
chunks left out, twice, exchanged, and the file cut off. Then every checksum is made right again. Each is
parsed and asked for its metadata; and decoded, by rgc.decode and as a Pillow image.
"""

import argparse
import io
import resource
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

import rgc
from model.files import encode_photo, image_info
from model.format.container import SIGNATURE, RgcError, read_rgc
from model.format.source import SourceRecord
from model.photos.reading import read_photo
from model.settings import Settings
from tests.model.photos.files import exif_structure, picture, saved, with_segments

_CHUNK = struct.Struct(">4sI")
_HEAD = 26  # bytes of a HEAD chunk in which changes mean most


def seeds() -> list[bytes]:
    """Whole files: with alpha, grey, of a JPEG, a PNG and a TIFF, without metadata."""
    codec = rgc._codec("cpu")
    exif = with_segments(saved(picture(), "JPEG"), [(0xE1, b"Exif\0\0" + exif_structure([(274, 3, 6)]))])
    transparent = picture("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    photos = [exif, saved(transparent, "PNG"), saved(picture("L"), "TIFF")]
    source = SourceRecord(1000, "1-2", "JPEG", ("a note",), "{}", "0" * 64, "1" * 64, 10**18)
    files = [
        encode_photo(codec, read_photo(data), Settings(iterations=2), source).to_bytes() for data in photos
    ]
    return [*files, rgc.encode(picture(), iterations=2)]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Some changes, checksums repaired."""
    chunks = list(_chunks(data))
    for _ in range(int(random.integers(1, 4))):
        index = int(random.integers(len(chunks)))
        kind, payload = chunks[index]
        action = int(random.integers(8))
        if action <= 3 and payload:
            changed = bytearray(payload)
            most = min(len(changed), _HEAD) if kind == b"HEAD" else len(changed)
            for _ in range(int(random.integers(1, 5))):
                changed[int(random.integers(most))] = int(random.integers(256))
            chunks[index] = kind, bytes(changed)
        elif action == 4:
            chunks[index] = kind, payload[: int(random.integers(len(payload) + 1))]
        elif action == 5:
            chunks[index] = kind, payload + random.bytes(int(random.integers(1, 40)))
        elif action == 6:
            other = int(random.integers(len(chunks)))
            chunks[index], chunks[other] = chunks[other], chunks[index]
        elif len(chunks) > 1:
            chunks.insert(index, chunks[index]) if random.integers(2) else chunks.pop(index)
    whole = SIGNATURE + b"".join(_written(*chunk) for chunk in chunks)
    return whole if random.integers(10) else whole[: int(random.integers(len(whole)))]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(SIGNATURE)
    while position < len(data):
        kind, length = _CHUNK.unpack_from(data, position)
        yield kind, data[position + _CHUNK.size : position + _CHUNK.size + length]
        position += _CHUNK.size + length + 4


def _written(kind: bytes, payload: bytes) -> bytes:
    return _CHUNK.pack(kind, len(payload)) + payload + struct.pack(">I", zlib.crc32(kind + payload))


def parse(data: bytes) -> None:
    image_info(read_rgc(data))


def decode(data: bytes) -> None:
    rgc.decode(data)


def load(data: bytes) -> None:
    with Image.open(io.BytesIO(data), formats=["RGC"]) as image:
        image.load()


def run(
    work: Callable[[bytes], None], files: list[bytes], cases: int, seed: int
) -> tuple[Counter[str], float]:
    """How cases ended, by exception, and the longest time of one in seconds. What is no error is raised."""
    random = np.random.default_rng(seed)
    ends: Counter[str] = Counter()
    longest = 0.0
    for _ in range(cases):
        data = mutated(files[int(random.integers(len(files)))], random)
        started = time.monotonic()
        try:
            work(data)
            ends["decoded"] += 1
        except (RgcError, UnidentifiedImageError) as error:
            ends[type(error).__name__] += 1
        except OSError as error:  # Pillow's, of pixels that are damaged
            if work is not load:
                raise
            ends[type(error).__name__] += 1
        longest = max(longest, time.monotonic() - started)
    return ends, longest


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parse", type=int, default=100_000)
    parser.add_argument("--decode", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = seeds()
    for file in files:
        decode(file)
    idle = peak_megabytes()
    works = ((parse, arguments.parse), (decode, arguments.decode), (load, arguments.decode))
    for number, (work, cases) in enumerate(works):
        ends, longest = run(work, files, cases, arguments.seed + number)
        more = peak_megabytes() - idle
        counts = ", ".join(f"{count} {name}" for name, count in ends.most_common())
        print(
            f"{work.__name__}: {cases} cases: {counts}; longest {longest:.2f} s; {more:.0f} MB more",
            flush=True,
        )


if __name__ == "__main__":
    main()
