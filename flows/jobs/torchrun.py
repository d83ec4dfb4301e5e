"""`torchrun` around `remine run`: process 0 runs the cycle, the others help it train.

    torchrun --nproc-per-node=4 -m remine run --config remine.toml

Process 0 announces each round of training, all train it together (`train.processes`), and only
process 0 embeds, mines and writes. The others read the same store.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from remine.data.errors import InputError, StoreError

WAIT = timedelta(days=20)
"""How long the others wait for process 0 to embed and mine; torchrun ends them if it fails."""

Task = tuple[Callable[..., None], tuple[Any, ...]]


@contextmanager
def processes() -> Iterator[bool]:
    """Whether this process runs the cycle. Any other helps first, until the cycle is over.

    With several processes the last thing that each does: they end here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    _join()
    import torch.distributed as dist

    if dist.get_rank():
        _follow()
        yield False
    else:
        yield True
        # Only when all went well: where it did not, the others may wait within a step.
        announce(None)
    dist.destroy_process_group()
    # Gloo's threads may outlive the interpreter, and now and then abort a process that is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def announce(task: Task | None) -> None:
    """Tell the others, if there are any, to call a function of ours; None: that it is over."""
    import torch
    import torch.distributed as dist

    from remine.train.processes import process_count

    if process_count() > 1:
        dist.broadcast_object_list([task], src=0, device=torch.device("cpu"))


def _follow() -> None:
    import torch
    import torch.distributed as dist

    while True:
        told: list[Task | None] = [None]
        try:
            dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        except RuntimeError:
            raise StoreError("process 0 has ended, and this one with it") from None
        if told[0] is None:
            return
        work, arguments = told[0]
        work(*arguments)


def _join() -> None:
    """Meet the others; on GPUs each process takes the one of its number on this machine."""
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        local, wanted = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if wanted > (have := torch.cuda.device_count()):
            raise InputError(f"torchrun --nproc-per-node={wanted}: there are {have} GPUs")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=WAIT)
