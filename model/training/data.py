"""Random crops of photos from folders and tar files."""

import io
import itertools
import logging
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

_LOGGER = logging.getLogger(__name__)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".bmp"}
_PREFETCHED_BATCHES = 4
_File = tuple[str, Callable[[], bytes]]  # its name, and what reads it
_MOST_TRIES = 10_000  # to find a photo that is large enough


class PhotoSet:
    """The photos of some folders and tar files, decoded when first asked for and then kept.

    Args:
        sources: folders (searched through) and .tar files.
        memory: decoded bytes to keep; photos beyond it are decoded anew each time.

    Raises:
        ValueError: no photo under any of the sources.
    """

    def __init__(self, sources: list[Path], memory: int = 4 << 30) -> None:
        self._files: list[_File] = []
        for source in sources:
            self._files += _tar_files(source) if source.suffix == ".tar" else _folder_files(source)
        if not self._files:
            raise ValueError(f"no photos under {', '.join(map(str, sources))}")
        self._memory = memory
        self._decoded: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Pixels (H, W, 3) of one photo, upright; none, and a warning that names it, if it is unreadable."""
        if index in self._decoded:
            return self._decoded[index]
        name, read = self._files[index]
        try:
            with Image.open(io.BytesIO(read())) as photo:
                pixels = np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
        except Exception as error:  # decoders raise nearly anything on broken files
            _LOGGER.warning("%s: %s; left out of the training", name, error)
            pixels = np.empty((0, 0, 3), np.uint8)
        self._memory -= pixels.nbytes
        if self._memory > 0:
            self._decoded[index] = pixels
        return pixels


def _folder_files(folder: Path) -> list[_File]:
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES)
    return [(str(path), path.read_bytes) for path in paths]


def _tar_files(path: Path) -> list[_File]:
    with tarfile.open(path) as archive:
        members = [m for m in archive if m.isfile() and Path(m.name).suffix.lower() in _SUFFIXES]

    def reader(start: int, size: int) -> Callable[[], bytes]:
        def read() -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(size)

        return read

    return [(f"{path}: {m.name}", reader(m.offset_data, m.size)) for m in members]


def crops(photos: PhotoSet, size: int, batch: int, seed: tuple[int, ...]) -> Iterator[Tensor]:
    """Endless batches (batch, 3, size, size) of float32 in 0 to 1: random place, mirrored or not.

    Photos smaller than a crop are passed over. Batches are made ahead, in threads.

    Raises:
        ValueError: hardly any photo is large enough.
    """

    def make_batch(number: int) -> NDArray[np.uint8]:
        random = np.random.default_rng((*seed, number))  # its own: batches are made side by side
        return np.stack([_crop(photos, size, random) for _ in range(batch)])

    numbers = itertools.count()
    with ThreadPoolExecutor(2) as threads:
        ahead = [threads.submit(make_batch, next(numbers)) for _ in range(_PREFETCHED_BATCHES)]
        while True:
            yield torch.from_numpy(ahead.pop(0).result()).permute(0, 3, 1, 2) / 255
            ahead.append(threads.submit(make_batch, next(numbers)))


def _crop(photos: PhotoSet, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    for _ in range(_MOST_TRIES):
        pixels = photos[int(random.integers(len(photos)))]
        room = np.array(pixels.shape[:2]) - size
        if room.min() < 0:
            continue
        top, left = random.integers(room + 1)
        cut = pixels[top : top + size, left : left + size]
        return cut[:, ::-1] if random.random() < 0.5 else cut
    raise ValueError(f"{_MOST_TRIES} photos in a row were smaller than a crop of {size} pixels")
