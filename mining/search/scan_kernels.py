"""The compiled inner loops of mining; `scan` explains what they are for and why they are exact.

Scores are compared as integers. The bits of a float, with the lower bits of a negative float
flipped, sort as the floats do; so do their upper halves, which are the bits of a bfloat16. Loops
over integers compile to vector instructions where loops over floats do not.

None of them is numba-parallel: numba's thread pool would change the number of threads that torch
uses, and with it the bits of later torch results. Callers divide the work (`scan.run_in_threads`).
"""

import numba
import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64

CHUNK = 256  # scores that are skipped together
Keys = NDArray[np.int16] | NDArray[np.int32]
TOP = np.int32(2**31 - 1)


@numba.njit(cache=True, nogil=True)
def distance(a: Float32, b: Float32) -> np.float32:
    """Squared distance, summed in float64 in order of the components, rounded to float32 once."""
    total = 0.0
    for i in range(len(a)):
        difference = np.float64(a[i]) - np.float64(b[i])
        total += difference * difference
    return np.float32(total)


@numba.njit(cache=True, nogil=True)
def exact_distances(
    anchors: Float32, a: NDArray[np.intp], gallery: Float32, b: NDArray[np.intp]
) -> Float32:
    """(p,) float32 squared distances of rows a (p,) of anchors to rows b (p,) of the gallery."""
    out = np.empty(len(a), np.float32)
    for i in range(len(a)):
        out[i] = distance(anchors[a[i]], gallery[b[i]])
    return out


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def product(a: Float32, b: Float32) -> np.float32:
    """Dot product in float32 in any order of summation, within `slack.product_slack` of exact."""
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@numba.njit(cache=True, nogil=True)
def scan_tile(
    scores: Keys,
    anchor_rows: Int64,
    columns: Int64,
    origin: int,
    coarse: Float32,
    fine: float,
    anchors: Float32,
    gallery: Float32,
    starts: Int64,
    stops: Int64,
    floor: Float32,
    excluded_starts: Int64,
    excluded_stops: Int64,
    part_starts: Int64,
    part_stops: Int64,
    excluded_rows: Int64,
    rows: Int64,
    distances: Float32,
    closer: Int64,
) -> None:
    """Update the matches of some anchors with their scores against some gallery rows.

    Args:
        scores: (at least b, at least m) the bits of bfloat16 or float32 products; overwritten.
        anchor_rows: (b,) the anchors of the rows of `scores`.
        columns: (m,) gallery rows, ascending.
        origin: The row that gallery[0] is numbered as.
        coarse: (a,) for every anchor, how far its scores may be from exact scores.
        fine: The same for a float32 product (`product`).
        anchors: (a, d) unit vectors.
        gallery: (n, d) unit vectors.
        starts: (a,) the first window of every anchor.
        stops: (a,) the end of its windows.
        floor: (w,) of all windows.
        excluded_starts: (a,) the first part of the rows that are not an anchor's negatives.
        excluded_stops: (a,) the end of its parts.
        part_starts: (e,) where each part starts in `excluded_rows`.
        part_stops: (e,) where it ends.
        excluded_rows: Gallery rows, ascending in each part.
        rows: (w, depth) matches, see `WindowMatches`; updated.
        distances: (w, depth) their distances; updated.
        closer: (w,) counts at or below the floor; updated.
    """
    max_windows = 1
    for a in anchor_rows:
        max_windows = max(max_windows, stops[a] - starts[a])
    low, high = np.empty(max_windows, scores.dtype), np.empty(max_windows, scores.dtype)
    products = np.empty(CHUNK, np.float32)
    for i in range(len(anchor_rows)):
        a = anchor_rows[i]
        if starts[a] == stops[a]:
            continue
        keys = scores[i, : len(columns)]
        for p in range(excluded_starts[a], excluded_stops[a]):
            _exclude(keys, columns, excluded_rows, part_starts[p], part_stops[p])
        _limits(floor, distances, starts[a], stops[a], coarse[a], low, high)
        _scan_row(
            keys, a, columns, origin, coarse[a], fine, anchors, gallery, floor, starts[a], stops[a],
            rows, distances, closer, low, high, products,
        )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def scan_candidates(
    anchors: Float32,
    gallery: Float32,
    candidates: Int64,
    starts: Int64,
    stops: Int64,
    floor: Float32,
    excluded_starts: Int64,
    excluded_stops: Int64,
    part_starts: Int64,
    part_stops: Int64,
    excluded_rows: Int64,
    rows: Int64,
    distances: Float32,
    closer: Int64,
) -> Float32:
    """Update the matches of b anchors with k candidates each; the rest is as in `scan_tile`.

    candidates (b, k) holds gallery rows, -1 if there are no more, -2 for an item to ignore. Returns
    (b,) float32 the distance to each anchor's farthest candidate, inf if it has fewer than k.
    """
    reach = np.zeros(len(anchors), np.float32)
    for i in range(len(anchors)):
        first, last = excluded_starts[i], excluded_stops[i]
        for row in candidates[i]:
            if row == -1:
                reach[i] = np.inf
            if row < 0:
                continue
            exact = distance(anchors[i], gallery[row])
            reach[i] = max(reach[i], exact)
            if holds(first, last, part_starts, part_stops, excluded_rows, row):
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
    """Update every window of anchor `a`, numbers w0 to w1, with the keys of one row of scores."""
    last = rows.shape[1] - 1
    shift = np.int32(32 - 8 * keys.itemsize)
    least = _least(low, w1 - w0)
    if least < 0:  # the bits of positive floats sort correctly unchanged
        _to_keys(keys)
    for first in range(0, len(columns), CHUNK):
        chunk = keys[first : first + CHUNK]
        top = _largest(chunk)
        if top < least:  # no window needs anything of this chunk
            continue
        has_products = False
        for w in range(w0, w1):
            lowest, highest = low[w - w0], high[w - w0]
            if top < lowest:
                continue
            if top > highest:  # some scores are certainly closer than the floor
                count, best = _split(chunk, highest)
                closer[w] += count
                if best < lowest:
                    continue
            if not has_products:
                products[:] = np.nan
                has_products = True
            above = np.float32(1 - 0.5 * floor[w] + fine)
            below = np.float32(1 - 0.5 * distances[w, last] - fine)
            for j in range(len(chunk)):
                if chunk[j] < lowest or chunk[j] > highest:
                    continue
                row = columns[first + j]
                # The coarse score is undecided: a float32 product first, float64 only if needed.
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
    """Set the two keys between which a score of each window has to be examined.

    Below `low` a score is beyond the window's last match; above `high` it is closer than its floor.
    """
    shift = np.int32(32 - 8 * low.itemsize)
    for w in range(w0, w1):
        low[w - w0] = _key(1 - 0.5 * distances[w, -1] - slack) >> shift
        high[w - w0] = _key(1 - 0.5 * floor[w] + slack) >> shift


