"""`remine run` in several processes under `torchrun`: process 0 runs the cycle, all train.

    torchrun --nproc-per-node=4 -m remine run --config remine.toml

Process 0 announces each round of training and all processes train it together (`train.processes`).
Only process 0 embeds, mines and writes; the others read the same store.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from remine.data.errors import InputError, StoreError

WAIT_LIMIT = timedelta(days=20)
"""How long the other processes wait while process 0 embeds and mines; if it fails, torchrun ends
them."""

Task = tuple[Callable[..., None], tuple[Any, ...]]


@contextmanager
def processes() -> Iterator[bool]:
    """Yield whether this process runs the cycle; in the others, after they have helped to train it.

    Under torchrun the process exits at the end of this context.
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
        # Only after success: after an error the others may be waiting inside a training step.
        announce(None)
    dist.destroy_process_group()
    # Gloo's threads may outlive the interpreter, and sometimes abort a process that has finished.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def announce(task: Task | None) -> None:
    """Have the other processes, if any, call a function with these arguments; None ends them."""
    import torch
    import torch.distributed as dist

    from remine.train.processes import process_count

    if process_count() > 1:
        dist.broadcast_object_list([task], src=0, device=torch.device("cpu"))


def _follow() -> None:
    """Run what process 0 announces, until it announces the end.

    Raises:
        StoreError: If process 0 ends without that.

    """
    import torch
    import torch.distributed as dist

    while True:
        announcement: list[Task | None] = [None]
        try:
            dist.broadcast_object_list(announcement, src=0, device=torch.device("cpu"))
        except RuntimeError:
            raise StoreError("process 0 has ended, and this one with it") from None
        if announcement[0] is None:
            return
        work, arguments = announcement[0]
        work(*arguments)


def _join() -> None:
    """Join the process group; with GPUs, each process uses the one of its local rank.

    Raises:
        InputError: If this machine has more processes than GPUs.

    """
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        local_rank = int(os.environ["LOCAL_RANK"])
        local_count = int(os.environ["LOCAL_WORLD_SIZE"])
        if local_count > (gpu_count := torch.cuda.device_count()):
            raise InputError(
                f"torchrun --nproc-per-node={local_count}: this machine has {gpu_count} GPUs"
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=WAIT_LIMIT)
