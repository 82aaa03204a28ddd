"""What is read back, decoded and measured; on real runs with the shipped model."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from model.codec import Codec
from pipeline.cli import app
from pipeline.verify import TOLERANCE, Finding, Verification, verify
from tests.storage import Storage, upload_folder
from transforms.manifest import manifest_files, read_table
from transforms.storage import delete_if_there, read_bytes, write_bytes

TARGET = ["--target-ms-ssim", "0.9"]


def rgc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def everything(output: str | Path, codec: Codec) -> Verification:
    return verify([str(output)], codec, None, 0)


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
    samples = [verify([str(tmp_path / "out")], shipped_codec, 3, seed) for seed in (1, 1, 2, 3, 4)]
    chosen = [frozenset(each.source_uri for each in sample.mismatches) for sample in samples]
    assert chosen[0] == chosen[1] and len(set(chosen)) > 1 and {len(each) for each in chosen} == {3}
    assert len(verify([str(tmp_path / "out")], shipped_codec, 50, 0).mismatches) == 7
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
    rgc("compress", photos, tmp_path / "out", "--iterations", "2")
    found = everything(tmp_path / "out", shipped_codec)
    table = pa.concat_tables(read_table(file) for file in manifest_files(str(tmp_path / "out")))
    good = table.filter(pc.field("ms_ssim") >= 0.95)["source_uri"].to_pylist()
    assert not found.mismatches and found.safe_to_delete == sorted(good) and len(good) < 7
    assert found.not_safe == {"MS-SSIM below 0.95": 7 - len(good)}


def test_originals_of_which_the_rgc_file_holds_a_part_are_not_safe(
    tmp_path: Path, astronaut: Image.Image, shipped_codec: Codec
) -> None:
    (tmp_path / "photos").mkdir()
    frames = [astronaut.resize((64, 64)).rotate(angle) for angle in (0, 90)]
    frames[0].save(tmp_path / "photos" / "two.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "photos" / "line\nbreak.tif")
    rgc("compress", tmp_path / "photos", tmp_path / "out", "--target-ms-ssim", "0.5")
    found = everything(tmp_path / "out", shipped_codec)
    assert found.checked == 2 and not found.mismatches and not found.safe_to_delete
    assert len(found.not_safe) == 2


def test_originals_that_moved_on(photos: Path, tmp_path: Path, shipped_codec: Codec) -> None:
    """One is gone, which says nothing against its .rgc file; one was touched, one cut off."""
    rgc("compress", photos, tmp_path / "out", *TARGET)
    (photos / "a.jpg").unlink()
    os.utime(photos / "turned0.jpg", (1, 1))
    (photos / "turned1.jpg").write_bytes((photos / "turned1.jpg").read_bytes()[:-1])
    found = everything(tmp_path / "out", shipped_codec)
    assert found.missing_sources == [str(photos / "a.jpg")]
    touched, cut = found.mismatches
    assert (touched.finding, cut.finding) == (Finding.SOURCE_CHANGED, Finding.SOURCE_CHANGED)
    assert "but the same content" in touched.detail and "in the manifest" in cut.detail
    assert len(found.safe_to_delete) == 4
    (photos / "turned2.jpg").unlink()
    (photos / "turned2.jpg").symlink_to(photos / "turned2.jpg")  # cannot be looked at
    assert [each.finding for each in everything(tmp_path / "out", shipped_codec).mismatches][2:] == [
        Finding.SOURCE_UNREADABLE
    ]
    (photos / "turned2.jpg").unlink()
    for photo in (photos / "turned0.jpg", photos / "turned1.jpg"):
        photo.unlink()
    result = rgc("audit", tmp_path / "out", "--verify", "all")
    assert result.exit_code == 0 and result.output.count("original not there: ") == 4


def test_what_a_row_claims_is_measured(photos: Path, tmp_path: Path, shipped_codec: Codec) -> None:
    rgc("compress", photos, tmp_path / "out", *TARGET)
    assert everything(tmp_path / "out", shipped_codec).largest_difference < TOLERANCE / 10
    (path,) = manifest_files(str(tmp_path / "out"))
    table = read_table(path)
    row = table["source_uri"].to_pylist().index(str(photos / "trip" / "grey.png"))
    values = table["ms_ssim"].to_pylist()
    values[row] += 2 * TOLERANCE
    column = table.schema.get_field_index("ms_ssim")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(values)), path)
    (wrong,) = everything(tmp_path / "out", shipped_codec).mismatches
    assert wrong.finding == Finding.QUALITY and wrong.difference == pytest.approx(-2 * TOLERANCE, abs=1e-4)


def test_files_of_another_model_do_not_decode(photos: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    rgc("compress", photos / "a.jpg", tmp_path / "out", *TARGET)
    (wrong,) = everything(tmp_path / "out", tiny_codec).mismatches
    assert wrong.finding == Finding.RGC_UNREADABLE and "rgc-0123456789ab" in wrong.detail


def test_objects(storage: Storage, photo_folder: Path, shipped_codec: Codec) -> None:
    upload_folder(photo_folder, "gs://archive/photos")
    rgc("compress", "gs://archive/photos", "gs://archive/out", *TARGET)
    listed = "gs://archive/originals.txt"
    arguments = ["audit", "gs://archive/out", "--verify", "all", "--safe-to-delete", listed]
    assert rgc(*arguments).exit_code == 0
    assert read_bytes(listed).decode().split() == [
        "gs://archive/photos/a.jpg",
        "gs://archive/photos/trip/b.png",
    ]
    write_bytes("gs://archive/photos/a.jpg", read_bytes("gs://archive/photos/a.jpg"))  # another generation
    delete_if_there("gs://archive/out/codes/trip/b.png.rgc")
    found = everything("gs://archive/out", shipped_codec)
    assert [each.finding for each in found.mismatches] == [Finding.SOURCE_CHANGED, Finding.RGC_MISSING]
    assert not found.safe_to_delete
