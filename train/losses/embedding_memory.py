"""A memory of earlier steps' embeddings, as more candidates than a batch holds."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch
from remine.train.losses.distances import full


class Memory(nn.Module):
    """The last `size` embeddings, with their classes and items (Wang et al. 2020, section 3.2).

    A ring: `position` is where the next goes, `filled` how many hold something. All of it is in
    the state, so that a resumed round goes on with the same candidates in the same places.
    """

    embeddings: Tensor
    labels: Tensor
    items: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, size: int, dimensions: int) -> None:
        """Empty."""
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, dimensions))
        for name in ("labels", "items"):
            self.register_buffer(name, torch.full((size,), -1))
        for name in ("position", "filled"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def join(self, batch: Batch) -> Batch:
        """`batch` with what is remembered as its older items, oldest places first."""
        filled = int(self.filled)
        if not filled:
            return batch
        return replace(
            batch,
            older=self.embeddings[:filled].clone(),  # a later push must not change a saved tensor
            older_labels=self.labels[:filled].clone(),
            older_items=self.items[:filled].clone(),
        )

    def push(self, batch: Batch) -> None:
        """Remember the batch in place of the oldest; of a batch above `size` the last."""
        size, m = len(self.labels), len(batch.labels)
        kept = min(m, size)
        places = (self.position + torch.arange(kept, device=self.labels.device)) % size
        self.embeddings[places] = full(batch.embeddings.detach())[-kept:].to(torch.float32)
        self.labels[places] = batch.labels[-kept:]
        self.items[places] = batch.items[-kept:]
        self.position.copy_((self.position + kept) % size)
        self.filled.copy_((self.filled + kept).clamp_max(size))
