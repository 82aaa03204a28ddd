import threading
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from pipeline.runner import local_runner
from transforms import decode
from transforms.decode import LOADED, REJECTED, LoadPhotos
from transforms.elements import Photo
from transforms.find import find_files
from transforms.manifest import Run

RUN = Run("run", "model", "{}")


def check(folder: Path, stop_path: str | None, expected: tuple[list[str], list[str]]) -> None:
    """Compares what is loaded and what is rejected, through Beam: the ends of bundles count too."""
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        photos = pipeline | beam.Create(list(find_files(str(folder))))
        results = photos | beam.ParDo(LoadPhotos(RUN, stop_path)).with_outputs(LOADED, REJECTED)
        names = results[LOADED] | beam.Map(lambda loaded: loaded.photo.relative)
        reasons = results[REJECTED] | "Names" >> beam.Map(lambda row: Path(row.source_uri).name)
        assert_that(names, equal_to(expected[0]), label="loaded")
        assert_that(reasons, equal_to(expected[1]), label="rejected")


def test_every_photo_comes_out_once(photo_folder: Path) -> None:
    check(photo_folder, None, (["a.jpg", "trip/b.png"], ["notes.txt", "broken.jpg"]))


def test_asked_to_stop_photos_are_passed_over(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    check(photo_folder, str(tmp_path / "stop"), ([], []))


def test_the_next_photos_are_loaded_while_one_is_being_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [threading.Event() for _ in range(4)]

    def slow_load(photo: Photo, run: Run) -> None:
        begun[int(photo.relative)].set()

    monkeypatch.setattr(decode, "load_or_reject", slow_load)
    load_photos = LoadPhotos(RUN)
    load_photos.setup()
    photos = [Photo(str(number), str(number), 1, "") for number in range(4)]
    for photo in photos[:3]:
        list(load_photos.process(photo))
    # The first one is out and would be encoded now; the two after it are under way by themselves.
    assert begun[1].wait(5) and begun[2].wait(5) and not begun[3].is_set()
    load_photos.teardown()
