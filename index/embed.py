"""Inputs to embeddings: the pure function that the Beam job distributes."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.data.types import Float32, Int64

Rows = range | Int64
SHORTEST = 1e-3  # of what was scaled to length 1: less is 0, which no scaling helps


def embed_rows(
    encoder: Callable[[Tensor], Tensor] | nn.Module,
    inputs: Inputs,
    rows: Rows,
    batch: int,
    device: torch.device | None = None,
) -> Float32:
    """The embeddings of `rows` (m) of `inputs`, (m, d) float32 unit vectors, `batch` at a time.

    The same batch and thread count give the same bits; another batch may differ in the last one.
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
            if (vectors.norm(dim=1) < SHORTEST).any():
                raise InputError(
                    f"the encoder gives embeddings of length 0 in rows {rows[start]}...: nothing is"
                    " near to them or far from them"
                )
            parts.append(vectors.cpu().numpy())
    return np.concatenate(parts)
