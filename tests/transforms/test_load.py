from dataclasses import replace
from pathlib import Path

import pytest

from model.codec import Codec
from model.settings import Settings
from tests.storage import Storage
from transforms.encode import EncodeHandler
from transforms.find import find_files
from transforms.load import LOADED, SETTLED, load_or_settle, load_photo
from transforms.manifest.rows import Run
from transforms.storage.files import write_bytes
from transforms.write import write_rgc

RUN = Run("run", "model", "{}")


def test_photos_are_loaded_or_settled(photo_folder: Path, tmp_path: Path) -> None:
    results = [load_or_settle(photo, RUN, str(tmp_path / "out")) for photo in find_files(str(photo_folder))]
    loaded = [result.value.photo.relative for result in results if result.tag == "loaded"]
    settled = {
        Path(result.value.source_uri).name: result.value.status
        for result in results
        if result.tag == "settled"
    }
    assert loaded == ["a.jpg", "trip/b.png"]
    assert settled == {"notes.txt": "kept", "broken.jpg": "failed"}


@pytest.mark.parametrize("remote", [True, False])
def test_a_bundle_that_is_tried_again_encodes_only_what_it_had_not_written(
    storage: Storage, photo_folder: Path, tmp_path: Path, tiny_codec: Codec, remote: bool
) -> None:
    settings, output = Settings(iterations=1), "gs://archive/out" if remote else str(tmp_path / "out")
    run = Run("run", tiny_codec.model_id, settings.to_json())
    written, left = [
        photo for photo in find_files(str(photo_folder)) if photo.uri.endswith(("a.jpg", "b.png"))
    ]
    handler = EncodeHandler(settings, "cpu", 1, None)
    (encoded,) = handler.run_inference([load_photo(written)], tiny_codec)
    row = write_rgc(encoded, run, settings, output)
    assert row.status == "encoded"

    again = load_or_settle(written, run, output)
    assert again.tag == SETTLED
    assert replace(again.value, finished_at=row.finished_at, encode_seconds=row.encode_seconds) == row
    assert load_or_settle(left, run, output).tag == LOADED
    for other in (replace(run, model="rgc-other"), replace(run, settings=Settings(iterations=2).to_json())):
        assert load_or_settle(written, other, output).tag == LOADED


@pytest.mark.parametrize("remote", [True, False])
def test_a_photo_that_was_replaced_since_it_was_listed_is_no_mixture(
    storage: Storage, photo_folder: Path, tmp_path: Path, remote: bool
) -> None:
    """Of one file's fingerprint and another's pixels: the next run would take it for finished."""
    uri = f"{'gs://archive' if remote else tmp_path}/c.jpg"
    write_bytes(uri, (photo_folder / "a.jpg").read_bytes())
    (photo,) = find_files(uri)
    write_bytes(uri, (photo_folder / "trip" / "b.png").read_bytes())
    result = load_or_settle(photo, RUN, str(tmp_path / "out"))
    assert (result.tag, result.value.status) == ("settled", "failed")
    assert "another file is there by now" in result.value.reason
