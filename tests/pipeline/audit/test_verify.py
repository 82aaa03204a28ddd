"""What is read back, decoded and measured; on real runs with the shipped model."""

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from model.codec import DEFAULT_TILE, Codec
from model.format.container import RgcFile, read_rgc
from model.format.metadata import MetadataBlocks
from model.photos.reading import read_photo
from model.settings import DEFAULT_TARGET_MS_SSIM, Settings
from pipeline.audit import verify as verify_module
from pipeline.audit.manifests import open_manifests
from pipeline.audit.verify import TOLERANCE, Check, CheckError, Finding, Verification, _check_border, verify
from pipeline.cli.main import app
from tests.runs import rows
from tests.storage import Storage, upload_folder
from transforms import load
from transforms.manifest.reading import manifest_files, read_table
from transforms.storage.files import delete_if_there, read_bytes, write_bytes

TARGET = ["--target-ms-ssim", "0.9"]


def rgc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def checked(
    output: str | Path, codec: Codec, count: int | None = None, seed: int = 0, console: Console | None = None
) -> Verification:
    with open_manifests([str(output)]) as database:
        return verify(database, codec, count, seed, console)


def change_rows(output: Path, column: str, values: dict[str, Any]) -> None:
    """Rewrites a manifest with other values, by the photo's name."""
    for path in manifest_files(str(output)):
        table = read_table(path)
        names = [Path(uri).name for uri in table["source_uri"].to_pylist()]
        old = zip(names, table[column].to_pylist(), strict=True)
        changed = [values.get(name, value) for name, value in old]
        index = table.schema.get_field_index(column)
        field = table.schema.field(index)
        pq.write_table(table.set_column(index, field, pa.array(changed, field.type)), path)


@pytest.fixture
def photos(photo_folder: Path, astronaut: Image.Image) -> Path:
    """Seven good photos, one broken one and a text file."""
    for number, angle in enumerate((0, 90, 180, 270)):
        astronaut.rotate(angle).resize((96, 160)).save(photo_folder / f"turned{number}.jpg", quality=95)
    astronaut.convert("L").resize((100, 70)).save(photo_folder / "trip" / "grey.png")
    return photo_folder


def test_exactly_what_is_wrong_is_found_and_not_safe(photos: Path, tmp_path: Path) -> None:
    output, listed = tmp_path / "out", tmp_path / "originals.txt"
    rgc("compress", photos, output, *TARGET)
    sound = rgc("audit", output, "--verify", "all", "--safe-to-delete", listed)
    assert sound.exit_code == 0, sound.output
    assert "verified 7 of 7 encoded photos: 7 are as the manifest says" in sound.output
    names = {
        "a.jpg",
        "turned0.jpg",
        "turned1.jpg",
        "turned2.jpg",
        "turned3.jpg",
        "trip/b.png",
        "trip/grey.png",
    }
    assert set(listed.read_text().splitlines()) == {str(photos / name) for name in names}

    flipped, deleted = output / "codes" / "a.jpg.rgc", output / "codes" / "trip" / "b.png.rgc"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    deleted.unlink()
    with Image.open(photos / "turned1.jpg") as image:
        edited = image.point(lambda value: 255 - value)
    edited.save(photos / "turned1.jpg", quality=95)

    result = rgc("audit", output, "--verify", "all", "--safe-to-delete", listed, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)["verification"]
    assert {Path(each["source_uri"]).name: each["finding"] for each in found["mismatches"]} == {
        "a.jpg": Finding.RGC_CHANGED,
        "b.png": Finding.RGC_MISSING,
        "turned1.jpg": Finding.SOURCE_CHANGED,
    }
    assert (found["checked"], found["safe_to_delete"]) == (7, 4)
    assert set(listed.read_text().splitlines()) == {
        str(photos / name) for name in names - {"a.jpg", "trip/b.png", "turned1.jpg"}
    }
    told = rgc("audit", output, "--verify", "all").output
    assert told.count("mismatch: ") == 3 and f"mismatch: {photos}/a.jpg: .rgc file changed: sha256" in told
    assert len(list(photos.rglob("*.*"))) == 9  # it deletes nothing


def test_a_sample_is_chosen_by_its_seed(photos: Path, tmp_path: Path, shipped_codec: Codec) -> None:
    rgc("compress", photos, tmp_path / "out", "--iterations", "1")
    for damaged in (tmp_path / "out" / "codes").rglob("*.rgc"):
        damaged.write_bytes(b"")  # so that each photo that is looked at is named
    samples = [checked(tmp_path / "out", shipped_codec, 3, seed) for seed in (1, 1, 2, 3, 4)]
    chosen = [frozenset(each.source_uri for each in sample.mismatches) for sample in samples]
    assert chosen[0] == chosen[1] and len(set(chosen)) > 1 and {len(each) for each in chosen} == {3}
    assert len(checked(tmp_path / "out", shipped_codec, 50).mismatches) == 7
    result = rgc("audit", tmp_path / "out", "--verify", "2", "--seed", "5")
    assert (
        result.exit_code == 1 and "verified 2 of 7 encoded photos, chosen by seed 5: 0 are" in result.output
    )
    assert ", chosen by seed " in rgc("audit", tmp_path / "out", "--verify", "1").output


