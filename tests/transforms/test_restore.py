import errno
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.codec import Codec
from model.files import encode_photo
from model.format.container import RgcError, RgcFile, read_rgc
from model.format.metadata import Block, MetadataBlocks
from model.format.source import SourceRecord
from model.photos.metadata import jpeg
from model.photos.reading import DecodedPhoto, read_photo
from model.settings import Settings
from tests.storage import Storage
from transforms import restore
from transforms.elements import Photo
from transforms.manifest.restored import Wanted
from transforms.restore import (
    DecodeHandler,
    Restored,
    image_bytes,
    image_name,
    load_rgc,
    write_image,
)
from transforms.storage.files import read_bytes, write_bytes


@pytest.mark.parametrize(
    "relative, image_format, expected",
    [
        ("a.jpg.rgc", "jpeg", "a.jpg"),
        ("b/a.JPEG.rgc", "jpeg", "b/a.JPEG"),
        ("a.jpg.rgc", "png", "a.jpg.png"),
        ("a.heic.rgc", "jpeg", "a.heic.jpg"),
        ("a.heic.jpg.rgc", "jpeg", "a.heic.jpg.jpg"),
        ("v1.2.png.rgc", "png", "v1.2.png"),
    ],
)
def test_image_names(relative: str, image_format: str, expected: str) -> None:
    assert image_name(relative, image_format) == expected


def wanted(output: str | Path, image_format: str = "png") -> Wanted:
    return Wanted(str(output), image_format, None, "1")


@pytest.fixture
def file(tiny_codec: Codec) -> RgcFile:
    photo = DecodedPhoto(np.zeros((16, 16, 3), np.uint8), False, "PNG")
    return read_rgc(encode_photo(tiny_codec, photo, Settings(iterations=1)).to_bytes())


