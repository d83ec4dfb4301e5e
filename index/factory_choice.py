"""The choice of the index, and the reason for it. Measurements: benchmarks/indexes.py.

At d = 128 on clustered vectors, with a recall@10 of 0.98 or more and one query at a time: exact
search of 200,000 vectors takes a few milliseconds and needs no tuning; above that, inverted lists
are the faster the more items there are. Half-precision vectors cost no measurable recall and save
half the memory; eight-bit vectors cost about one in a hundred neighbours and save three quarters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from remine.data.errors import InputError

FLAT_LIMIT = 200_000
MEGABYTE = 1_000_000
CODECS = (("Flat", 4, "full-precision vectors"), ("SQfp16", 2, "half-precision vectors, which fit"))
SMALLEST = ("SQ8", 1, "vectors of eight bits a number, which fit")


@dataclass(frozen=True, kw_only=True)
class FactoryChoice:
    """A FAISS factory string, the reason in one line, and its approximate size in bytes."""

    factory: str
    reason: str
    bytes: int


def choose_factory(n: int, d: int, memory: int = 0) -> FactoryChoice:
    """The most exact index for n vectors of d dimensions within `memory` megabytes.

    Args:
        n: Number of vectors.
        d: Their dimensions.
        memory: Limit in megabytes, 0 for none.

    Raises:
        InputError: Even the smallest index takes more.
    """
    for choice in _choices(n, d):
        if not memory or choice.bytes <= memory * MEGABYTE:
            return choice
    raise InputError(
        f"index.memory is {memory} MB; the smallest index of {n} vectors of {d} dimensions takes"
        f" {-(-choice.bytes // MEGABYTE)} MB"
    )


def _choices(n: int, d: int) -> Iterator[FactoryChoice]:
    """The choices from the most exact to the smallest."""
    lists = isqrt(n)
    for codec, size, precision in (*CODECS, SMALLEST):
        if n <= FLAT_LIMIT:
            reason = f"{n:,} items, at most {FLAT_LIMIT:,}: every one is compared; {precision}"
            yield FactoryChoice(factory=codec, reason=reason, bytes=n * (size * d + 8))
        else:
            reason = f"{n:,} items, above {FLAT_LIMIT:,}: {lists:,} lists, few visited; {precision}"
            size_in_bytes = n * (size * d + 24) + 4 * lists * d
            yield FactoryChoice(factory=f"IVF{lists},{codec}", reason=reason, bytes=size_in_bytes)
