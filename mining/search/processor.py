"""What the hardware multiplies fast, by what it reports, never by a stopwatch."""

from functools import cache
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
# x86 instructions that multiply bfloat16. With avx512_bf16 (EPYC, Zen 5) torch's product took 0.1
# to 0.25 of the time of float32 at d = 64 to 384, with amx_bf16 (Xeon) 0.2 to 0.25. Without them
# oneDNN widens to float32 first, which took longer than float32 alone; float32 products are used
# there and leave little to recompute (1.1 to 1.5 times the bare product). bfloat16 on other
# architectures was not measured and is not used.
HALF = frozenset({"avx512_bf16", "amx_bf16"})


@cache
def fast_half(device: torch.device | None = None) -> bool:
    """Whether the device or this processor multiplies bfloat16 much faster than float32.

    A processor must have one of the instructions in HALF, and torch must use them: its kernels can
    be restricted to older instructions (ATEN_CPU_CAPABILITY).
    """
    if device:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_avx512 and has_mkldnn and bool(HALF & _flags())


def _flags() -> set[str]:
    """The flags of the first processor; empty if the system does not list them."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


@cache
def accelerator() -> torch.device | None:
    """The GPU that torch sees, or None."""
    return torch.device("cuda") if torch.cuda.is_available() else None
