"""The memory against a plain list, and saved in the middle of a turn."""

from collections import deque

import pytest
import torch
from torch.nn import functional

from remine.train.losses.batch import Batch
from remine.train.losses.cross_batch_memory import CrossBatchMemory


def batch_of(step, m=3, d=2):
    generator = torch.Generator().manual_seed(step)
    features = torch.randn(m, d, generator=generator).requires_grad_()
    items = torch.arange(m) + 10 * step
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=items % 4,
        items=items,
    )


def contents(memory):
    pool_batch = memory.join(batch_of(99))
    if pool_batch.memory_embeddings is None:
        return []
    rows = zip(
        pool_batch.memory_items.tolist(),
        pool_batch.memory_labels.tolist(),
        pool_batch.memory_embeddings.tolist(),
        strict=True,
    )
    return sorted(rows)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 9, 50])
def test_the_last_ones_are_remembered(size):
    memory, plain = CrossBatchMemory(size, 2), deque(maxlen=size)
    for step in range(8):
        assert contents(memory) == sorted(plain)
        batch = batch_of(step)
        memory.push(batch)
        plain.extend(
            zip(batch.items.tolist(), batch.labels.tolist(), batch.embeddings.tolist(), strict=True)
        )


def test_older_items_carry_no_gradient_and_are_not_changed_by_a_later_push():
    memory = CrossBatchMemory(4, 2)
    memory.push(batch_of(0))
    pool_batch = memory.join(batch_of(1))
    assert not pool_batch.memory_embeddings.requires_grad
    before = pool_batch.memory_embeddings.clone()
    memory.push(batch_of(2))
    assert torch.equal(pool_batch.memory_embeddings, before)


@pytest.mark.parametrize("saved_at", [1, 2, 3, 5])
def test_a_saved_memory_goes_on_at_its_place(saved_at):
    # Position and fill are part of the state: without them the ring would start over.
    memory = CrossBatchMemory(7, 2)
    for step in range(saved_at):
        memory.push(batch_of(step))
    resumed_memory = CrossBatchMemory(7, 2)
    resumed_memory.load_state_dict(memory.state_dict())
    for step in range(saved_at, 8):
        memory.push(batch_of(step))
        resumed_memory.push(batch_of(step))
        for buffer, resumed_buffer in zip(memory.buffers(), resumed_memory.buffers(), strict=True):
            assert torch.equal(buffer, resumed_buffer)


def test_an_item_is_not_its_own_older_positive():
    memory = CrossBatchMemory(4, 2)
    batch = batch_of(0)
    memory.push(batch)
    pool_batch = memory.join(batch)
    assert not (pool_batch.positive & (pool_batch.items[:, None] == pool_batch.pool_items)).any()
    assert pool_batch.pool.shape == (6, 2)
