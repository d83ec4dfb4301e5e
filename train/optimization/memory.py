"""How many items of a batch go through the encoder at a time: what fits into memory."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.data.items.tensors import Tensors, as_tensors, first_tensor
from remine.data.types import Int64
from remine.train.config import TrainConfig
from remine.train.optimization.modes import uses_batch_statistics

GB = 1e9
LIMIT_GB = 1.0
"""Of a CPU. Small parts are also fast: 48 photos through EfficientNet-Lite0 at 224 pixels take 4.0
CPU-seconds in parts of 12, forwards and backwards, and 5.5 to 7.1 in one piece of 3.9 GB."""
PROBES = 4
"""Items of the pass that is measured. More than one, since batch norm needs it."""
POOL = 1024
"""Items from which the longest are taken, where lengths differ."""
CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Forecast:
    """The memory of a step.

    batch: items in a step. part: items that go through the encoder at a time. item_bytes: what the
    encoder keeps of an item for the backward pass.
    """

    batch: int
    part: int
    item_bytes: int

    def line(self) -> str:
        """The forecast for people."""
        parts = "one piece" if self.part >= self.batch else f"parts of {self.part}"
        return f"batches of {self.batch} items in {parts}: {_size(self.part * self.item_bytes)}"


def _size(count: float) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"


def forecast(
    encoder: nn.Module, inputs: Inputs, batch: int, config: TrainConfig, device: torch.device
) -> Forecast:
    """Measure what the encoder keeps of a few items, and divide the batch by it.

    The same encoder, settings and machine give the same parts.

    Args:
        encoder: In the mode of a training step.
        inputs: What it reads.
        batch: Items in a step.
        config: `micro_batch` and `memory_limit`.
        device: Where the encoder is.

    Raises:
        InputError: The batch does not fit, or cannot be divided as the settings say.
    """
    item_bytes = activation_bytes(encoder, probe_inputs(inputs, device))
    limit = memory_limit(config, device)
    part = config.micro_batch or parts_of(batch, item_bytes, limit)
    if part < batch and uses_batch_statistics(encoder):
        if config.micro_batch:
            raise InputError(
                f"train.micro_batch is {config.micro_batch}, but the network normalises by the"
                f" statistics of a batch, which are not those of its parts: {WAYS}"
            )
        if batch * item_bytes > machine_memory(device):
            raise InputError(
                f"a batch of {batch} items takes {batch * item_bytes / GB:.1f} GB, of"
                f" {machine_memory(device) / GB:.1f} GB in all, and cannot be divided, since the"
                f" network normalises by the statistics of a batch: {WAYS} or a smaller train.batch"
            )
        part = batch
    return Forecast(batch, min(part, batch), item_bytes)


WAYS = 'set train.batch_statistics = "kept"'


def parts_of(batch: int, item_bytes: int, limit: float) -> int:
    """Items of a part, 1 to `batch`: parts of equal size, as few as fit into `limit` bytes."""
    most = max(1, int(limit // item_bytes)) if item_bytes else batch
    count = -(-batch // most)
    return -(-batch // count)


def activation_bytes(encoder: nn.Module, inputs: Tensors) -> int:
    """Bytes that the encoder keeps for the backward pass, per item of `inputs` (m, ...).

    Weights and inputs are there anyway and do not count; what several operations keep counts once.
    Weights, batch statistics and random generators stay as they are.
    """
    rows = first_tensor(inputs)
    input_tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
    present_tensors = [*encoder.parameters(), *encoder.buffers(), *input_tensors]
    there = {tensor.untyped_storage().data_ptr() for tensor in present_tensors}
    sizes: dict[int, int] = {}
    storages = []  # so that no address is used a second time

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            storages.append(storage)
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    devices = [rows.device] if rows.is_cuda else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        encoder(inputs)
    with torch.no_grad():
        for name, buffer in encoder.named_buffers():
            buffer.copy_(buffers[name])
    return -(-sum(sizes.values()) // len(rows))


def probe_inputs(inputs: Inputs, device: torch.device) -> Tensors:
    """The inputs (m, ...) of a few items, of a sample those with the fewest zeros.

    Texts are padded with zeros, and networks may leave the padding out.
    """
    rows: Int64 = np.unique(np.linspace(0, len(inputs) - 1, POOL, dtype=np.int64))
    if (
        inputs.shards[0].ndim == 2 and inputs.shards[0].dtype.names is None
    ):  # not pictures, of which a sample is large
        pool = inputs[rows]
        rows = rows[np.argsort(-(pool != 0).sum(axis=1), kind="stable")]
    return as_tensors(inputs[np.resize(rows[:PROBES], PROBES)], device)


def memory_limit(config: TrainConfig, device: torch.device) -> float:
    """Bytes for what is kept of a step."""
    total = machine_memory(device)
    if config.memory_limit != "auto":
        return config.memory_limit * GB
    return total / 2 if device.type == "cuda" else min(LIMIT_GB * GB, total / 4)


def machine_memory(device: torch.device) -> float:
    """Bytes of memory of the device: of a GPU, or of the machine or its container."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        return min(total, float(CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return total
