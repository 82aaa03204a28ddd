"""The whole way on real photos, with the shipped model, through the command line."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.runs import codes, more_photos, rgc, rows, run_rows, start, wait_for

FAST = ["--iterations", "1"]
ON_DATAFLOW = ["--runner", "dataflow", "--project", "p", "--region", "r", "--temp_location", "gs://t/t"]
ON_DATAFLOW += ["--sdk_container_image", "worker"]


def rows_by_name(output: Path, run: int = -1) -> dict[str, dict[str, Any]]:
    found = run_rows(output, run)
    by_name = {Path(row["source_uri"]).name: row for row in found}
    assert len(by_name) == len(found)
    return by_name


def test_every_input_ends_in_one_row(photo_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = rgc("compress", photo_folder, output, *FAST)
    assert result.exit_code == 1  # one photo is broken
    assert "4 files: 2 encoded, 1 kept, 1 failed" in result.output
    assert "broken.jpg: truncated: it has no end marker" in result.output
    found = rows_by_name(output)
    assert {name: row["status"] for name, row in found.items()} == {
        "a.jpg": "encoded",
        "b.png": "encoded",
        "broken.jpg": "failed",
        "notes.txt": "kept",
    }
    for name, path in (("a.jpg", "a.jpg.rgc"), ("b.png", "trip/b.png.rgc")):
        row, written = found[name], output / "codes" / path
        assert row["rgc_uri"] == str(written)
        assert row["rgc_bytes"] == written.stat().st_size
        assert row["saved_bytes"] == row["source_bytes"] - row["rgc_bytes"]
        assert (row["width"], row["height"], row["iterations"]) == (160, 96, 1)
        assert 0.5 < row["ms_ssim"] < 1 and row["encode_seconds"] > 0
    assert not list(output.rglob("*.partial"))


def test_a_second_run_encodes_nothing_and_its_manifest_is_as_complete(
    photo_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    rgc("compress", photo_folder, output, *FAST)
    written = {path: path.stat().st_mtime_ns for path in (output / "codes").rglob("*.rgc")}
    result = rgc("compress", photo_folder, output, *FAST)
    assert (
        "3 of them were finished in an earlier run, 1 in this one" in result.output
    )  # the broken one is tried
    assert written == {path: path.stat().st_mtime_ns for path in (output / "codes").rglob("*.rgc")}
    first, second = rows_by_name(output, 0), rows_by_name(output, 1)
    for name in first:
        first[name].pop("run_id"), second[name].pop("run_id")
        if first[name]["status"] == "failed":
            first[name].pop("finished_at"), second[name].pop("finished_at")
    assert first == second


def test_rows_are_rebuilt_from_the_files_alone(photo_folder: Path, tmp_path: Path) -> None:
    """As after a run that was killed before it wrote its manifest."""
    output = tmp_path / "out"
    rgc("compress", photo_folder, output, *FAST)
    first = rows_by_name(output)
    for file in (output / "manifest").rglob("*.parquet"):
        file.unlink()
    rgc("compress", photo_folder, output, *FAST)
    second = rows_by_name(output)
    for name in ("a.jpg", "b.png"):
        for column in ("run_id", "finished_at", "encode_seconds"):
            first[name].pop(column), second[name].pop(column)
        assert first[name] == second[name]


def test_changed_sources_settings_and_damaged_outputs_are_encoded_again(
    photo_folder: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    output = tmp_path / "out"
    rgc("compress", photo_folder, output, *FAST)
    astronaut.resize((160, 96)).rotate(180).save(photo_folder / "a.jpg", quality=95)
    result = rgc("compress", photo_folder, output, *FAST)
    assert "2 of them were finished" in result.output  # b.png and notes.txt
    result = rgc("compress", photo_folder, output, "--target-ms-ssim", "0.9")
    assert "finished in an earlier run" not in result.output
    assert 0.9 <= rows_by_name(output)["a.jpg"]["ms_ssim"] < 0.95
    damaged = output / "codes" / "a.jpg.rgc"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = rgc("compress", photo_folder, output, "--target-ms-ssim", "0.9")
    assert "2 of them were finished" in result.output
    assert rows_by_name(output)["a.jpg"]["rgc_bytes"] == damaged.stat().st_size


def test_a_target_out_of_reach_keeps_the_original_and_is_not_tried_again(
    photo_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    rgc("compress", photo_folder / "a.jpg", output, "--target-ms-ssim", "0.999999")
    row = rows_by_name(output)["a.jpg"]
    assert row["status"] == "kept" and "0.999999 is out of reach" in row["reason"]
    assert not list(output.rglob("*.rgc"))
    result = rgc("compress", photo_folder / "a.jpg", output, "--target-ms-ssim", "0.999999")
    assert "1 of them were finished in an earlier run, 0 in this one" in result.output


@pytest.mark.parametrize(
    "source, output",
    [
        ("FOLDER", "FOLDER/out"),
        (".", "out"),
        ("FOLDER", "FOLDER"),
        ("FOLDER", "FOLDER/.."),
        ("LINK", "out"),
        ("FOLDER", "LINK/out"),
    ],
)
def test_output_may_lie_in_the_input_and_the_input_in_the_output(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str
) -> None:
    """What rgc has written is no input, and what lies in folders that are called as its own is."""
    monkeypatch.chdir(photo_folder)
    (tmp_path / "link").symlink_to(photo_folder)
    for name in ("codes", "manifest"):
        (photo_folder / name).mkdir()
        (photo_folder / name / "a.jpg").write_bytes((photo_folder / "a.jpg").read_bytes())
    places = {"FOLDER": str(photo_folder), "LINK": str(tmp_path / "link")}
    for _ in range(2):
        folders = [re.sub("FOLDER|LINK", lambda name: places[name[0]], path) for path in (source, output)]
        assert "6 files: 4 encoded" in rgc("compress", *folders, *FAST).output


def test_a_photo_is_known_by_its_place_however_it_is_spelled(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the audit would count it once for each spelling."""
    monkeypatch.chdir(photo_folder)
    output = photo_folder.parent / "out"
    spellings = [(photo_folder, output), ("trip/..", "../out"), (f"{photo_folder}/", f"{output}//")]
    for spelling in spellings:
        rgc("compress", *spelling, *FAST)
    found = [{row["source_uri"]: row["rgc_uri"] for row in run_rows(output, run)} for run in range(3)]
    assert found[0] == found[1] == found[2]
    assert json.loads(rgc("audit", output, "--json").output)["totals"]["photos"] == 4


