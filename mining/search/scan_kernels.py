"""The compiled inner loops of mining; `scan` says what they are for and why they are exact.

Scores are compared as integers. The bits of a float, the lower ones of a negative float flipped,
sort as the floats do, and so do their upper halves, which are bfloat16; and loops over integers
compile to vector instructions where loops over floats do not.

None is numba-parallel: its pool would set the number of threads that torch has, and with it the
bits of whatever torch does next. Callers share the work out (`scan.in_threads`).
"""

import numba
import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64

CHUNK = 256
Keys = NDArray[np.int16] | NDArray[np.int32]
TOP = np.int32(2**31 - 1)


@numba.njit(cache=True, nogil=True)
def distance(a: Float32, b: Float32) -> np.float32:
    """Squared distance, summed in float64 in order and rounded once."""
    total = 0.0
    for i in range(len(a)):
        difference = np.float64(a[i]) - np.float64(b[i])
        total += difference * difference
    return np.float32(total)


@numba.njit(cache=True, nogil=True)
def exact_distances(
    anchors: Float32, a: NDArray[np.intp], gallery: Float32, b: NDArray[np.intp]
) -> Float32:
    """Distances of rows a (p,) of anchors to rows b (p,) of the gallery."""
    out = np.empty(len(a), np.float32)
    for i in range(len(a)):
        out[i] = distance(anchors[a[i]], gallery[b[i]])
    return out


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def product(a: Float32, b: Float32) -> np.float32:
    """Dot product in float32 in whatever order is fast; within scan.product_slack of exact."""
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@numba.njit(cache=True, nogil=True)
def scan_tile(
    scores: Keys,
    chosen: Int64,
    columns: Int64,
    origin: int,
    coarse: Float32,
    fine: float,
    anchors: Float32,
    gallery: Float32,
    starts: Int64,
    stops: Int64,
    floor: Float32,
    barred_starts: Int64,
    barred_stops: Int64,
    barred: Int64,
    rows: Int64,
    distances: Float32,
    closer: Int64,
) -> None:
    """Take the products of some anchors with some of the gallery into account.

    scores: (at least b, at least m) the bits of bfloat16 or float32 products of the anchors
    `chosen` (b,) with the gallery rows `columns` (m,), ascending; overwritten. origin: the row that
    gallery[0] is. Of all anchors: coarse, how far their scores may lie from exact products; starts,
    stops, their windows; barred, gallery rows that are no negatives, ascending. fine: as coarse,
    for a float32 product. floor, rows, distances, closer: of all windows, see `scan`; the last
    three are updated.
    """
    most = 1
    for a in chosen:
        most = max(most, stops[a] - starts[a])
    low, high = np.empty(most, scores.dtype), np.empty(most, scores.dtype)
    products = np.empty(CHUNK, np.float32)
    for i in range(len(chosen)):
        a = chosen[i]
        if starts[a] == stops[a]:
            continue
        keys = scores[i, : len(columns)]
        _bar(keys, columns, barred, barred_starts[a], barred_stops[a])
        _limits(floor, distances, starts[a], stops[a], coarse[a], low, high)
        _scan_row(
            keys, a, columns, origin, coarse[a], fine, anchors, gallery, floor, starts[a], stops[a],
            rows, distances, closer, low, high, products,
        )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def look_at(
    anchors: Float32,
    gallery: Float32,
    candidates: Int64,
    starts: Int64,
    stops: Int64,
    floor: Float32,
    barred_starts: Int64,
    barred_stops: Int64,
    barred: Int64,
    rows: Int64,
    distances: Float32,
    closer: Int64,
) -> Float32:
    """Take candidates (b, k), gallery rows, -1 for no more, -2 for unknown; see scan_tile.

    Returns (b,) the distance to each anchor's farthest candidate, inf where it has less than k.
    """
    reach = np.zeros(len(anchors), np.float32)
    for i in range(len(anchors)):
        banned = barred[barred_starts[i] : barred_stops[i]]
        for row in candidates[i]:
            if row == -1:
                reach[i] = np.inf
            if row < 0:
                continue
            exact = distance(anchors[i], gallery[row])
            reach[i] = max(reach[i], exact)
            place = np.searchsorted(banned, row)
            if place < len(banned) and banned[place] == row:
                continue
            for w in range(starts[i], stops[i]):
                if exact <= floor[w]:
                    closer[w] += 1
                elif _before(exact, row, distances[w, -1], rows[w, -1]):
                    _insert(exact, row, distances, rows, w)
    return reach


