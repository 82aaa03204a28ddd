from collections.abc import Sequence

import pytest
import torch

from model.batches.memory import OutOfMemoryError, in_available_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch_then_the_tile(error: Exception) -> None:
    attempts = []

    def work(batch: Sequence[int], tile: int) -> list[int]:
        attempts.append((len(batch), tile))
        if len(batch) > 1 or (batch[0] == 3 and tile > 512):
            raise error
        return [value * 10 for value in batch]

    assert in_available_memory(work, [1, 2, 3], tile=1024) == [10, 20, 30]
    assert attempts == [(3, 1024), (1, 1024), (2, 1024), (1, 1024), (1, 1024), (1, 512)]


def test_out_of_memory_in_the_smallest_tiles_fails() -> None:
    def work(batch: Sequence[int], tile: int) -> list[int]:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="tiles of 256 pixels"):
        in_available_memory(work, [1], tile=1024)


def test_other_errors_are_not_retried() -> None:
    def work(batch: Sequence[int], tile: int) -> list[int]:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_available_memory(work, [1, 2], tile=1024)
