"""Which index is built, and why. The numbers behind the reasons: benchmarks/indexes.py.

Measured at d = 128 on clustered vectors, recall@10 of 0.98 or more, one query at a time:
exact search of 200,000 vectors stays within a few milliseconds and needs no tuning; above, lists
are the faster the more there is. Half-precision vectors cost no measurable recall and half the
memory, eight-bit ones about one in a hundred neighbours and three quarters of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from remine.data.errors import InputError

FLAT_LIMIT = 200_000
MEGABYTE = 1_000_000
CODECS = (("Flat", 4, "whole vectors"), ("SQfp16", 2, "half-precision vectors, which fit"))
SMALLEST = ("SQ8", 1, "vectors of eight bits a number, which fit")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A FAISS factory string, the reason in a line, and about how many bytes it takes."""

    factory: str
    reason: str
    bytes: int


def choose(n: int, d: int, memory: int = 0) -> Choice:
    """The index for n vectors of d dimensions within `memory` megabytes (0: as it likes)."""
    for choice in _ladder(n, d):
        if not memory or choice.bytes <= memory * MEGABYTE:
            return choice
    raise InputError(
        f"index.memory is {memory} MB; the smallest index of {n} vectors of {d} dimensions takes"
        f" {-(-choice.bytes // MEGABYTE)} MB"
    )


def _ladder(n: int, d: int) -> Iterator[Choice]:
    """From the most exact to the smallest."""
    lists = isqrt(n)
    for codec, size, what in (*CODECS, SMALLEST):
        if n <= FLAT_LIMIT:
            reason = f"{n:,} items, at most {FLAT_LIMIT:,}: every one is looked at; {what}"
            yield Choice(factory=codec, reason=reason, bytes=n * (size * d + 8))
        else:
            reason = f"{n:,} items, above {FLAT_LIMIT:,}: {lists:,} lists, few are visited; {what}"
            stored = n * (size * d + 24) + 4 * lists * d
            yield Choice(factory=f"IVF{lists},{codec}", reason=reason, bytes=stored)
