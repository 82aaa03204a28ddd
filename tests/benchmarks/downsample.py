"""Copies the first photos of an archive at a smaller size, for `rgc evaluate`.

    python -m tests.benchmarks.downsample ARCHIVE OUT [--count 20] [--megapixels 2]

Takes colour photos of at least that size, in the order of their paths, no two of one camera shot's variants.
"""

import argparse
import math
from pathlib import Path

from PIL import Image

from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError
from model.photos.reading import read_photo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--megapixels", type=float, default=2.0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seen: set[tuple[int, ...]] = set()
    for path in sorted(path for path in arguments.archive.rglob("*") if path.is_file()):
        try:
            photo = read_photo(path.read_bytes())
        except (NotAPhotoError, UnreadablePhotoError, OSError):
            continue
        height, width = photo.pixels.shape[:2]
        factor = math.sqrt(arguments.megapixels * 1e6 / (width * height))
        look = tuple(Image.fromarray(photo.pixels).resize((3, 3)).tobytes())  # alike: the same shot
        if factor > 1 or photo.grey or look in seen:
            continue
        seen.add(look)
        small = Image.fromarray(photo.pixels).resize(
            (round(width * factor), round(height * factor)), Image.Resampling.LANCZOS
        )
        small.save(arguments.out / f"{len(seen):02}-{path.stem}.png")
        if len(seen) == arguments.count:
            return
    raise SystemExit(f"{arguments.archive}: only {len(seen)} photos of {arguments.megapixels} megapixels")


if __name__ == "__main__":
    main()
