from pathlib import Path

import pytest

from tests.storage import Storage
from transforms.find import find_files
from transforms.load import load_or_reject
from transforms.manifest.rows import Run
from transforms.storage.files import write_bytes

RUN = Run("run", "model", "{}")


def test_photos_are_loaded_or_rejected(photo_folder: Path) -> None:
    results = [load_or_reject(photo, RUN) for photo in find_files(str(photo_folder))]
    loaded = [result.value.photo.relative for result in results if result.tag == "loaded"]
    rejected = {
        Path(result.value.source_uri).name: result.value.status
        for result in results
        if result.tag == "rejected"
    }
    assert loaded == ["a.jpg", "trip/b.png"]
    assert rejected == {"notes.txt": "kept", "broken.jpg": "failed"}


@pytest.mark.parametrize("remote", [True, False])
def test_a_photo_that_was_replaced_since_it_was_listed_is_no_mixture(
    storage: Storage, photo_folder: Path, tmp_path: Path, remote: bool
) -> None:
    """Of one file's fingerprint and another's pixels: the next run would take it for finished."""
    uri = f"{'gs://archive' if remote else tmp_path}/c.jpg"
    write_bytes(uri, (photo_folder / "a.jpg").read_bytes())
    (photo,) = find_files(uri)
    write_bytes(uri, (photo_folder / "trip" / "b.png").read_bytes())
    result = load_or_reject(photo, RUN)
    assert (result.tag, result.value.status) == ("rejected", "failed")
    assert "another file is there by now" in result.value.reason
