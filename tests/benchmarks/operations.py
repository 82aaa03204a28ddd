"""What the codec computes, counted: multiply-accumulates, and a GPU's kernels. Needs torch alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from model import ms_ssim
from model.coding import entropy
from model.coding.steps import CODE_STRIDE
from model.network import ResidualGRUCodec

# Operations that start no kernel, and those that start two: padding fills, then copies.
_NO_KERNELS = ("aten.empty", "aten.new_empty", "aten.detach", "aten._local_scalar", "aten._unsafe_view")
_TWO_KERNELS = ("aten.pad", "aten.constant_pad_nd")
_SIDE = 256  # of the image that is counted on


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates for each pixel in one iteration."""

    encoder: float
    decoder: float
    context: float


@torch.no_grad()
def operations(model: ResidualGRUCodec) -> list[Operations]:
    """Of each iteration of a model, on the device and in the precision that its networks have."""
    device = model.log_gain[0].device
    images = torch.rand(1, 3, _SIDE, _SIDE, device=device)
    level = torch.zeros(1, device=device)
    reconstruction = encoder_state = decoder_state = previous = None
    counted = []
    code_side = _SIDE // CODE_STRIDE
    for i, count in enumerate(model.config.symbols):
        symbols = torch.zeros(1, count, code_side, code_side, device=device)
        counters = [FlopCounterMode(display=False) for _ in range(3)]
        with counters[0]:
            _, encoder_state = model.encode(images, reconstruction, encoder_state, i)
        with counters[1]:
            reconstruction, decoder_state = model.decode(symbols, level, reconstruction, decoder_state, i)
        with counters[2]:
            model.context.rate(i, previous, symbols, symbols, level)
        previous = symbols
        counted.append(Operations(*(counter.get_total_flops() / 2 / _SIDE**2 for counter in counters)))
    return counted


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
