"""What makes a batch of photos fit into memory."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

_LOG = logging.getLogger(__name__)

SMALLEST_TILE = 256
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
Item = TypeVar("Item")
Result = TypeVar("Result")


class OutOfMemoryError(RuntimeError):
    """One photo alone, in the smallest tiles, does not fit into memory."""


def in_available_memory(
    work: Callable[[Sequence[Item], int], list[Result]], batch: Sequence[Item], tile: int
) -> list[Result]:
    """Does `work(batch, tile)`; out of memory, halves the batch, and the tile of a photo alone.

    Raises:
        OutOfMemoryError: one photo in the smallest tiles does not fit either.
    """
    try:
        return work(batch, tile)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    # Outside the handler: the exception holds the failed attempt's tensors for as long as it lives.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(batch) > 1:
        _LOG.warning("out of memory on %d photos together: halving the batch", len(batch))
        middle = len(batch) // 2
        return [r for half in (batch[:middle], batch[middle:]) for r in in_available_memory(work, half, tile)]
    if tile > SMALLEST_TILE:
        _LOG.warning("out of memory on one photo in tiles of %d pixels: halving them", tile)
        return in_available_memory(work, batch, tile // 2)
    raise OutOfMemoryError(f"a photo does not fit into memory even in tiles of {tile} pixels")


def _is_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator and CUDA's libraries raise plain RuntimeErrors.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(text in str(error) for text in _OUT_OF_MEMORY)
