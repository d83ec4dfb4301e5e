"""One round of training over several processes, one per device, as `torchrun` starts them.

All processes go through the same steps. Of each batch a process embeds its share of the rows; the
features are gathered, so that losses, miners and memories see the whole batch as in one process;
gradients are summed. A step therefore equals that of one process up to the order of float sums.
Networks with batch statistics are the exception: each process normalises by its own share, and the
running statistics are those of process 0, as is usual. Only process 0 writes.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from remine.data.errors import InputError
from remine.data.items.tensors import Tensors
from remine.train.encoders.encoder import Encoder

Value = TypeVar("Value")


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class SingleProcess:
    """A process that embeds the whole batch."""

    writes = True
    number = 0

    def __init__(self, encoder: Encoder) -> None:
        """Train `encoder`."""
        self.encoder = encoder

    def share(self, m: int) -> slice:
        """The rows of a batch of m that this process embeds."""
        return slice(0, m)

    def parts(self, m: int, size: int) -> int:
        """In how many parts every process embeds its share of m rows, so that none has over `size`.

        1 for a size of 0.
        """
        return -(-m // size) if size else 1

    def forward(self, inputs: Tensors) -> Tensor:
        """Embed rows (r, ...) of this process's share; returns features (r, d) float32."""
        return self.encoder.features(inputs)

    def gather(self, features: Tensor, m: int) -> Tensor:
        """The features (m, d) of the batch from those (r, d) of this process's share."""
        assert len(features) == m
        return features

    def synchronised(self, *, is_last: bool) -> AbstractContextManager[None]:
        """The context of one of several backward passes of a step."""
        del is_last
        return nullcontext()

    def from_first(self, value: Value) -> Value:
        """The value that process 0 passes."""
        return value


class DistributedProcess(SingleProcess):
    """One of several processes, which embeds a contiguous share of the batch."""

    def __init__(self, encoder: Encoder) -> None:
        """Train `encoder`; every process starts from the weights of process 0."""
        super().__init__(encoder)
        self.count, self.number = dist.get_world_size(), dist.get_rank()
        self.writes = self.number == 0
        self.network = DistributedDataParallel(encoder.body)

    def share(self, m: int) -> slice:
        """The rows of a batch of m that this process embeds.

        Shares differ by at most one row; the first ones are larger.

        Raises:
            InputError: a process would get no row.

        """
        if m < self.count:
            raise InputError(f"{m} rows in a batch cannot be shared out to {self.count} processes")
        return self._share(m, self.number)

    def parts(self, m: int, size: int) -> int:
        """The same number in every process, as they pass through the network in step."""
        longest, shortest = -(-m // self.count), m // self.count
        return min(super().parts(longest, size), shortest)

    def forward(self, inputs: Tensors) -> Tensor:
        """Embed rows (r, ...) of this process's share; returns features (r, d) float32."""
        local: Tensor = self.network(inputs).float()
        if local.requires_grad:
            # DistributedDataParallel averages the gradients of the processes; they must be summed.
            local.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        return local

    def synchronised(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged in the last backward pass of a step, with those before it."""
        return nullcontext() if is_last else self.network.no_sync()

    def gather(self, features: Tensor, m: int) -> Tensor:
        """The features (m, d) of the batch from those (r, d) of this process's share.

        Only the rows of this process carry a gradient.
        """
        local = features
        longest = -(-m // self.count)
        # all_gather needs the same shape everywhere, so shorter shares are padded.
        padded_features = torch.zeros((longest, local.shape[1]), device=local.device)
        padded_features[: len(local)] = local.detach()
        blocks = [torch.empty_like(padded_features) for _ in range(self.count)]
        dist.all_gather(blocks, padded_features)
        shares = [self._share(m, number) for number in range(self.count)]
        parts = [
            block[: share.stop - share.start] for block, share in zip(blocks, shares, strict=True)
        ]
        parts[self.number] = local
        return torch.cat(parts)

    def from_first(self, value: Value) -> Value:
        """The value that process 0 passes, since its running statistics may differ from ours."""
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def _share(self, m: int, number: int) -> slice:
        size, remainder = divmod(m, self.count)
        start = number * size + min(number, remainder)
        return slice(start, start + size + (number < remainder))


def training_process(encoder: Encoder) -> SingleProcess:
    """The part of this process in training `encoder`."""
    return DistributedProcess(encoder) if process_count() > 1 else SingleProcess(encoder)
