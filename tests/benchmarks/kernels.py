"""What kernels the codec would start on a GPU, counted on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model import ms_ssim
from model.coding import entropy

# Operations that start no kernel, and those that start two: padding fills, then copies.
_NO_KERNELS = ("aten.empty", "aten.new_empty", "aten.detach", "aten._local_scalar", "aten._unsafe_view")
_TWO_KERNELS = ("aten.pad", "aten.constant_pad_nd")


class CountKernels(TorchDispatchMode):
    """Counts the kernels that its block would start on a GPU."""

    kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not func.is_view and not name.startswith(_NO_KERNELS):
            self.kernels += 2 if name.startswith(_TWO_KERNELS) else 1
        return func(*args, **(kwargs or {}))


@contextmanager
def as_on_a_gpu() -> Iterator[CountKernels]:
    """The CPU goes the ways of a GPU, and kernels are counted."""
    with (
        patch.object(ms_ssim, "_BAND_VALUES", ms_ssim._GPU_BAND_VALUES),
        patch.object(ms_ssim, "_LONGEST_WHOLE", 0),
        patch.object(entropy, "_AHEAD", {"cpu": entropy._AHEAD["cuda"]}),
        torch.backends.mkldnn.flags(enabled=False),  # type: ignore[no-untyped-call]
        CountKernels() as counter,
    ):
        yield counter
