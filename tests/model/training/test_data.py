import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.training.data import PhotoSet, crops


def test_crops_come_from_folders_and_tar_files_alike(photos: PhotoSet, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "photos", "photos")
    from_tar = PhotoSet(tmp_path / "photos.tar", memory=0)
    assert len(from_tar) == len(photos) == 2
    assert all(np.array_equal(from_tar[i], photos[i]) for i in range(2))
    one, other = (next(crops([source], 64, 4, seed=(3,))) for source in (photos, photos))
    assert one.shape == (4, 3, 64, 64) and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, other)


def test_all_sets_count_alike_whatever_their_size(photos: PhotoSet, tmp_path: Path) -> None:
    (tmp_path / "white").mkdir()
    Image.new("RGB", (80, 80), "white").save(tmp_path / "white" / "a.png")
    batch = next(crops([photos, PhotoSet(tmp_path / "white")], 32, 200, seed=(0,)))
    white = (batch.amin(dim=(1, 2, 3)) > 0.99).float().mean()
    assert 0.4 < white < 0.6


def test_photos_smaller_than_a_crop_are_an_error(photos: PhotoSet) -> None:
    with pytest.raises(ValueError, match="smaller than a crop of 500 pixels"):
        next(crops([photos], 500, 2, seed=(0,)))


def test_no_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no photos under {tmp_path}"):
        PhotoSet(tmp_path)


def test_a_broken_photo_is_named_and_left_out(
    photos: PhotoSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    batch = next(crops([PhotoSet(tmp_path / "photos")], 64, 16, seed=(0,)))
    assert batch.shape == (16, 3, 64, 64)
    assert 1 <= caplog.text.count("broken.jpg") <= 2  # two threads may come upon it at the same time
