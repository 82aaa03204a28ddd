"""A table of odd photos: what becomes of each, what its row names as left out, and what comes back.

    python -m tests.benchmarks.inputs FOLDER

For each file: status; how far the pixels for the codec are from those of another reader (libvips, tiff2rgba,
libheif, whichever reads it), largest and mean, in grey levels; tags of the original that exiftool does not
find in the file restored to the same format, or finds with another value; whether it may be safe to delete.
Needs apt-get install libimage-exiftool-perl libvips-tools libtiff-tools libheif-examples.
"""

import argparse
import io
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.format.metadata import MetadataBlocks
from model.photos.colour import view_with_profile
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.pool import DecoderPool
from model.photos.metadata import png
from model.photos.metadata.containers import FORMATS
from model.photos.names import NotAPhotoError, check_name, check_start
from model.photos.reading import DecodedPhoto
from model.photos.writing import image_file

# About how pixels are stored, or about the file itself.
_STORAGE = set(
    "StripOffsets StripByteCounts RowsPerStrip Compression PhotometricInterpretation BitsPerSample BitDepth"
    " ColorType Transparency Predictor SamplesPerPixel SubfileType PlanarConfiguration FillOrder T4Options"
    " T6Options ColorTransform EncodingProcess YCbCrSubSampling ColorComponents Interlace TileWidth"
    " TileLength TileOffsets TileByteCounts ExtraSamples SampleFormat ColorMap Palette SignificantBits"
    " ImageWidth Filter"
    " ImageHeight OldSubfileType".split()
)
_GROUPS_OF_FILES = ("System", "ExifTool", "Composite", "File", "SourceFile", "QuickTime", "Meta", "RIFF")


def restored(photo: DecodedPhoto) -> bytes | None:
    """In the format that it came from, as if it had been through a .rgc file; None if that is not written."""
    if photo.metadata is None or photo.metadata.format not in FORMATS:
        return None
    metadata = MetadataBlocks.from_bytes(photo.metadata.to_bytes())
    image = Image.fromarray(np.ascontiguousarray(photo.pixels[:, :, 0]) if photo.grey else photo.pixels)
    if photo.alpha:
        image.putalpha(Image.open(io.BytesIO(photo.alpha)))
    return image_file(image, metadata.format, metadata, view_with_profile(metadata))[0]


def tags(path: Path) -> dict[str, list[str]]:
    """What exiftool finds, but what is about storage: all values of each tag, wherever they stand."""
    command = ["exiftool", "-j", "-a", "-G1:4", "-u", "-n", "-b", str(path)]
    printed = subprocess.run(command, capture_output=True, check=False).stdout
    (content,) = json.loads(printed or b"[{}]")
    found: dict[str, list[str]] = {}
    for key, value in content.items():
        group, name = key.split(":")[0], key.split(":")[-1]
        if group not in _GROUPS_OF_FILES and name not in _STORAGE:
            found.setdefault(f"{group}:{name}", []).append(str(value))
    return {name: sorted(values) for name, values in found.items()}


def other_reader(path: Path, scratch: Path) -> tuple[str, NDArray[np.uint8]] | None:
    """The pixels as another program reads them, turned as it understands the file."""
    out = scratch / "other.png"
    for name, command in (
        ("vips", ["vips", "autorot", str(path), str(out)]),
        ("tiff2rgba", ["tiff2rgba", "-c", "none", str(path), str(scratch / "other.tif")]),
        ("libheif", [shutil.which("heif-dec") or "heif-convert", str(path), str(out)]),
    ):
        if shutil.which(command[0]) is None or (name == "tiff2rgba" and not path.suffix.startswith(".tif")):
            continue
        for old in scratch.glob("other.*"):
            old.unlink()
        if subprocess.run(command, capture_output=True, check=False).returncode:
            continue
        found = next(scratch.glob("other.*"), None)
        if found is None:
            continue
        content = found.read_bytes()  # vips hands on text of megabytes, which Pillow refuses
        content = png.only_pixels(content) if content.startswith(png.SIGNATURE) else content
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.mode.startswith("I"):
                grey = (np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8)
                return name, np.repeat(grey[:, :, None], 3, axis=2)
            return name, np.array(image.convert("RGB"))
    return None


def row(path: Path, pool: DecoderPool, scratch: Path) -> list[str]:
    data = path.read_bytes()
    try:
        check_name(path.name)
        check_start(path.name, data)
        photo = pool.read(data)
    except NotAPhotoError as error:
        return [path.name, "kept", str(error), "", "", ""]
    except UnreadablePhotoError as error:
        return [path.name, "failed", str(error)[:90], "", "", ""]
    difference = "no other reader"
    if (other := other_reader(path, scratch)) is not None:
        name, theirs = other
        if theirs.shape != photo.pixels.shape and theirs.shape == photo.pixels.swapaxes(0, 1).shape:
            name, theirs = f"{name}, which does not turn it", np.rot90(theirs, -1)
        if theirs.shape != photo.pixels.shape:
            difference = f"{name}: {theirs.shape[1]}x{theirs.shape[0]}"
        else:
            levels = np.abs(theirs.astype(int) - photo.pixels)
            difference = f"{name}: {levels.max()} ({levels.mean():.2f})"
    safe = "no" if photo.notes else "may be"
    return [path.name, "encoded", "; ".join(photo.notes), difference, _metadata(path, photo, scratch), safe]


def _metadata(path: Path, photo: DecodedPhoto, scratch: Path) -> str:
    back = restored(photo)
    if back is None:
        return "not written in its format"
    again = scratch / f"restored{path.suffix}"
    again.write_bytes(back)
    before, after = tags(path), tags(again)
    missing = [name for name in before if name not in after]
    changed = [name for name in before if name in after and before[name] != after[name]]
    text = [f"missing {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}"] if missing else []
    text += [f"changed {', '.join(changed[:4])}{' ...' if len(changed) > 4 else ''}"] if changed else []
    return f"{len(before)} tags: {'; '.join(text) or 'all there'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    pool = DecoderPool()
    print("| file | status | named as left out, or why | other reader, largest (mean) | metadata | safe |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(each for each in arguments.folder.rglob("*") if each.is_file()):
            print(f"| {' | '.join(row(path, pool, Path(scratch)))} |", flush=True)
    pool.close()


if __name__ == "__main__":
    main()