def test_names_that_no_table_can_hold_are_failed_rows(photo_folder: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(photo_folder) + b"/caf\xe9.jpg")).write_bytes(b"x")
    result = rgc("compress", photo_folder, tmp_path / "out", *FAST)
    assert "5 files: 2 encoded, 1 kept, 2 failed" in result.output
    assert rows_by_name(tmp_path / "out")[r"caf\xe9.jpg"]["reason"] == "its name is not UTF-8"


def test_an_empty_folder_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = rgc("compress", tmp_path / "empty", tmp_path / "out")
    assert result.exit_code == 2 and "INPUT" in result.output


def test_a_kept_photo_leaves_no_file_of_an_earlier_run(photo_folder: Path, tmp_path: Path) -> None:
    photo, output = photo_folder / "a.jpg", tmp_path / "out"
    rgc("compress", photo, output, *FAST)
    assert list(output.rglob("*.rgc"))
    rgc("compress", photo, output, "--target-ms-ssim", "0.999999")
    assert not list(output.rglob("*.rgc"))
    assert json.loads(rgc("audit", output, "--json").output)["totals"]["kept"] == 1
    rgc("compress", photo, output, *FAST)
    rgc("compress", photo, output, "--target-ms-ssim", "0.999999")  # decided before
    assert not list(output.rglob("*.rgc"))
    assert json.loads(rgc("audit", output, "--json").output)["totals"]["kept"] == 1


