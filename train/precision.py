"""bfloat16 for the encoder, decided by the capabilities of the hardware and never by a stopwatch.

Autocast applies inside the encoder only: weights, gradients and the optimizer's state stay in
float32, and losses receive float32 features.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from remine.data.errors import InputError

AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs with bfloat16 tensor cores."""


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether `train.precision` means bfloat16 on `device`.

    Raises:
        InputError: the setting is "bf16" and the GPU does not support it.

    """
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError('train.precision is "bf16", which this GPU does not have: take "auto"')
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware: tensor cores, AMX or AVX-512 BF16.

    Measured with AVX-512 BF16 and no AMX: training steps of the conv net and of MiniLM run at 1.6
    times the float32 rate, those of EfficientNet, whose depthwise convolutions lack a bfloat16
    kernel, at 0.9.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    # Older releases of torch lack the query and get float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(device: torch.device, *, bf16: bool) -> AbstractContextManager[None]:
    """The context for an encoder's forward pass."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
