"""Embedding of prepared inputs; the pure function that the Beam job distributes."""

from typing import Protocol

import numpy as np
import torch

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_tensors
from remine.data.types import Float32, Int64
from remine.index.micro_batches import Network, Rows, micro_batches

MIN_LENGTH = 1e-3  # encoders scale to length 1, so a shorter vector was 0 before


class Keeper(Protocol):
    """Keeps the vectors that are finished, so that a killed process need not compute them again."""

    def load(self) -> Float32 | None:
        """The vectors (r, d) of an earlier process, in the order of the forward passes."""

    def keep(self, parts: list[Float32]) -> None:
        """Called after each forward pass with the vectors of all passes so far."""


def embed_rows(
    encoder: Network,
    inputs: Inputs | np.ndarray,
    rows: Rows,
    batch: int,
    device: torch.device | None = None,
    keeper: Keeper | None = None,
) -> Float32:
    """The embeddings of some rows of `inputs`.

    The same rows, batch size and thread count give the same bits; other rows beside it, or another
    batch size, may change the last bit of a vector.

    Args:
        encoder: From a batch of inputs to (b, d) vectors.
        inputs: The prepared inputs.
        rows: (m,) row numbers.
        batch: Rows in one forward pass at most; on a CPU fewer if their activations are large.
        device: Where the encoder is; the CPU if None.
        keeper: Keeps what is finished.

    Returns:
        (m, d) float32 vectors, in the order of `rows`.

    Raises:
        InputError: An embedding is not finite or has no length.
    """
    device = device or torch.device("cpu")
    passes = micro_batches(encoder, inputs, rows, batch, device)
    parts = _earlier_parts(passes, keeper)
    with torch.inference_mode():
        for positions in passes[len(parts) :]:
            block_rows = np.asarray(rows)[positions]
            block = as_tensors(inputs[block_rows], device)
            vectors = encoder(block).float().cpu().numpy()
            _check(vectors, block_rows)
            parts.append(vectors)
            if keeper:
                keeper.keep(parts)
    in_order = np.concatenate(parts)
    result = np.empty_like(in_order)
    result[np.concatenate(passes)] = in_order
    return result


def _earlier_parts(passes: list[Int64], keeper: Keeper | None) -> list[Float32]:
    """The kept vectors pass by pass; none if they end inside a pass."""
    vectors = keeper.load() if keeper else None
    if vectors is None:
        return []
    stops = np.cumsum([len(positions) for positions in passes])
    count = int(np.searchsorted(stops, len(vectors), side="right"))
    if count == 0 or stops[count - 1] != len(vectors):
        return []
    return np.split(vectors, stops[: count - 1])


def _check(vectors: Float32, rows: Int64) -> None:
    is_finite = np.isfinite(vectors).all(axis=1)
    if not is_finite.all():
        raise InputError(
            f"the encoder gives a non-finite embedding in row {rows[int((~is_finite).argmax())]}"
        )
    is_short = np.linalg.norm(vectors, axis=1) < MIN_LENGTH
    if is_short.any():
        raise InputError(
            f"the encoder gives an embedding of length 0 in row {rows[int(is_short.argmax())]}: it"
            " has no direction"
        )