@pytest.mark.parametrize("verified", [[], ["--verify", "5"]])
def test_nothing_is_promised_without_looking_at_all(tmp_path: Path, verified: list[str]) -> None:
    listed = tmp_path / "originals.txt"
    result = rgc("audit", tmp_path, *verified, "--safe-to-delete", listed)
    assert result.exit_code == 2 and "--safe-to-delete" in result.output
    assert not listed.exists()
    for wrong in ("0", "-1", "some"):
        assert rgc("audit", tmp_path, "--verify", wrong).exit_code == 2


def test_without_a_target_the_default_one_is_asked_for(
    photos: Path, tmp_path: Path, shipped_codec: Codec
) -> None:
    rgc("compress", photos, tmp_path / "out", "--max-bpp", "0.6")
    found = checked(tmp_path / "out", shipped_codec)
    table = pa.concat_tables(read_table(file) for file in manifest_files(str(tmp_path / "out")))
    good = table.filter(pc.field("ms_ssim") >= DEFAULT_TARGET_MS_SSIM)["source_uri"].to_pylist()
    below = len(table.filter(pc.field("ms_ssim") < DEFAULT_TARGET_MS_SSIM))
    assert not found.mismatches and found.safe_to_delete == sorted(good) and below
    assert found.not_safe == {f"MS-SSIM below {DEFAULT_TARGET_MS_SSIM}": below}


def test_originals_of_which_the_rgc_file_holds_a_part_are_not_safe(
    tmp_path: Path, astronaut: Image.Image, shipped_codec: Codec
) -> None:
    (tmp_path / "photos").mkdir()
    frames = [astronaut.resize((64, 64)).rotate(angle) for angle in (0, 90)]
    frames[0].save(tmp_path / "photos" / "two.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "photos" / "line\nbreak.tif")
    frames[0].save(tmp_path / "photos" / "[a]*.png")  # which is local, and no pattern in a list
    deep = np.array(frames[0]).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "photos" / "deep.tif", deep, photometric="rgb")
    rgc("compress", tmp_path / "photos", tmp_path / "out", "--target-ms-ssim", "0.5")
    found = checked(tmp_path / "out", shipped_codec)
    assert found.checked == found.sound == 4
    assert found.safe_to_delete == [str(tmp_path / "photos" / "[a]*.png")]
    assert found.not_safe == {
        "not in the .rgc file: the first of 2 frames": 1,
        "not in the .rgc file: 16 bits reduced to 8": 1,
        "a line break in its name, which a list cannot hold": 1,
    }


