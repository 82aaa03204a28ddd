"""What a device computes in, and torch's settings while it does."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it faster than in float32, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        # Intel's AVX-512 has the instructions, but they take twice as long as float32's; its AMX does not.
        fast_avx512 = capabilities.get("avx512_bf16", False) and "Intel" not in capabilities["cpu_name"]
        native = fast_avx512 or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device. A GPU takes it from pinned memory, and nobody waits for it."""
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def to_host(x: Tensor) -> Tensor:
    """A tensor on the CPU; from a GPU by way of pinned memory, at the full speed of its bus."""
    if x.device.type != "cuda":
        return x.cpu()
    here = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return here.copy_(x)


@contextmanager
def standard_settings() -> Iterator[None]:
    """No autocast, float32 and the CPU as defaults: whatever the caller has set shows in no file.

    Autocast would change the context model's sums, from which every bit after them follows.
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield
