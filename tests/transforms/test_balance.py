import random
from collections import Counter, defaultdict

import pytest

from transforms.balance import assign_shards, size_class, with_group
from transforms.elements import Photo


def photo(number: int, size: int) -> Photo:
    return Photo(f"{number}.jpg", f"{number}.jpg", size, "")


def shards_of(sizes: list[int], workers: int) -> tuple[list[list[Photo]], int]:
    """The shards, and how many photos the largest group has."""
    photos = [photo(number, size) for number, size in enumerate(sizes)]
    counts = Counter(map(size_class, photos))
    groups: dict[tuple[int, int], list[Photo]] = defaultdict(list)
    for each in photos:
        group, _ = with_group(each, counts)
        groups[group].append(each)
    shards: dict[int, list[Photo]] = defaultdict(list)
    for group in groups.items():
        for shard, assigned in assign_shards(group, workers, counts):
            shards[shard].append(assigned)
    assert sum(map(len, shards.values())) == len(photos)
    return list(shards.values()), max(map(len, groups.values()))


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_workers_get_like_bytes_whatever_the_mixture(workers: int) -> None:
    """A folder of panoramas among thumbnails: by count alone, one worker could get most of them."""
    generator = random.Random(0)
    sizes = [50_000_000] * 21 + [generator.randrange(2_000, 20_000) for _ in range(400)] + [3_000_000] * 70
    shards, _ = shards_of(sizes, workers)
    loads = [sum(photo.size for photo in shard) for shard in shards]
    assert len(loads) == workers
    assert max(loads) - min(loads) < 1.1 * max(sizes)  # no better is to be had with whole photos
    assert max(loads) / min(loads) < 1.4


def test_of_very_many_photos_a_worker_holds_a_part_at_a_time() -> None:
    """Each worker gets the same number of shards, and each shard about the same number of bytes."""
    generator = random.Random(0)
    sizes = [50_000_000] * 21 + [generator.randrange(15_000, 17_000) for _ in range(20_000)]
    shards, largest_group = shards_of(sizes, workers=3)
    assert len(shards) == 21 and max(map(len, shards)) < 1_200 and largest_group < 1_200
    assert Counter(photo.size > 17_000 for shard in shards for photo in shard)[True] == 21
    assert {sum(photo.size > 17_000 for photo in shard) for shard in shards} == {1}


def test_a_size_class_holds_sizes_within_half_a_doubling() -> None:
    for size in (1_000, 30_000, 4_500_000):
        assert size_class(photo(0, size)) <= size_class(photo(0, int(size * 1.4)))
        assert size_class(photo(0, size)) < size_class(photo(0, int(size * 1.42)))
    assert size_class(photo(0, 0)) == 0