def test_what_an_earlier_rgc_did_not_note_is_found_in_the_original(
    photos: Path, tmp_path: Path, shipped_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (photos / "a.jpg").read_bytes()
    comment = b"\xff\xfe\0\x0bin words "
    (photos / "a.jpg").write_bytes(data[:2] + comment + data[2:])
    monkeypatch.setattr(
        load, "read_photo_in_child", lambda data: replace(read_photo(data), metadata=MetadataBlocks("JPEG"))
    )
    rgc("compress", photos / "a.jpg", tmp_path / "out", *TARGET)
    monkeypatch.undo()
    missing = "not in the .rgc file: metadata that differs: APP0, COM"
    assert checked(tmp_path / "out", shipped_codec).not_safe == {missing: 1}


def test_the_quality_that_counts_is_the_one_measured(
    photos: Path, tmp_path: Path, shipped_codec: Codec
) -> None:
    rgc("compress", photos / "a.jpg", tmp_path / "out", *TARGET)
    (row,) = rows(tmp_path / "out").values()
    target = row["ms_ssim"] + 0.0005  # just out of reach, and within what machines may differ by
    change_rows(tmp_path / "out", "ms_ssim", {"a.jpg": target})
    change_rows(tmp_path / "out", "settings", {"a.jpg": Settings(target_ms_ssim=target).to_json()})
    found = checked(tmp_path / "out", shipped_codec)
    assert not found.mismatches and found.not_safe == {f"MS-SSIM below {target}": 1}


@pytest.mark.parametrize("name", ["IMG*.jpg", "what?.jpg", "a[1].jpg", "a#123", "a.jpg "])
def test_names_that_gcloud_takes_for_others_are_not_listed(name: str) -> None:
    assert "gcloud" in verify_module._why_not_in_a_list(f"gs://bucket/{name}")
    assert verify_module._why_not_in_a_list(f"/photos/{name}") == ""


def test_one_photo_does_not_end_what_has_taken_hours(
    photos: Path, tmp_path: Path, shipped_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these rows and files is one finding, and the others are verified."""
    rgc("compress", photos, tmp_path / "out", *TARGET)
    change_rows(tmp_path / "out", "rgc_uri", {"a.jpg": None, "b.png": "s3://bucket/b.png.rgc"})
    change_rows(tmp_path / "out", "ms_ssim", {"grey.png": None})
    decode = Codec.decode

    def failing(codec: Codec, file: RgcFile, tile: int = DEFAULT_TILE) -> NDArray[np.uint8]:
        if file.exif == b"too large" and tile == DEFAULT_TILE:
            raise MemoryError
        if file.exif == b"odd":
            raise RuntimeError("internal error")
        return decode(codec, file, tile)

    monkeypatch.setattr(Codec, "decode", failing)
    sums = {}
    for name, exif in (("turned0.jpg", b"too large"), ("turned1.jpg", b"odd")):
        path = tmp_path / "out" / "codes" / f"{name}.rgc"
        path.write_bytes(replace(read_rgc(path.read_bytes()), exif=exif).to_bytes())
        sums[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    change_rows(tmp_path / "out", "rgc_sha256", sums)
    found = checked(tmp_path / "out", shipped_codec)
    assert [(Path(each.source_uri).name, each.finding, each.detail) for each in found.mismatches] == [
        ("a.jpg", Finding.ROW_INCOMPLETE, "no rgc_uri"),
        ("b.png", Finding.NOT_CHECKED, found.mismatches[1].detail),
        ("grey.png", Finding.ROW_INCOMPLETE, "no ms_ssim"),
        ("turned1.jpg", Finding.NOT_CHECKED, "RuntimeError: internal error"),
    ]
    assert "s3://bucket/b.png.rgc: neither a local path" in found.mismatches[1].detail
    assert {Path(uri).name for uri in found.safe} == {"turned0.jpg", "turned2.jpg", "turned3.jpg"}


def test_originals_that_are_changed_after_their_check_are_not_listed(
    photos: Path, tmp_path: Path, shipped_codec: Codec
) -> None:
    rgc("compress", photos, tmp_path / "out", *TARGET)
    found = checked(tmp_path / "out", shipped_codec)
    assert len(found.safe_to_delete) == 7 and found.is_complete
    (photos / "a.jpg").write_bytes(b"edited")
    (photos / "turned0.jpg").unlink()
    found.drop_changed()
    assert len(found.safe_to_delete) == 5 and not found.is_complete
    assert {each.detail.split(" ")[3] for each in found.mismatches} == {"fingerprint", "not"}
    assert found.not_safe == {Finding.SOURCE_CHANGED: 2}


def test_a_list_that_cannot_be_written_is_known_before_the_work(photos: Path, tmp_path: Path) -> None:
    rgc("compress", photos / "a.jpg", tmp_path / "out", *TARGET)
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file" / "list.txt", "s3://bucket/list.txt"):
        result = rgc("audit", tmp_path / "out", "--verify", "all", "--safe-to-delete", bad)
        assert result.exit_code == 2 and "--safe-to-delete" in result.output
        assert "1 files" not in result.output
    listed = tmp_path / "list.txt"
    listed.write_text("/an/earlier/one.jpg\n")
    result = rgc("audit", tmp_path / "nowhere", "--verify", "all", "--safe-to-delete", listed)
    assert result.exit_code == 1 and listed.read_text() == ""


def test_a_list_that_can_no_longer_be_written_costs_no_findings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgc("compress", photos / "a.jpg", tmp_path / "out", *TARGET)

    def full(_path: str, data: bytes) -> None:
        if data:
            raise OSError("No space left on device")

    monkeypatch.setattr("pipeline.cli.commands.audit.write_bytes", full)
    result = rgc("audit", tmp_path / "out", "--verify", "all", "--safe-to-delete", tmp_path / "list.txt")
    assert result.exit_code == 2 and "No space left" in result.output
    assert "verified 1 of 1 encoded photos: 1 are as the manifest says" in result.output


def test_a_log_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "SECONDS_BETWEEN_LINES", 0.0)
    log = io.StringIO()
    assert list(verify_module._shown("abc", "verified", 3, Console(file=log))) == ["a", "b", "c"]
    assert log.getvalue().splitlines() == [f"verified {done} of 3 photos" for done in range(3)]


def test_missing_originals_are_named_up_to_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    verification = Verification(encoded=150, seed=None)
    for number in range(150):
        verification.count(Check(f"/p/{number}.jpg", None, Finding.SOURCE_MISSING, why_not_safe="gone"))
    verify_module.print_verification(verification, Console())
    lines = capsys.readouterr().out.splitlines()
    assert "150 could not be compared" in "".join(lines) and "50 more" in lines[-1]
    assert sum(line.startswith("original not there: /p/") for line in lines) == 100


def test_originals_that_moved_on(photos: Path, tmp_path: Path, shipped_codec: Codec) -> None:
    """One is gone, which says nothing against its .rgc file; one was touched, one cut off."""
    rgc("compress", photos, tmp_path / "out", *TARGET)
    (photos / "a.jpg").unlink()
    os.utime(photos / "turned0.jpg", (1, 1))
    (photos / "turned1.jpg").write_bytes((photos / "turned1.jpg").read_bytes()[:-1])
    found = checked(tmp_path / "out", shipped_codec)
    assert found.missing_sources == [str(photos / "a.jpg")]
    touched, cut = found.mismatches
    assert (touched.finding, cut.finding) == (Finding.SOURCE_CHANGED, Finding.SOURCE_CHANGED)
    assert "but the same content" in touched.detail and "in the manifest" in cut.detail
    assert len(found.safe_to_delete) == 4
    (photos / "turned2.jpg").unlink()
    (photos / "turned2.jpg").symlink_to(photos / "turned2.jpg")  # cannot be looked at
    assert [each.finding for each in checked(tmp_path / "out", shipped_codec).mismatches][2:] == [
        Finding.SOURCE_UNREADABLE
    ]
    (photos / "turned2.jpg").unlink()
    for photo in (photos / "turned0.jpg", photos / "turned1.jpg"):
        photo.unlink()
    result = rgc("audit", tmp_path / "out", "--verify", "all")
    assert result.exit_code == 1 and result.output.count("original not there: ") == 4
    assert "4 could not be compared, their originals are not there: deleted, or on a disk" in result.output


def test_what_a_row_claims_is_measured(photos: Path, tmp_path: Path, shipped_codec: Codec) -> None:
    rgc("compress", photos, tmp_path / "out", *TARGET)
    assert checked(tmp_path / "out", shipped_codec).largest_difference < TOLERANCE / 10
    with open_manifests([str(tmp_path / "out")]) as database:
        (said,) = database.execute("SELECT ms_ssim FROM latest WHERE source_uri LIKE '%grey%'").fetchall()
    change_rows(tmp_path / "out", "ms_ssim", {"grey.png": said[0] + 2 * TOLERANCE})
    (wrong,) = checked(tmp_path / "out", shipped_codec).mismatches
    assert wrong.finding == Finding.QUALITY and wrong.difference == pytest.approx(-2 * TOLERANCE, abs=1e-4)


def test_files_of_another_released_model_are_verified_by_it(
    photos: Path, tmp_path: Path, tiny_codec: Codec
) -> None:
    rgc("compress", photos / "a.jpg", tmp_path / "out", *TARGET)
    assert not checked(tmp_path / "out", tiny_codec).mismatches


def test_a_frame_of_wrong_pixels_is_found(astronaut_pixels: NDArray[np.uint8]) -> None:
    decoded = astronaut_pixels.copy()
    decoded[:4] = np.clip(decoded[:4] + 30.0, 0, 255)
    decoded[:, -4:] //= 2
    _check_border(astronaut_pixels, astronaut_pixels)
    with pytest.raises(
        CheckError, match=r"error of \d+\.\d grey levels in the outermost 4 pixels, 0\.0 inside"
    ):
        _check_border(decoded, astronaut_pixels)


def test_objects(
    storage: Storage, photo_folder: Path, shipped_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(photo_folder, "gs://archive/photos")
    rgc("compress", "gs://archive/photos", "gs://archive/out", *TARGET)
    listed = "gs://archive/originals.txt"
    read: list[str] = []
    counting = "transforms.manifest.reading.read_bytes"
    monkeypatch.setattr(counting, lambda uri: read.append(uri) or read_bytes(uri))
    arguments = ["audit", "gs://archive/out", "--verify", "all", "--safe-to-delete", listed]
    result = rgc(*arguments, "--html", "gs://archive/audit.html")
    assert result.exit_code == 0, result.output
    assert read == manifest_files("gs://archive/out")  # each file once, for all three
    assert read_bytes(listed).decode().split() == [
        "gs://archive/photos/a.jpg",
        "gs://archive/photos/trip/b.png",
    ]
    write_bytes("gs://archive/photos/a.jpg", read_bytes("gs://archive/photos/a.jpg"))  # another generation
    delete_if_there("gs://archive/out/codes/trip/b.png.rgc")
    found = checked("gs://archive/out", shipped_codec)
    assert [each.finding for each in found.mismatches] == [Finding.SOURCE_CHANGED, Finding.RGC_MISSING]
    assert not found.safe_to_delete
