import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.codec import Codec
from model.format.container import read_rgc
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from transforms import encode
from transforms.elements import LoadedPhoto, Photo
from transforms.encode import EncodeHandler
from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.schema import SCHEMA
from transforms.write import write_rgc

ROOT = Path(__file__).parents[2]
RUN = Run("run", "rgc-0123456789ab", '{"iterations":2}')


def loaded(name: str, pixels: NDArray[np.uint8], size: int = 10**6) -> LoadedPhoto:
    return LoadedPhoto(Photo(f"/in/{name}", name, size, "f"), "sha", DecodedPhoto(pixels, False, "JPEG"))


@pytest.fixture
def handler() -> EncodeHandler:
    return EncodeHandler(Settings(iterations=2), "cpu", 1 << 20, threads=None)


def test_a_batch_of_mixed_sizes_gives_one_result_each(
    handler: EncodeHandler, tiny_codec: Codec, astronaut_pixels: NDArray
) -> None:
    sizes = [(64, 64), (32, 48), (60, 63), (33, 48)]
    batch = [loaded(f"{i}.jpg", astronaut_pixels[:h, :w]) for i, (h, w) in enumerate(sizes)]
    results = {result.photo.relative: result for result in handler.run_inference(batch, tiny_codec)}
    assert len(results) == 4
    for photo in batch:
        result = results[photo.photo.relative]
        assert (result.width, result.height) == (photo.width, photo.height)
        assert result.result is not None and len(result.result.file.codes) == 2
        assert result.result.file.source.settings == '{"iterations":2}'
    assert list(handler.run_inference([], tiny_codec)) == []  # Beam sends an empty batch before a large photo


def test_one_photo_that_cannot_be_encoded_does_not_take_the_batch_along(
    handler: EncodeHandler,
    tiny_codec: Codec,
    astronaut_pixels: NDArray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = encode.encode_photos

    def fails_on_black(codec: Codec, photos: Sequence[DecodedPhoto], *rest: object) -> object:
        if any(photo.pixels.max() == 0 for photo in photos):
            raise ArithmeticError("black")
        return real(codec, photos, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "encode_photos", fails_on_black)
    good = astronaut_pixels[:32, :32]
    batch = [loaded("good.jpg", good), loaded("black.jpg", np.zeros_like(good))]
    results = {result.photo.relative: result for result in handler.run_inference(batch, tiny_codec)}
    assert results["good.jpg"].result is not None
    assert results["black.jpg"].error == "encoding failed: ArithmeticError: black"
    row = write_rgc(results["black.jpg"], RUN, Settings(iterations=2), "/nowhere")
    assert (row.status, row.reason) == ("failed", "encoding failed: ArithmeticError: black")


def test_a_broken_gpu_ends_a_workers_process() -> None:
    """Beam's boot starts another, and the bundle is tried again there."""
    program = """
import torch
from transforms import encode
encode._SECONDS_TO_LOG = 0
class Broken:
    device = torch.device("meta")  # gives no results, as a GPU after some errors
encode.end_if_broken(Broken)
"""
    worker = {**os.environ, "CONTROL_API_SERVICE_DESCRIPTOR": "url: 'localhost:1'", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=worker, capture_output=True, check=False)
    assert ended.returncode == 1 and b"meta does not work any more: this process ends" in ended.stderr


def test_a_broken_gpu_fails_the_bundle_and_not_every_photo(
    handler: EncodeHandler,
    tiny_codec: Codec,
    astronaut_pixels: NDArray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(encode, "encode_photos", breaks)
    batch = [loaded(name, astronaut_pixels[:32, :32]) for name in ("a.jpg", "b.jpg")]
    results = list(handler.run_inference(batch, tiny_codec))
    assert [result.photo.relative for result in results if "illegal memory access" in result.error] == [
        "a.jpg",
        "b.jpg",
    ]  # the device goes on working: it was the photos
    tiny_codec.device = torch.device("meta")  # gives no results, as a GPU after such an error
    with pytest.raises(RuntimeError, match="meta"):
        list(handler.run_inference(batch, tiny_codec))


def test_rows_have_the_manifests_columns(
    handler: EncodeHandler,
    tiny_codec: Codec,
    astronaut_pixels: NDArray,
    tmp_path: Path,
) -> None:
    output, pixels = str(tmp_path), astronaut_pixels[:64, :64]
    large, small = loaded("a.jpg", pixels), loaded("b.jpg", pixels, size=10)
    rows = [
        write_rgc(encoded, RUN, Settings(iterations=2), output)
        for encoded in handler.run_inference([large, small], tiny_codec)
    ]
    assert set(asdict(rows[0])) == set(SCHEMA.names)
    assert rows[0].status == "encoded" and rows[0].rgc_uri == f"{output}/codes/a.jpg.rgc"
    data = Path(rows[0].rgc_uri).read_bytes()
    assert rows[0].rgc_bytes == len(data) and rows[0].bits_per_pixel == len(data) * 8 / 64**2
    assert rows[0].saved_bytes == 10**6 - len(data)
    assert rows[0].ms_ssim == read_rgc(data).ms_ssim[-1]
    assert rows[1].status == "kept" and "against the original's 10" in (rows[1].reason or "")
    assert rows[1].saved_bytes == 0 and rows[1].rgc_uri is None


def test_an_output_that_cannot_be_written_is_a_failed_row(
    handler: EncodeHandler,
    tiny_codec: Codec,
    astronaut_pixels: NDArray,
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    (encoded,) = handler.run_inference([loaded("a.jpg", astronaut_pixels[:32, :32])], tiny_codec)
    row = write_rgc(encoded, RUN, Settings(iterations=2), str(blocked))
    assert row.status == "failed" and "codes/a.jpg.rgc" in (row.reason or "")


def test_row_of_a_photo_that_was_not_decoded() -> None:
    row = ManifestRow.not_encoded(RUN, Photo("/in/a", "a", 5, "f"), "failed", "why")
    assert (row.width, row.ms_ssim, row.source_bytes, row.saved_bytes) == (None, None, 5, 0)
    assert datetime.now(UTC) >= row.finished_at


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_elsewhere_that_finds_no_gpu_warns(caplog: pytest.LogCaptureFixture) -> None:
    EncodeHandler(Settings(iterations=1), "auto", 1, threads=None).load_model()
    assert "no GPU on this worker" in caplog.text
    with pytest.raises(ValueError, match="torch sees no GPU"):  # on Dataflow, see `choose_execution`
        EncodeHandler(Settings(iterations=1), "cuda", 1, threads=None).load_model()
