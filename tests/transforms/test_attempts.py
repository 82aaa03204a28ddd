"""Photos that end the process in which they are encoded. Here an uncaught exception stands for that."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.photos.reading import DecodedPhoto
from tests.storage import Storage
from transforms.attempts import ENDED_ITS_PROCESS, Attempts, remove_words
from transforms.elements import Encoded, LoadedPhoto, Photo
from transforms.storage.files import list_folder, write_bytes

PIXELS = DecodedPhoto(np.zeros((1, 1, 3), np.uint8), False, "PNG")


class Ended(BaseException):
    pass


class Worker:
    """Tries bundles like a runner: some photos end its process."""

    def __init__(self, folder: str, killers: str) -> None:
        self.folder = folder
        self.killers = killers
        self.groups: list[str] = []

    def encode(self, group: Sequence[LoadedPhoto]) -> list[Encoded]:
        self.groups.append("".join(loaded.photo.uri for loaded in group))
        if set(self.groups[-1]) & set(self.killers):
            raise Ended
        return [self.result(loaded) for loaded in group]

    def result(self, loaded: LoadedPhoto, error: str = "") -> Encoded:
        return Encoded(loaded.photo, "", "PNG", 1, 1, None, error, 0.0)

    def try_group(self, photos: str) -> dict[str, str]:
        """Errors by photo; each try is another process's."""
        group = [LoadedPhoto(Photo(name, name, 1, "f"), "", PIXELS) for name in photos]
        results = Attempts(self.folder).encode(group, self.encode, self.result)
        return {result.photo.uri: result.error for result in results}

    def word(self) -> int:
        return sum("/encoding" in status.uri for status in list_folder(self.folder))


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, storage: Storage, tmp_path: Path) -> str:
    return f"{tmp_path if request.param == 'local' else 'gs://archive'}/manifest/run=1"


def test_a_photo_that_ends_its_process_fails_the_third_time_and_takes_no_other_along(folder: str) -> None:
    worker = Worker(folder, "c")
    for _ in range(2):
        with pytest.raises(Ended):
            worker.try_group("abcd")
    assert worker.try_group("abcd") == {"a": "", "b": "", "c": ENDED_ITS_PROCESS, "d": ""}
    assert worker.groups == ["abcd", "a", "b", "c", "ab", "d"]
    assert worker.word() == 2
    assert worker.try_group("ce") == {"c": ENDED_ITS_PROCESS, "e": ""}  # whatever else ends the bundle


def test_what_ended_with_its_process_once_is_encoded_by_itself(folder: str) -> None:
    worker = Worker(folder, "b")
    with pytest.raises(Ended):
        worker.try_group("ab")
    worker.killers = ""
    assert worker.try_group("abc") == {"a": "", "b": "", "c": ""}
    assert worker.groups == ["ab", "c", "a", "b"] and worker.word() == 0
    assert worker.try_group("ab") == {"a": "", "b": ""} and worker.groups[-1] == "ab"


def test_what_is_left_of_a_run_and_those_before_it_is_removed_and_nothing_else(folder: str) -> None:
    for run in "123":
        with pytest.raises(Ended):
            Worker(f"{folder[:-1]}{run}", "a").try_group("ab")
        write_bytes(f"{folder[:-1]}{run}/encoding-notes.txt", b"")
    remove_words(f"{folder[:-1]}2")
    left = [file.uri for file in list_folder(folder.rpartition("/")[0])]
    assert len(left) == 5 and sum(uri.endswith("/encoding-notes.txt") for uri in left) == 3
    assert Worker(f"{folder[:-1]}3", "").word() == 3


def test_photos_are_encoded_where_no_word_can_be_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert Worker(str(tmp_path / "file"), "").try_group("ab") == {"a": "", "b": ""}
