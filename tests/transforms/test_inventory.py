"""An inventory instead of a listing: the same photos, and clear words where it is none."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.runs import rgc, run_rows
from tests.storage import Storage, upload_folder
from transforms.elements import Photo
from transforms.find import cut_source, find_source, list_source, with_inventory
from transforms.storage.gcs import client

INPUT = "gs://archive/photos"
HEADER = "project,bucket,name,size,updated,crc32c,generation"


def objects() -> list[tuple[str, str, str, str, str, str, str]]:
    """Of the whole bucket, in no order, as an inventory report says it."""
    blobs = client().list_blobs("archive")
    listed = [
        ("1", "archive", b.name, str(b.size), str(b.updated), b.crc32c, str(b.generation)) for b in blobs
    ]
    return listed[::-1]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: str = HEADER) -> str:
    lines = [header, *(",".join(f'"{value}"' for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def read(inventory: str) -> list[Photo]:
    source = with_inventory(find_source(INPUT), inventory)
    return [photo for part in cut_source(source) for photo in list_source(part)]


def test_an_inventory_names_the_photos_that_a_listing_finds(
    storage: Storage, photo_folder: Path, tmp_path: Path
) -> None:
    (photo_folder / "best, 2019").mkdir()
    (photo_folder / "best, 2019" / "ü#.jpg").write_bytes((photo_folder / "a.jpg").read_bytes())
    upload_folder(photo_folder, INPUT)
    upload_folder(photo_folder, "gs://archive/photos of others")
    listed = list(list_source(find_source(INPUT)))
    assert len(listed) == 5
    assert read(write_csv(tmp_path / "one.csv", objects())) == listed
    folder = tmp_path / "report"
    folder.mkdir()
    table = pa.table(list(zip(*objects(), strict=True)), HEADER.split(","))
    for name in ("size", "generation"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int64()))
    for number in range(2):
        pq.write_table(table[number * 5 : number * 5 + 5], folder / f"{number}.parquet")
    assert sorted(read(str(folder)), key=lambda photo: photo.uri) == listed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crc32c": "checksum"}, r"bad.csv: no column crc32c among project, bucket, name, size"),
        ({"a.jpg": "a.jpg", "AAAAAA==": ""}, r"bad.csv: photos/a.jpg: size 12, generation 3, crc32c : two"),
        ({'"12"': '"12 kB"'}, r"bad.csv: photos/a.jpg: size 12 kB, generation 3, crc32c AAAAAA==: two whole"),
        ({'"12",': ""}, r"bad.csv: no inventory: CSV parse error"),
    ],
)
def test_what_is_no_inventory_is_said_before_the_run(
    storage: Storage, photo_folder: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    upload_folder(photo_folder, INPUT)
    path = tmp_path / "bad.csv"
    text = Path(write_csv(path, [("1", "archive", "photos/a.jpg", "12", "", "AAAAAA==", "3")])).read_text()
    for old, new in change.items():
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(str(path))


def test_only_a_prefix_has_an_inventory(storage: Storage, photo_folder: Path, tmp_path: Path) -> None:
    upload_folder(photo_folder, INPUT)
    with pytest.raises(FileNotFoundError, match=r"nothing: no \.csv or \.parquet file"):
        read(str(tmp_path / "nothing"))
    for source in (str(photo_folder), f"{INPUT}/a.jpg", f"{INPUT}/*.jpg"):
        with pytest.raises(ValueError, match="an inventory is of a gs:// prefix"):
            with_inventory(find_source(source), str(tmp_path))


def test_a_run_by_an_inventory(storage: Storage, photo_folder: Path, tmp_path: Path) -> None:
    """What is not in it is not compressed; what is no longer as it says has failed."""
    upload_folder(photo_folder, INPUT)
    rows = [row for row in objects() if row[2] != "photos/trip/b.png"]
    gone = ("1", "archive", "photos/gone.jpg", "9", "", "AAAAAA==", "3")
    inventory = write_csv(tmp_path / "objects.csv", [*rows, gone])
    result = rgc("compress", INPUT, "gs://archive/out", "--iterations", 1, "--inventory", inventory)
    assert result.exit_code == 1, result.output
    found = {
        row["source_uri"].removeprefix(f"{INPUT}/"): row["status"] for row in run_rows("gs://archive/out")
    }
    assert found == {
        "a.jpg": "encoded",
        "notes.txt": "kept",
        "trip/broken.jpg": "failed",
        "gone.jpg": "failed",
    }
    result = rgc("compress", INPUT, "gs://archive/out", "--inventory", str(tmp_path / "nothing.csv"))
    assert result.exit_code == 2 and "--inventory" in result.output
