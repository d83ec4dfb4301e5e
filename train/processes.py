"""One round of training over several processes, one a device, as `torchrun` starts them.

All of them walk through the same steps. Of each batch a process takes its share of the rows through
the encoder; features are gathered, so that losses, miners and memories see the whole batch, as one
process would; gradients are summed. So a step is that of one process but for the order of float
sums, except in networks with batch statistics: there each share has its own, and the running ones
are those of process 0, as is usual. Process 0 alone writes.
"""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from remine.data.errors import InputError
from remine.train.encoders.encoder import Encoder

Told = TypeVar("Told")


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Alone:
    """One process, which takes the whole batch."""

    writes = True
    number = 0

    def __init__(self, encoder: Encoder) -> None:
        """Around `encoder`."""
        self.encoder = encoder

    def share(self, m: int) -> slice:
        """Which of m rows are ours."""
        return slice(0, m)

    def features(self, inputs: Tensor, m: int) -> Tensor:
        """(share of m, ...) inputs to the features (m, d) float32 of the whole batch."""
        assert len(inputs) == m
        return self.encoder.features(inputs)

    def told(self, value: Told) -> Told:
        """What process 0 has for `value`."""
        return value


class Together(Alone):
    """One of several processes, which takes a run of the batch's rows."""

    def __init__(self, encoder: Encoder) -> None:
        """Around `encoder`; from here on all have the weights of process 0."""
        super().__init__(encoder)
        self.count, self.number = dist.get_world_size(), dist.get_rank()
        self.writes = self.number == 0
        self.network = DistributedDataParallel(encoder.body)

    def share(self, m: int) -> slice:
        """The shares differ by one row at most; the first are the larger ones."""
        if m < self.count:
            raise InputError(f"{m} rows in a batch cannot be shared out to {self.count} processes")
        return self._share(m, self.number)

    def features(self, inputs: Tensor, m: int) -> Tensor:
        """The gradient flows into our own rows, times the processes whose gradients are meaned."""
        own: Tensor = self.network(inputs).float()
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        longest = -(-m // self.count)
        padded = torch.zeros((longest, own.shape[1]), device=own.device)
        padded[: len(own)] = own.detach()
        gathered = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(gathered, padded)
        shares = [self._share(m, number) for number in range(self.count)]
        parts = [
            part[: share.stop - share.start] for part, share in zip(gathered, shares, strict=True)
        ]
        parts[self.number] = own
        return torch.cat(parts)

    def told(self, value: Told) -> Told:
        """What process 0 has for `value`: its running statistics may differ from ours."""
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def _share(self, m: int, number: int) -> slice:
        size, larger = divmod(m, self.count)
        start = number * size + min(number, larger)
        return slice(start, start + size + (number < larger))


def shared_out(encoder: Encoder) -> Alone:
    """`encoder` as the processes that were started train it."""
    return Together(encoder) if process_count() > 1 else Alone(encoder)