@numba.njit(cache=True, nogil=True)
def _least(low, count):
    """The smallest of the first `count` keys."""
    least = low[0]
    for w in range(1, count):
        least = min(least, low[w])
    return least


@numba.njit(cache=True, nogil=True)
def _to_keys(bits):
    """Convert float bits to integers that sort as the floats do, in place."""
    if bits.itemsize == 2:  # literal constants keep the loop in narrow integers
        for j in range(len(bits)):
            bits[j] = bits[j] ^ ((bits[j] >> 15) & 0x7FFF)
    else:
        for j in range(len(bits)):
            bits[j] = bits[j] ^ ((bits[j] >> 31) & 0x7FFFFFFF)


@numba.njit(cache=True, nogil=True)
def _exclude(keys, columns, excluded_rows, start, stop):
    """Set the keys of excluded rows to the lowest of all, so that nothing examines them."""
    place, end = 0, len(columns)
    for p in range(_first(excluded_rows, start, stop, columns[0]), stop):
        if excluded_rows[p] > columns[-1]:
            break
        place = _first(columns, place, end, excluded_rows[p])
        if columns[place] == excluded_rows[p]:
            keys[place] = -1  # the float bits that sort lowest


@numba.njit(cache=True, nogil=True)
def holds(first_part, last_part, part_starts, part_stops, rows, row):
    """Whether one of the parts first_part to last_part, exclusive, contains `row`."""
    for p in range(first_part, last_part):
        place = _first(rows, part_starts[p], part_stops[p], row)
        if place < part_stops[p] and rows[place] == row:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _first(ascending, start, stop, value):
    """The first place in start..stop whose value is at least `value`, by bisection."""
    while start < stop:
        middle = (start + stop) // 2
        if ascending[middle] < value:
            start = middle + 1
        else:
            stop = middle
    return start


@numba.njit(cache=True, nogil=True)
def _largest(keys):
    """The largest key."""
    top = keys[0]
    for j in range(len(keys)):
        top = max(top, keys[j])
    return top


@numba.njit(cache=True, nogil=True)
def _split(keys, high):
    """How many keys are above `high`, and the largest of the rest."""
    lowest = keys.dtype.type(np.iinfo(keys.dtype).min)
    count, best = keys.dtype.type(0), lowest  # narrow types keep the vector lanes narrow
    for j in range(len(keys)):
        above = keys[j] > high
        count = keys.dtype.type(count + keys.dtype.type(above))
        best = max(best, lowest if above else keys[j])
    return count, best


@numba.njit(cache=True, nogil=True)
def top_columns(bits, count):
    """The columns of the `count` largest of each row of float bits (b, m), largest first.

    The bits are overwritten. Returns (b, count) int32.
    """
    result = np.empty((len(bits), count), np.int32)
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
                    best[place], result[i, place] = best[place - 1], result[i, place - 1]
                    place -= 1
                best[place], result[i, place] = keys[j], j
    return result


@numba.njit(cache=True, nogil=True)
def _key(score):
    """The sortable 32-bit integer of a score."""
    bits = np.float32(score).view(np.int32)
    return bits ^ ((bits >> np.int32(31)) & TOP)


@numba.njit(cache=True, nogil=True)
def _before(d, row, other_d, other_row):
    """Whether (d, row) sorts before another match: nearer, or as near and of a lower row."""
    return d < other_d or (d == other_d and row < other_row)


@numba.njit(cache=True, nogil=True)
def _insert(d, row, distances, rows, w):
    """Insert (d, row) into the sorted list of a window and drop the list's last entry."""
    place = rows.shape[1] - 1
    while place > 0 and _before(d, row, distances[w, place - 1], rows[w, place - 1]):
        distances[w, place], rows[w, place] = distances[w, place - 1], rows[w, place - 1]
        place -= 1
    distances[w, place], rows[w, place] = d, row
