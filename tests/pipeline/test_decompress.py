"""Decompressing goes on where an earlier run has ended."""

import os
from functools import partial
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from model.codec import Codec
from pipeline.decompress import DecompressJob, decompress
from pipeline.runners.run import choose_execution, run
from tests.runs import rgc
from transforms.find import find_source
from transforms.manifest.reading import read_table
from transforms.manifest.restored import rows_folder


def restored(output: Path) -> list[dict[str, object]]:
    newest = max(Path(rows_folder(str(output))).glob("restored=*"))
    return [row for file in newest.glob("*.parquet") for row in read_table(str(file)).to_pylist()]


def test_what_is_there_and_right_is_not_decoded_again(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, images = tmp_path / "out" / "codes", tmp_path / "images"
    rgc("compress", photo_folder, tmp_path / "out", "--iterations", "1")
    first = rgc("decompress", codes, images, "--format", "jpeg")
    assert first.exit_code == 0 and "2 decoded, 0 failed" in first.output
    rows = restored(images)
    assert {row["status"] for row in rows} == {"decoded"} and len(rows) == 2
    decoded: list[object] = []
    decode = Codec.decode

    def counting(codec: Codec, file: object, *arguments: object) -> object:
        decoded.append(file)
        return decode(codec, file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Codec, "decode", counting)
    again = rgc("decompress", codes, images, "--format", "jpeg")
    assert "2 decoded, 0 failed" in again.output and "2 of them were there" in again.output
    assert not decoded and len(restored(images)) == 2
    (images / "a.jpg").unlink()
    (images / "trip" / "b.png.jpg").write_bytes(b"another file")
    third = rgc("decompress", codes, images, "--format", "jpeg")
    assert third.exit_code == 1 and "1 decoded, 1 failed" in third.output and len(decoded) == 2
    assert {row["status"]: row["reason"] is None for row in restored(images)} == {
        "decoded": True,
        "failed": False,
    }
    assert "2 decoded" in rgc("decompress", codes, images).output  # as PNG they are others


def test_images_of_photos_that_were_encoded_again_are_replaced_unless_somebody_changed_them(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = tmp_path / "images" / "a.jpg", tmp_path / "images" / "trip" / "b.png.jpg"
    rgc("compress", photo_folder, "out", "--target-ms-ssim", "0.9")
    rgc("decompress", "out/codes", "images", "--format", "jpeg")
    before = first.read_bytes(), second.read_bytes()
    status = second.stat()
    edited = before[1][:-3] + b"x" + before[1][-2:]  # by an editor that keeps size and time
    second.write_bytes(edited)
    os.utime(second, ns=(status.st_atime_ns, status.st_mtime_ns))
    rgc("compress", photo_folder, "out", "--target-ms-ssim", "0.97")
    codes = tmp_path / "out" / "codes"  # the same files by another name
    result = rgc("decompress", codes, tmp_path / "images", "--format", "jpeg")
    assert result.exit_code == 1 and "1 decoded, 1 failed" in result.output
    assert f"{second} is there already" in result.output.replace("\n", " ")
    assert first.read_bytes() != before[0] and second.read_bytes() == edited
    coarser = rgc("decompress", codes / "a.jpg.rgc", "images", "--format", "jpeg", "--iterations", "1")
    assert coarser.exit_code == 0


def test_rows_that_a_bundle_tried_twice_has_left_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg.rgc").write_bytes(b"no .rgc file")
    job = DecompressJob(find_source(str(tmp_path)), str(tmp_path / "images"), "png", None)
    left = Path(rows_folder(job.output), f"restored={job.run_id}", "rows-left.parquet")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    options = PipelineOptions([])
    run(partial(decompress, job), choose_execution(options, "cpu"), options)
    assert not left.exists() and [row["status"] for row in restored(tmp_path / "images")] == ["failed"]