@numba.njit(cache=True, nogil=True)
def _scan_row(
    keys, a, columns, origin, slack, fine, anchors, gallery, floor, w0, w1,
    rows, distances, closer, low, high, products,
):  # fmt: skip
    """Count and collect what the keys of anchor `a` hold for each of its windows."""
    last = rows.shape[1] - 1
    shift = np.int32(32 - 8 * keys.itemsize)
    least = _least(low, w1 - w0)
    if least < 0:  # the bits of positive floats are in order as they are
        _to_keys(keys)
    for first in range(0, len(columns), CHUNK):
        chunk = keys[first : first + CHUNK]
        top = _largest(chunk)
        if top < least:
            continue
        fresh = False
        for w in range(w0, w1):
            lowest, highest = low[w - w0], high[w - w0]
            if top < lowest:
                continue
            if top > highest:  # some are closer than the floor, beyond doubt
                count, best = _split(chunk, highest)
                closer[w] += count
                if best < lowest:
                    continue
            if not fresh:
                products[:] = np.nan
                fresh = True
            above = np.float32(1 - 0.5 * floor[w] + fine)
            below = np.float32(1 - 0.5 * distances[w, last] - fine)
            for j in range(len(chunk)):
                if chunk[j] < lowest or chunk[j] > highest:
                    continue
                row = columns[first + j]
                if np.isnan(products[j]):
                    products[j] = product(anchors[a], gallery[row - origin])
                if products[j] > above:
                    closer[w] += 1
                elif products[j] >= below:
                    exact = distance(anchors[a], gallery[row - origin])
                    if exact <= floor[w]:
                        closer[w] += 1
                    elif _before(exact, row, distances[w, last], rows[w, last]):
                        _insert(exact, row, distances, rows, w)
                        below = np.float32(1 - 0.5 * distances[w, last] - fine)
                        lowest = _key(1 - 0.5 * distances[w, last] - slack) >> shift
            if lowest > low[w - w0]:
                low[w - w0] = lowest
                least = _least(low, w1 - w0)


@numba.njit(cache=True, nogil=True)
def _limits(floor, distances, w0, w1, slack, low, high):
    """Per window the keys below which nothing is wanted, and above which all is closer."""
    shift = np.int32(32 - 8 * low.itemsize)
    for w in range(w0, w1):
        low[w - w0] = _key(1 - 0.5 * distances[w, -1] - slack) >> shift
        high[w - w0] = _key(1 - 0.5 * floor[w] + slack) >> shift


@numba.njit(cache=True, nogil=True)
def _least(low, count):
    """The least of the first `count`."""
    least = low[0]
    for w in range(1, count):
        least = min(least, low[w])
    return least


@numba.njit(cache=True, nogil=True)
def _to_keys(bits):
    """Float bits to sortable integers, in place."""
    if bits.itemsize == 2:  # literal constants, or the loop would run in 64 bits
        for j in range(len(bits)):
            bits[j] = bits[j] ^ ((bits[j] >> 15) & 0x7FFF)
    else:
        for j in range(len(bits)):
            bits[j] = bits[j] ^ ((bits[j] >> 31) & 0x7FFFFFFF)


@numba.njit(cache=True, nogil=True)
def _bar(keys, columns, barred, start, stop):
    """Put what is no negative below everything."""
    place, end = 0, len(columns)
    for p in range(_first(barred, start, stop, columns[0]), stop):
        if barred[p] > columns[-1]:
            break
        place = _first(columns, place, end, barred[p])
        if columns[place] == barred[p]:
            keys[place] = -1  # the bits of the lowest of all


@numba.njit(cache=True, nogil=True)
def _first(ascending, start, stop, value):
    """The first place from `start` on with at least `value`."""
    while start < stop:
        middle = (start + stop) // 2
        if ascending[middle] < value:
            start = middle + 1
        else:
            stop = middle
    return start


@numba.njit(cache=True, nogil=True)
def _largest(keys):
    top = keys[0]
    for j in range(len(keys)):
        top = max(top, keys[j])
    return top


@numba.njit(cache=True, nogil=True)
def _split(keys, high):
    """How many keys lie above `high`, and the largest of the others."""
    lowest = keys.dtype.type(np.iinfo(keys.dtype).min)
    count, best = keys.dtype.type(0), lowest  # narrow types keep the loop in narrow lanes
    for j in range(len(keys)):
        above = keys[j] > high
        count = keys.dtype.type(count + keys.dtype.type(above))
        best = max(best, lowest if above else keys[j])
    return count, best


@numba.njit(cache=True, nogil=True)
def top_columns(bits, count):
    """The `count` largest of each row of float bits (b, m), largest first: columns (b, count)."""
    found = np.empty((len(bits), count), np.int32)
    for i in range(len(bits)):
        keys = bits[i]
        _to_keys(keys)
        best = np.full(count, np.iinfo(bits.dtype).min, bits.dtype)
        for first in range(0, len(keys), 64):
            if first >= count and _largest(keys[first : first + 64]) <= best[-1]:
                continue
            for j in range(first, min(first + 64, len(keys))):
                if j >= count and keys[j] <= best[-1]:
                    continue
                place = min(j, count - 1)
                while place > 0 and keys[j] > best[place - 1]:
                    best[place], found[i, place] = best[place - 1], found[i, place - 1]
                    place -= 1
                best[place], found[i, place] = keys[j], j
    return found


@numba.njit(cache=True, nogil=True)
def _key(score):
    bits = np.float32(score).view(np.int32)
    return bits ^ ((bits >> np.int32(31)) & TOP)


@numba.njit(cache=True, nogil=True)
def _before(d, row, other_d, other_row):
    """Whether (d, row) comes before another: nearer, or as near and of lower row (-1 is none)."""
    return d < other_d or (d == other_d and row < other_row)


@numba.njit(cache=True, nogil=True)
def _insert(d, row, distances, rows, w):
    """Put (d, row) in its place in a window's sorted list, whose last entry goes."""
    place = rows.shape[1] - 1
    while place > 0 and _before(d, row, distances[w, place - 1], rows[w, place - 1]):
        distances[w, place], rows[w, place] = distances[w, place - 1], rows[w, place - 1]
        place -= 1
    distances[w, place], rows[w, place] = d, row
