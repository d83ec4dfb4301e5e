"""Embedding of prepared inputs; the pure function that the Beam job distributes."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.data.types import Float32, Int64

Rows = range | Int64
MIN_LENGTH = 1e-3  # encoders scale to length 1, so a shorter vector was 0 before


def embed_rows(
    encoder: Callable[[Tensor], Tensor] | nn.Module,
    inputs: Inputs,
    rows: Rows,
    batch: int,
    device: torch.device | None = None,
) -> Float32:
    """The embeddings of some rows of `inputs`.

    The same batch size and thread count give the same bits; another batch size may change the last
    bit.

    Args:
        encoder: From a batch of inputs to (b, d) vectors.
        inputs: The prepared inputs.
        rows: (m,) row numbers.
        batch: Rows in one forward pass.
        device: Where the encoder is; the CPU if None.

    Returns:
        (m, d) float32 unit vectors.

    Raises:
        InputError: An embedding is not finite or has no length.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            block = inputs[np.asarray(rows[start : start + batch])]
            vectors = encoder(torch.from_numpy(block).to(device or "cpu"))
            if not torch.isfinite(vectors).all():
                raise InputError(
                    f"the encoder gives non-finite embeddings in rows {rows[start]}..."
                )
            if (vectors.norm(dim=1) < MIN_LENGTH).any():
                raise InputError(
                    f"the encoder gives embeddings of length 0 in rows {rows[start]}...: they have"
                    " no direction"
                )
            parts.append(vectors.cpu().numpy())
    return np.concatenate(parts)
