"""Where the encoder computes in bfloat16: told by what the hardware says it has, never by a clock.

Autocast casts inside the encoder alone: weights, their gradients and the optimizer's state stay in
float32, and losses get float32 features.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from remine.data.errors import InputError

AMPERE = (8, 0)


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether `train.precision` comes to bfloat16 on `device`."""
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError('train.precision is "bf16", which this GPU does not have: take "auto"')
    return precision == "bf16" or (precision == "auto" and fast_at_bf16(device))


def fast_at_bf16(device: torch.device) -> bool:
    """Whether `device` has units that multiply bfloat16: tensor cores, AMX, AVX-512 BF16.

    Measured with AVX-512 BF16 and no AMX: steps of the conv net and of MiniLM at 1.6 times the
    float32 rate, of EfficientNet, whose depthwise convolutions have no such kernel, at 0.9.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    # Older releases of torch cannot say, and get float32.
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def computing(device: torch.device, *, bf16: bool) -> AbstractContextManager[object]:
    """The context that an encoder's forward pass runs in."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
