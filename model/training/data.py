"""Random crops of photos from folders and tar files."""

import io
import itertools
import logging
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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

# Shares of crops that are changed, so that the codec has seen what archives hold.
HALVED, RECOMPRESSED, GREY, FLAT, FRAMED = 0.25, 0.1, 0.03, 0.08, 0.15


class PhotoSet:
    """The photos of a folder or tar file, decoded when first asked for and then kept.

    Args:
        source: a folder (searched through) or a .tar file.
        memory: decoded bytes to keep; photos beyond it are decoded anew each time.

    Raises:
        ValueError: no photo in it.
    """

    def __init__(self, source: Path, memory: int = 2 << 30) -> None:
        self._files = _tar_files(source) if source.suffix == ".tar" else _folder_files(source)
        if not self._files:
            raise ValueError(f"no photos under {source}")
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
    return [(f"{path}: {m.name}", partial(_read_part, path, m.offset_data, m.size)) for m in members]


def _read_part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def crops(sets: Sequence[PhotoSet], size: int, batch: int, seed: tuple[int, ...]) -> Iterator[Tensor]:
    """Endless batches (batch, 3, size, size) of float32 in 0 to 1, from all sets alike.

    Crops lie at random places, turned and mirrored at random. Some are reduced by two, recompressed,
    grey, framed, or of nearly one colour. Photos smaller than a crop are passed over. Batches are made ahead,
    in threads.

    Raises:
        ValueError: hardly any photo is large enough.
    """

    def make_batch(number: int) -> NDArray[np.uint8]:
        random = np.random.default_rng((*seed, number))  # its own: batches are made side by side
        return np.stack([_crop(sets[int(random.integers(len(sets)))], size, random) for _ in range(batch)])

    numbers = itertools.count()
    with ThreadPoolExecutor(2) as threads:
        ahead = [threads.submit(make_batch, next(numbers)) for _ in range(_PREFETCHED_BATCHES)]
        while True:
            yield torch.from_numpy(ahead.pop(0).result()).permute(0, 3, 1, 2) / 255
            ahead.append(threads.submit(make_batch, next(numbers)))


def _crop(photos: PhotoSet, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    if random.random() < FLAT:
        return _flat(size, random)
    for _ in range(_MOST_TRIES):
        pixels = photos[int(random.integers(len(photos)))]
        whole = 2 * size if random.random() < HALVED and min(pixels.shape[:2]) >= 2 * size else size
        room = np.array(pixels.shape[:2]) - whole
        if room.min() < 0:
            continue
        top, left = random.integers(room + 1)
        cut = pixels[top : top + whole, left : left + whole]
        cut = np.rot90(cut, int(random.integers(4)))
        return _changed(cut[:, ::-1] if random.random() < 0.5 else cut, size, random)
    raise ValueError(f"{_MOST_TRIES} photos in a row were smaller than a crop of {size} pixels")


def _changed(cut: NDArray[np.uint8], size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    if len(cut) > size:
        cut = np.asarray(Image.fromarray(cut).reduce(2))
    if random.random() < RECOMPRESSED:
        buffer = io.BytesIO()
        Image.fromarray(cut).save(buffer, "JPEG", quality=int(random.integers(50, 96)))
        cut = np.asarray(Image.open(buffer))
    if random.random() < GREY:
        cut = np.asarray(Image.fromarray(cut).convert("L").convert("RGB"))
    return _framed(cut, random) if random.random() < FRAMED else cut


def _framed(cut: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """With some dark lines along its sides, as scanned slides have (Kodak's images, too)."""
    light = np.ones(cut.shape[:2])
    for side in range(4):
        turned = np.rot90(light, side)  # a view
        turned[: int(random.integers(0, 4))] *= random.uniform(0, 0.8)
    return (cut * light[:, :, None]).astype(np.uint8)


def _flat(size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """One colour, or a ramp between two colours that are near each other."""
    colour = random.integers(0, 256, 3)
    if random.random() < 0.5:  # as saturated as can be
        colour = np.where(random.random(3) < 0.5, colour, random.choice([0, 255], 3))
    ramp = np.linspace(0, random.choice([0, 0, 4, 24]), size)[:, None, None]
    return np.broadcast_to(np.clip(colour + ramp, 0, 255), (size, size, 3)).astype(np.uint8)