def test_a_broken_gpu_fails_the_bundle(
    tiny_codec: Codec, file: RgcFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(tiny_codec, "decode", breaks)
    batch, handler = [Restored(Photo("a.rgc", "a.rgc", 1, ""), file)], DecodeHandler("cpu", 1, None)
    (restored,) = handler.run_inference(batch, tiny_codec)
    assert "unspecified launch failure" in restored.error
    tiny_codec.device = torch.device("meta")
    with pytest.raises(RuntimeError, match="meta"):
        list(handler.run_inference(batch, tiny_codec))


def test_a_gpu_decodes_several_photos_at_a_time(
    tiny_codec: Codec, file: RgcFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_there = threading.Barrier(2, timeout=60)

    def decode(*_: object) -> NDArray[np.uint8]:
        both_are_there.wait()
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr(restore, "decode_pixels", decode)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    tiny_codec.device = torch.device("cuda")
    batch = [Restored(Photo(name, name, 1, ""), file) for name in ("a.rgc", "b.rgc")]
    results = list(DecodeHandler("cpu", 1, None).run_inference(batch, tiny_codec))
    assert [result.photo.uri for result in results if result.pixels is not None] == ["a.rgc", "b.rgc"]


def test_a_name_that_is_no_path_is_not_written(tmp_path: Path) -> None:
    """`find_files` says so of an object that is called ../x.rgc."""
    loaded = load_rgc(Photo("gs://archive/codes/../x.rgc", "../x.rgc", 1, "1-1-x", "no path"), None)
    assert loaded.file is None and loaded.error == "gs://archive/codes/../x.rgc: no path"
    assert write_image(loaded, wanted(tmp_path / "a" / "b")).image_uri is None
    assert not list(tmp_path.iterdir())


def test_a_full_disk_asks_the_run_to_stop(
    file: RgcFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(uri: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", uri)

    monkeypatch.setattr(restore, "write_over", full)
    restored = Restored(Photo("a.rgc", "a.rgc", 1, ""), file, np.zeros((16, 16, 3), np.uint8))
    reason = write_image(restored, wanted(tmp_path), str(tmp_path / "stop")).reason
    assert reason is not None and "No space left" in reason
    assert (tmp_path / "stop").read_text() == "OUTPUT is full\n"


def test_another_file_is_not_overwritten(storage: Storage, file: RgcFile, tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    for output in (str(tmp_path), "gs://archive/images"):
        restored = Restored(Photo("a.rgc", "a.rgc", 1, ""), file, pixels)
        assert write_image(restored, wanted(output)).image_uri == f"{output}/a.png"
        assert write_image(restored, wanted(output)).image_uri == f"{output}/a.png"  # the very image
        write_bytes(f"{output}/a.png", b"yours")
        assert "it stays; move it away" in str(write_image(restored, wanted(output)).reason)


def test_only_what_an_earlier_run_has_written_is_replaced(
    storage: Storage, file: RgcFile, tmp_path: Path
) -> None:
    for output in (str(tmp_path), "gs://archive/images"):
        photo = Photo("a.rgc", "a.rgc", 1, "")
        first = write_image(Restored(photo, file, np.zeros((16, 16, 3), np.uint8)), wanted(output))
        other = Restored(photo, file, np.full((16, 16, 3), 200, np.uint8))
        assert write_image(other, wanted(output)).status == "failed"  # made of another file, for all we know
        again = replace(other, photo=replace(photo, image_sha256=first.image_sha256 or ""))
        second = write_image(again, wanted(output))
        assert second.status == "decoded" and second.image_sha256 != first.image_sha256
        write_bytes(f"{output}/a.png", b"yours")
        assert write_image(again, wanted(output)).status == "failed"
        assert read_bytes(f"{output}/a.png") == b"yours"


def test_images_come_back_in_their_own_format_with_their_time(tiny_codec: Codec, tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    for image_format, name in (("TIFF", "a.tif"), ("JPEG", "a.jpe"), ("GIF", "a.gif.png")):
        source = SourceRecord(5, "f", image_format, (), "{}", "0" * 64, "1" * 64, 1_234_567_890_123_456_789)
        decoded = DecodedPhoto(pixels, False, image_format, metadata=MetadataBlocks(image_format))
        code = encode_photo(tiny_codec, decoded, Settings(iterations=1), source)
        code = read_rgc(code.to_bytes())
        relative = f"{name.removesuffix('.png')}.rgc"
        restored = write_image(
            Restored(Photo(relative, relative, 1, ""), code, pixels), wanted(tmp_path, "original")
        )
        assert restored.image_uri == str(tmp_path / name)
        assert (tmp_path / name).stat().st_mtime_ns == 1_234_567_890_123_456_789
        with Image.open(tmp_path / name) as image:
            assert image.format == ("PNG" if image_format == "GIF" else image_format)


def test_an_image_that_another_version_of_pillow_has_written_is_no_other_image(
    tiny_codec: Codec, tmp_path: Path
) -> None:
    photo = DecodedPhoto(np.full((16, 16, 3), 90, np.uint8), False, "PNG", metadata=MetadataBlocks("PNG"))
    code = read_rgc(encode_photo(tiny_codec, photo, Settings(iterations=1)).to_bytes())
    restored = Restored(Photo("a.rgc", "a.rgc", 1, ""), code, photo.pixels)
    for image_format, options in (("png", {"compress_level": 1}), ("jpeg", {"quality": 97})):
        path = tmp_path / f"a.{'jpg' if image_format == 'jpeg' else 'png'}"
        assert write_image(restored, wanted(tmp_path, image_format)).status == "decoded"
        ours = path.read_bytes()
        metadata = read_photo(ours).metadata
        image = Image.open(path)
        image.load()
        image.save(path, **options)
        if image_format == "jpeg":
            path.write_bytes(jpeg.apply(metadata.blocks if metadata else [], path.read_bytes()))
        theirs = path.read_bytes()
        assert theirs != ours
        kept = write_image(restored, wanted(tmp_path, image_format))
        assert (kept.status, kept.image_sha256) == ("decoded", None)
        assert path.read_bytes() == theirs
        image.transpose(Image.Transpose.ROTATE_180).point(lambda value: value // 2).save(path)
        assert write_image(restored, wanted(tmp_path, image_format)).status == "failed"


@pytest.mark.parametrize(
    "metadata",
    [
        MetadataBlocks("JPEG", (Block("COM", bytes(70_000)),)),
        MetadataBlocks("JPEG", (Block("APP99", b""),)),
        MetadataBlocks("HEIF", (Block("pasp", b"[" * 100_000),)),
        MetadataBlocks("HEIF", (Block("mdcv", b'{"x": 1}'),)),
    ],
)
def test_metadata_that_no_photo_has_is_an_error_of_the_file(file: RgcFile, metadata: MetadataBlocks) -> None:
    crafted = replace(file, metadata=metadata)
    with pytest.raises(RgcError, match=f"its metadata cannot be written as {metadata.format.lower()}: "):
        image_bytes(crafted, Image.new("RGB", (16, 16)), metadata.format.lower())