def test_decompress_overwrites_no_other_file(photo_folder: Path, tmp_path: Path) -> None:
    rgc("compress", photo_folder, tmp_path / "out", *FAST)
    original = (photo_folder / "a.jpg").read_bytes()
    result = rgc("decompress", tmp_path / "out" / "codes", photo_folder, "--format", "jpeg")
    assert result.exit_code == 1 and "it stays; move it away" in result.output
    assert (photo_folder / "a.jpg").read_bytes() == original
    for _ in range(2):  # what it wrote itself is no obstacle
        result = rgc("decompress", tmp_path / "out" / "codes", tmp_path / "images")
        assert result.exit_code == 0


def test_originals_are_not_touched(photo_folder: Path, tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[bytes, int]]:
        files = [path for path in photo_folder.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = state()
    rgc("compress", photo_folder, tmp_path / "out", *FAST)
    assert state() == before


def test_there_and_back(photo_folder: Path, tmp_path: Path) -> None:
    rgc("compress", photo_folder, tmp_path / "out", *FAST)
    result = rgc("decompress", tmp_path / "out" / "codes", tmp_path / "images", "--format", "jpeg")
    assert result.exit_code == 0 and "2 decoded, 0 failed" in result.output
    with Image.open(tmp_path / "images" / "trip" / "b.png.jpg") as image:
        assert image.size == (160, 96)
    assert (tmp_path / "images" / "a.jpg").exists()


def test_decompress_names_what_it_cannot_decode(photo_folder: Path, tmp_path: Path) -> None:
    rgc("compress", photo_folder, tmp_path / "out", *FAST)
    damaged = tmp_path / "out" / "codes" / "a.jpg.rgc"
    data = bytearray(damaged.read_bytes())
    data[-20] ^= 1
    damaged.write_bytes(data)
    result = rgc("decompress", tmp_path / "out" / "codes", tmp_path / "images")
    assert result.exit_code == 1 and "1 decoded, 1 failed" in result.output
    assert str(damaged) in result.output and "damaged" in result.output


def test_audit_sums_up_the_manifest(photo_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for target in ("0.9", "0.95"):  # the latest row of each photo counts
        rgc("compress", photo_folder, output, "--target-ms-ssim", target)
    report = json.loads(rgc("audit", output, "--json").output)
    found = rows_by_name(output)
    totals = report["totals"]
    assert totals["photos"] == 4 and totals["encoded"] == 2
    assert totals["saved_bytes"] == sum(row["saved_bytes"] for row in found.values())
    assert totals["source_bytes"] == sum(row["source_bytes"] for row in found.values())
    sizes = sum(path.stat().st_size for path in (output / "codes").rglob("*.rgc"))
    kept = sum(row["source_bytes"] for row in found.values() if row["status"] != "encoded")
    assert totals["bytes_after"] == sizes + kept
    assert {group["folder"]: group["photos"] for group in report["by_folder"]} == {
        str(photo_folder): 2,
        str(photo_folder / "trip"): 2,
    }
    assert [Path(row["source_uri"]).name for row in report["failed"]] == ["broken.jpg"]
    table = rgc("audit", output / "manifest").output
    assert "By format" in table and "JPEG" in table and "PNG" in table
    missing = rgc("audit", tmp_path / "nothing")
    assert missing.exit_code == 1 and "nothing: no Parquet file" in missing.output


def test_single_files_and_info(photo_folder: Path, tmp_path: Path) -> None:
    photo, coded, decoded = photo_folder / "a.jpg", tmp_path / "a.rgc", tmp_path / "a.png"
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitude: (48.0, 8.0, 15.0)}
    with Image.open(photo) as image:
        image.save(photo, exif=exif, quality=95)
    assert rgc("encode", photo, coded, "--iterations", "2").exit_code == 0
    info = json.loads(rgc("info", coded, "--json").output)
    assert (info["width"], info["height"]) == (160, 96)
    assert [set(iteration) for iteration in info["iterations"]] == [{"bytes", "ms_ssim"}] * 2
    assert info["iterations"][-1]["bytes"] == coded.stat().st_size
    assert "iteration 2:" in rgc("info", coded).output

    assert rgc("decode", coded, tmp_path / "a.out", "--format", "jpeg").exit_code == 0
    with Image.open(tmp_path / "a.out") as image:
        gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert image.format == "JPEG" and gps[ExifTags.GPS.GPSLatitude] == (48.0, 8.0, 15.0)

    cut = tmp_path / "cut.rgc"
    cut.write_bytes(coded.read_bytes()[: info["iterations"][0]["bytes"]])
    rgc("decode", cut, decoded)
    rgc("decode", coded, tmp_path / "first.png", "--iterations", "1")
    with Image.open(decoded) as one, Image.open(tmp_path / "first.png") as other:
        assert np.array_equal(np.array(one), np.array(other))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["compress", "IN", "OUT", "--target-ms-ssim", "0.9", "--iterations", "2"], "--target-ms-ssim"),
        (["compress", "IN", "OUT", "--target-ms-ssim", "1.5"], "--target-ms-ssim"),
        (["compress", "IN", "OUT", "--max-bpp", "-1"], "--max-bpp"),
        (["compress", "IN", "OUT", "--no-such-option", "1"], "--no_such_option"),
        (["compress", "IN", "OUT", "stray"], "stray"),
        (["compress", "IN/missing", "OUT"], "INPUT"),
        (["compress", "IN", "OUT", "--iterations", "99"], "--iterations"),
        pytest.param(
            ["compress", "IN", "OUT", "--device", "cuda"],
            "--device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["decompress", "IN/missing", "OUT"], "INPUT"),
        (["decompress", "IN", "IN/a.jpg/out"], "OUTPUT"),
        (["compress", "s3://bucket/photos", "OUT"], "s3://bucket/photos: neither"),
        (["compress", "IN", "s3://bucket/out"], "OUTPUT"),
        (["decompress", "s3://bucket/codes", "OUT"], "INPUT"),
        (["estimate", "s3://bucket/photos"], "INPUT"),
        (["info", "s3://bucket/a.rgc"], "RGC"),
        (["encode", "s3://bucket/a.jpg", "a.rgc"], "PHOTO"),
        (["compress", "IN", "OUT", "--runner", "dataflow"], "--sdk_container_image"),
        (["compress", "IN", "OUT", *ON_DATAFLOW, "--device", "cpu"], "--device"),
        (["decode", "a.rgc", "a.xyz"], "--format"),
    ],
)
def test_wrong_calls_name_the_option(photo_folder: Path, arguments: list[str], message: str) -> None:
    result = rgc(*[argument.replace("IN", str(photo_folder)) for argument in arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_a_killed_run_loses_nothing(photo_folder: Path, tmp_path: Path) -> None:
    """SIGKILL after the first .rgc file: the next run goes on and leaves what a whole run leaves."""
    more_photos(photo_folder, 6)
    output, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    one_by_one = [*FAST, "--max-batch-pixels", "1"]
    process = start("compress", photo_folder, output, *one_by_one)
    wait_for("*.rgc", output, process)
    process.kill()
    process.wait()
    survivors = {path: path.stat().st_mtime_ns for path in output.rglob("*.rgc")}
    assert 1 <= len(survivors) < 8
    rgc("compress", photo_folder, output, *one_by_one)
    assert survivors == {path: path.stat().st_mtime_ns for path in survivors}
    rgc("compress", photo_folder, undisturbed, *one_by_one)
    assert codes(output) == codes(undisturbed)
    assert rows(output) == rows(undisturbed) and len(rows(output)) == 10


def test_worker_processes_do_the_same(photo_folder: Path, tmp_path: Path) -> None:
    options = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
    rgc("compress", photo_folder, tmp_path / "one", *FAST)
    rgc("compress", photo_folder, tmp_path / "two", *FAST, *options)
    columns = ("status", "reason", "rgc_bytes", "rgc_sha256")
    one, two = (
        {name: [row[column] for column in columns] for name, row in rows_by_name(tmp_path / folder).items()}
        for folder in ("one", "two")
    )
    assert one == two
