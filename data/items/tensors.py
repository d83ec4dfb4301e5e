"""Inputs as tensors: one, or several by name for networks that read more than one array.

Several arrays of a row are stored together as the fields of a NumPy record, so that a shard is one
.npy file in any case.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Tensors = Tensor | dict[str, Tensor]
"""A batch of inputs: (m, ...), or several such tensors by name."""


def as_tensors(block: np.ndarray, device: torch.device | None = None) -> Tensors:
    """A block of stored inputs as a tensor, or as tensors by name; `device`: the CPU if None."""
    if block.dtype.names is None:
        return torch.from_numpy(block).to(device or "cpu")
    return {
        name: torch.from_numpy(np.ascontiguousarray(block[name])).to(device or "cpu")
        for name in block.dtype.names
    }


def as_records(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Arrays (rows, ...) by name as one array (rows,) of records."""
    fields = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
    records = np.empty(len(next(iter(arrays.values()))), np.dtype(fields))
    for name, array in arrays.items():
        records[name] = array
    return records


def dtype_text(dtype: np.dtype[Any]) -> str:
    """A dtype as cards have it: "uint8", or of records "pixels:uint8:3x8x8,mask:int64:8"."""
    if dtype.names is None:
        return str(dtype)
    fields = ((name, *_plain(dtype[name])) for name in dtype.names)
    return ",".join(f"{name}:{base}:{'x'.join(map(str, shape))}" for name, base, shape in fields)


def dtype_of(text: str) -> np.dtype[Any]:
    """The dtype that `dtype_text` described."""
    if ":" not in text:
        return np.dtype(text)
    fields = []
    for part in text.split(","):
        name, base, sides = part.split(":")
        fields.append((name, base, tuple(map(int, filter(None, sides.split("x"))))))
    return np.dtype(fields)


def split_rows(inputs: Tensors, count: int) -> list[Tensors]:
    """The rows of inputs in `count` parts, whose sizes differ by at most 1."""
    if isinstance(inputs, Tensor):
        return list(inputs.tensor_split(count))
    parts = {name: tensor.tensor_split(count) for name, tensor in inputs.items()}
    return [{name: tensors[number] for name, tensors in parts.items()} for number in range(count)]


def take_rows(inputs: Tensors, places: Tensor) -> Tensors:
    """The rows of inputs at `places` (r,)."""
    if isinstance(inputs, Tensor):
        return inputs[places.to(inputs.device)]
    return {name: tensor[places.to(tensor.device)] for name, tensor in inputs.items()}


def first_tensor(inputs: Tensors) -> Tensor:
    """The inputs, or the first of several tensors: for their number of rows and device."""
    return inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))


def blank(rows: int, shape: Sequence[int], dtype: str) -> Tensors:
    """Inputs of zeros, to try a network: `rows` of `shape` and of a card's dtype."""
    return as_tensors(np.zeros((rows, *shape), dtype_of(dtype)))


def _plain(dtype: np.dtype[Any]) -> tuple[str, tuple[int, ...]]:
    base, shape = dtype.subdtype or (dtype, ())
    return str(base), tuple(shape)
