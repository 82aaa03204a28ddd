"""What a device computes in."""

import torch


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
