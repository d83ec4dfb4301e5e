"""How rows are cut into forward passes: by the bytes of their activations, never by a stopwatch.

On a CPU a forward pass is fastest while a layer's input and output stay small: past some tens of
megabytes memory is returned to the system and asked for again at each layer, and EfficientNet-Lite0
at 224 pixels falls from 44 photos a CPU-second in batches of 4 to 11 in batches of 256. The largest
layer is measured on one row, so that the same inputs are cut in the same way on every machine.
Rows of unequal length, such as texts, are sorted by length first, so that none is padded much.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_tensors
from remine.data.types import Int64

Rows = range | Int64
Network = Callable[[Any], Tensor] | nn.Module

CPU_BYTES = 40_000_000
"""Largest input and output of one layer in a forward pass on a CPU, together. Rates at other sizes:
benchmarks/micro_batches.py."""


def micro_batches(
    encoder: Network, inputs: Inputs | np.ndarray, rows: Rows, batch: int, device: torch.device
) -> list[Int64]:
    """Cut rows into forward passes.

    Args:
        encoder: The network; in evaluation mode.
        inputs: What it reads.
        rows: (m,) row numbers.
        batch: Rows in one pass at most.
        device: Where it computes; bytes count on a CPU only.

    Returns:
        Positions in `rows` of each pass; together each position once.

    """
    lengths = _row_lengths(encoder, inputs, rows, batch)
    order = np.arange(len(rows)) if lengths is None else np.argsort(-lengths, kind="stable")
    if device.type != "cpu":
        return _equal_parts(order, batch)
    longest = np.asarray(rows)[order[:1]]
    row_bytes = largest_layer(encoder, inputs[longest])
    if lengths is None:
        return _equal_parts(order, min(batch, max(1, CPU_BYTES // max(1, row_bytes))))
    return list(_by_length(order, lengths, row_bytes / int(lengths[order[0]]), batch))


def largest_layer(encoder: Network, block: np.ndarray) -> int:
    """Bytes of the inputs and outputs of the layer with the most of them, for a block of rows."""
    sizes = [block.nbytes]

    def measure(_module: nn.Module, layer_inputs: Any, output: Any) -> None:
        sizes.append(_nbytes(layer_inputs) + _nbytes(output))

    layers = encoder.modules() if isinstance(encoder, nn.Module) else ()
    hooks = [m.register_forward_hook(measure) for m in layers if not any(m.children())]
    try:
        with torch.inference_mode():
            encoder(as_tensors(block))
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _row_lengths(
    encoder: Network, inputs: Inputs | np.ndarray, rows: Rows, batch: int
) -> Int64 | None:
    """The length (m,) of each row, if the network reads rows of unequal length."""
    modules = encoder.modules() if isinstance(encoder, nn.Module) else ()
    measure = next((m.row_lengths for m in modules if hasattr(m, "row_lengths")), None)
    if measure is None or not len(rows):
        return None
    blocks = (np.asarray(rows[start : start + batch]) for start in range(0, len(rows), batch))
    parts = [measure(as_tensors(inputs[block])).numpy() for block in blocks]  # type: ignore[operator]
    return np.concatenate(parts)


def _equal_parts(order: Int64, size: int) -> list[Int64]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _by_length(order: Int64, lengths: Int64, bytes_per_place: float, batch: int) -> Iterator[Int64]:
    """Parts of rows sorted from the longest; the first row of a part is its longest."""
    start = 0
    while start < len(order):
        row_bytes = bytes_per_place * int(lengths[order[start]])
        size = min(batch, max(1, int(CPU_BYTES // row_bytes)))
        yield order[start : start + size]
        start += size


def _nbytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, tuple | list) else 0
