"""Embeddings, neighbours and triplets: named arrays whose shapes and dtypes are checked once.

Sizes, here and throughout: n items, q queries, k neighbours, t triplets, d dimensions, c classes.
`distance` is squared Euclidean on unit vectors, 2 - 2*cosine, in [0, 4]; smaller is closer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

Split = Literal["train", "val", "test", "unknown"]
Kind = Literal["hard", "semi_hard", "easy"]
SPLITS: tuple[str, ...] = get_args(Split)
KINDS: tuple[str, ...] = get_args(Kind)
HARD, SEMI_HARD, EASY = range(3)
UNIT_ROWS = 8192
"""Rows that `unit` scales at a time, in float64."""


def _check(name: str, array: np.ndarray, dtype: type, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError for another dtype or shape; None in `shape` stands for any length."""
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} of shape {shape}, got {array.dtype} {array.shape}"
        )


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Unit vectors of items.

    Attributes:
        ids: (n,) int64, ascending and unique.
        label_codes: (n,) int32 into the label names of the catalogue.
        vectors: (n, d) float32, every row of length 1.
    """

    ids: Int64
    label_codes: Int32
    vectors: Float32

    def __post_init__(self) -> None:
        n = len(self.ids)
        _check("ids", self.ids, np.int64, (n,))
        _check("label_codes", self.label_codes, np.int32, (n,))
        _check("vectors", self.vectors, np.float32, (n, None))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The embeddings at `rows` (integers or a mask)."""
        return type(self)(
            ids=self.ids[rows], label_codes=self.label_codes[rows], vectors=self.vectors[rows]
        )


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The k nearest items of q queries, nearest first.

    Attributes:
        ids: (q, k) int64, -1 where fewer than k exist.
        distances: (q, k) float32 squared distances, ascending, inf where ids are -1.
    """

    ids: Int64
    distances: Float32

    def __post_init__(self) -> None:
        _check("ids", self.ids, np.int64, (None, None))
        _check("distances", self.distances, np.float32, self.ids.shape)


@dataclass(frozen=True, kw_only=True)
class Triplets:
    """t triplets of items, by id.

    Attributes:
        anchor_id, positive_id, negative_id: (t,) int64.
        d_ap, d_an: (t,) float32 squared distances of the anchor to the positive and negative.
        kind: (t,) int8 codes into KINDS.
        negative_rank: (t,) int32, how many negatives of the whole gallery are closer to the
            anchor than this one; -1 for a negative drawn at random, whose rank is not counted.
        negative2_id: (t,) int64, another item of the negative's class, -1 if it has only one;
            None unless `mining.second_negative` is set.
    """

    anchor_id: Int64
    positive_id: Int64
    negative_id: Int64
    d_ap: Float32
    d_an: Float32
    kind: Int8
    negative_rank: Int32
    negative2_id: Int64 | None = None

    def __post_init__(self) -> None:
        t = (len(self.anchor_id),)
        for name in ("anchor_id", "positive_id", "negative_id"):
            _check(name, getattr(self, name), np.int64, t)
        for name in ("d_ap", "d_an"):
            _check(name, getattr(self, name), np.float32, t)
        _check("kind", self.kind, np.int8, t)
        _check("negative_rank", self.negative_rank, np.int32, t)
        if self.negative2_id is not None:
            _check("negative2_id", self.negative2_id, np.int64, t)

    def __len__(self) -> int:
        return len(self.anchor_id)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The triplets at `rows` (integers or a mask)."""
        return type(self)(**{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by name, without `negative2_id` if it is None."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def concatenate(cls, parts: "Sequence[Triplets]") -> Self:
        """Concatenate `parts` (at least one), in order."""
        columns = [part.columns() for part in parts]
        return cls(**{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})


def unit(vectors: Float32, row_noun: str = "vector") -> Float32:
    """`vectors` (n, d) float32 scaled to length 1.

    Args:
        vectors: (n, d) float32 of any length above 1e-12.
        row_noun: what a row is called in error messages.

    Raises:
        InputError: A row is zero or not finite, so it has no direction.
    """
    unit_vectors = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), UNIT_ROWS):
        block = vectors[start : start + UNIT_ROWS].astype(np.float64)
        # In float64, so that the squares of large components neither overflow nor lose digits.
        norms = np.linalg.norm(block, axis=1)
        bad = ~np.isfinite(norms) | (norms < 1e-12)
        if bad.any():
            row = int(bad.argmax())
            length = f"{row_noun} {start + row} has length {norms[row]:g}"
            raise InputError(f"{length}: it has no direction")
        unit_vectors[start : start + UNIT_ROWS] = block / norms[:, None]
    return unit_vectors
