import random
from collections import defaultdict

import pytest

from transforms.balance import deal, size_class
from transforms.elements import Photo


def photo(number: int, size: int) -> Photo:
    return Photo(f"{number}.jpg", f"{number}.jpg", size, "")


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_workers_get_like_bytes_whatever_the_mixture(workers: int) -> None:
    """A folder of panoramas among thumbnails: by count alone, one worker could get most of them."""
    dice = random.Random(0)
    sizes = [50_000_000] * 21 + [dice.randrange(2_000, 20_000) for _ in range(400)] + [3_000_000] * 70
    groups: dict[int, list[Photo]] = defaultdict(list)
    for number, size in enumerate(sizes):
        groups[size_class(photo(number, size))].append(photo(number, size))
    hands: dict[int, list[Photo]] = defaultdict(list)
    for group in groups.items():
        for worker, dealt in deal(group, workers):
            hands[worker].append(dealt)
    loads = [sum(photo.size for photo in hand) for hand in hands.values()]
    assert len(loads) == workers and sum(map(len, hands.values())) == len(sizes)
    assert max(loads) - min(loads) < 1.1 * max(sizes)  # no better is to be had with whole photos
    assert max(loads) / min(loads) < 1.4


def test_a_size_class_holds_sizes_within_half_a_doubling() -> None:
    classes = [size_class(photo(0, size)) for size in (0, 1, 1000, 1300, 2000)]
    assert classes == sorted(classes) and len(set(classes)) > 3
