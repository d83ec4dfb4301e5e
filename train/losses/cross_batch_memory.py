"""Cross-batch memory: embeddings of earlier steps as further candidates of a batch."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch
from remine.train.losses.distances import at_least_float32


class CrossBatchMemory(nn.Module):
    """The last `size` embeddings with their classes and items (Wang et al. 2020, section 3.2).

    A ring buffer: `position` is the next place to write, `filled` the number of places in use. All
    of it is in the state dict, so that a resumed round has the same candidates in the same places.
    """

    embeddings: Tensor
    labels: Tensor
    items: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, size: int, dimensions: int) -> None:
        """An empty memory."""
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, dimensions))
        for name in ("labels", "items"):
            self.register_buffer(name, torch.full((size,), -1))
        for name in ("position", "filled"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def join(self, batch: Batch) -> Batch:
        """`batch` with the contents of the memory, in the order of its places."""
        count = int(self.filled)
        if not count:
            return batch
        return replace(
            batch,
            # Autograd keeps these until the backward pass, so a later push must not change them.
            memory_embeddings=self.embeddings[:count].clone(),
            memory_labels=self.labels[:count].clone(),
            memory_items=self.items[:count].clone(),
        )

    def push(self, batch: Batch) -> None:
        """Replace the oldest entries by the batch; of a batch above `size` keep its last rows."""
        size = len(self.labels)
        count = min(len(batch.labels), size)
        places = (self.position + torch.arange(count, device=self.labels.device)) % size
        embeddings = at_least_float32(batch.embeddings.detach())
        # float32 in the state even where losses are computed in float64.
        self.embeddings[places] = embeddings[-count:].to(torch.float32)
        self.labels[places] = batch.labels[-count:]
        self.items[places] = batch.items[-count:]
        self.position.copy_((self.position + count) % size)
        self.filled.copy_((self.filled + count).clamp_max(size))
