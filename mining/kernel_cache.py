"""Whether numba has compiled the kernels on this machine before: the first time takes a while."""

from pathlib import Path
from types import ModuleType

from remine.mining.search import scan_kernels
from remine.mining.strategies import random_kernels

COMPILING = "compiling its kernels, once on this machine: up to a minute"


def must_compile(modules: tuple[ModuleType, ...] = (scan_kernels, random_kernels)) -> bool:
    """Whether none of the kernels of `modules` is in numba's cache.

    False if it cannot be told, since only a line for the user depends on it.
    """
    paths = [
        Path(path)
        for module in modules
        for kernel in vars(module).values()
        if (path := _index_path(kernel))
    ]
    return bool(paths) and not any(path.exists() for path in paths)


def _index_path(kernel: object) -> str:
    """The file in which numba lists the compiled forms of a kernel; "" if there is none."""
    cache_file = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    return str(getattr(cache_file, "_index_path", "") or "")
