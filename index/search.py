"""Queries to neighbours."""

from pathlib import Path

import numpy as np
import torch  # noqa: F401 - before faiss: the other order crashes in the OpenMP runtime

import faiss  # isort: skip

from data.errors import InputError
from data.types import Float32, Int64, Neighbours
from index.build import set_nprobe

MAX_K = 10_000


def load_index(path: Path, d: int) -> faiss.Index:
    """The FAISS index at `path`, of d dimensions."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1]
        raise InputError(f"{path} is no FAISS index: {said}") from None
    if index.d != d:
        raise InputError(f"{path} holds vectors of {index.d} dimensions, not {d}")
    return index


class Searcher:
    """A loaded index that checks what FAISS does not."""

    def __init__(self, path: Path, nprobe: int) -> None:
        """Load the file at `path`, which the caller has verified (FAISS itself checks nothing)."""
        self.index = faiss.read_index(str(path))
        set_nprobe(self.index, nprobe)

    def search(self, queries: Float32, k: int) -> Neighbours:
        """The k nearest items of each of the (q, d) float32 unit vectors."""
        if queries.ndim != 2 or queries.shape[1] != self.index.d:
            raise InputError(
                f"queries have shape {queries.shape}; the index holds vectors of {self.index.d}"
            )
        if not np.isfinite(queries).all():
            raise InputError("a query has a number that is not finite")
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}; it must be 1 to {MAX_K}")
        distances, ids = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        distances[ids < 0] = np.inf
        return Neighbours(ids=ids, distances=np.maximum(distances, 0))

    def vectors(self, ids: Int64) -> Float32:
        """The stored vectors (q, d) of items by id."""
        out = np.empty((len(ids), self.index.d), np.float32)
        for row, number in enumerate(ids.tolist()):
            try:
                out[row] = self.index.reconstruct(number)
            except RuntimeError:
                raise InputError(f"no item {number} in the index") from None
        return out
