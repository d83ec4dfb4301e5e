"""Compiled loops of the random choices: positives (`positives`), negatives (`random_negatives`)."""

import numba
import numpy as np

from remine.mining.search.scan_kernels import distance

# Unsquared distances of Wu et al. 2017: no weight from CUTOFF on, constant weight below CLAMP.
CUTOFF, CLAMP = 1.4, 0.5


@numba.njit(cache=True, nogil=True)
def smallest_hashes(starts, stops, rows, self_rows, anchor_ids, ids, seed, limit):
    """Mask of the `limit` entries of each rows[starts[a]:stops[a]] with the smallest hashes.

    Hashes are of (seed, anchor id, entry's id). The anchor itself (self_rows[a]) is never selected.
    """
    sizes = stops - starts
    mask, offset = np.zeros(sizes.sum(), np.bool_), 0
    keys = np.empty(sizes.max() if len(sizes) else 0, np.uint64)
    for a in range(len(starts)):
        state, last = _mix(seed, anchor_ids[a]), np.uint64(2**64 - 1)
        for k in range(sizes[a]):
            row = rows[starts[a] + k]
            keys[k] = last if row == self_rows[a] else _mix(state, ids[row])
        ascending = np.argsort(keys[: sizes[a]], kind="mergesort")
        for k in ascending[:limit]:
            mask[offset + k] = rows[starts[a] + k] != self_rows[a]
        offset += sizes[a]
    return mask


@numba.njit(cache=True, nogil=True)
def uniform(
    anchor, positive_ids, anchors, anchor_ids, self_rows, gallery, starts, stops, excluded_rows,
    rows, distances, floor, ceiling, seed, attempts,
):  # fmt: skip
    """Draw m negatives per pair uniformly among those with floor < d < ceiling.

    Fills rows (p, m), which hold -1 before, and distances (p, m).
    """
    m = rows.shape[1]
    n = np.uint64(len(gallery))
    for i in range(len(anchor)):
        a = anchor[i]
        exclusions = excluded_rows[starts[a] : stops[a]]
        key = _mix(_mix(seed, anchor_ids[a]), positive_ids[i])
        count = 0
        for t in range(attempts):
            row = np.int64(_mix(key, t) % n)
            if row == self_rows[a] or _holds(exclusions, row) or _is_in(rows[i], count, row):
                continue
            d = distance(anchors[a], gallery[row])
            if floor[i] < d < ceiling[i]:
                rows[i, count], distances[i, count] = row, d
                count += 1
                if count == m:
                    break
        # Too few attempts fit: of all remaining negatives take the one with the smallest hash.
        while count < m:
            best, best_key, best_d = np.int64(-1), np.uint64(0), np.float32(0)
            for row in range(len(gallery)):
                if row == self_rows[a] or _holds(exclusions, row) or _is_in(rows[i], count, row):
                    continue
                d = distance(anchors[a], gallery[row])
                if floor[i] < d < ceiling[i]:
                    row_key = _mix(key, -1 - row)
                    if best < 0 or row_key < best_key:
                        best, best_key, best_d = np.int64(row), row_key, d
            if best < 0:
                break
            rows[i, count], distances[i, count] = best, best_d
            count += 1


@numba.njit(cache=True, nogil=True)
def weighted(
    anchor, positive_ids, anchors, anchor_ids, self_rows, gallery, starts, stops, excluded_rows,
    rows, distances, floor, seed, pool,
):  # fmt: skip
    """Draw m negatives per pair by inverse density of their distance (Wu et al. 2017).

    Fills rows (p, m), which hold -1 before, and distances (p, m).
    """
    m = rows.shape[1]
    n = np.uint64(len(gallery))
    d = anchors.shape[1]
    for i in range(len(anchor)):
        a = anchor[i]
        exclusions = excluded_rows[starts[a] : stops[a]]
        pool_key = _mix(seed, anchor_ids[a])
        pair_key = _mix(pool_key, positive_ids[i])
        scores = np.full(m, -np.inf)
        for t in range(pool):
            row = np.int64(_mix(pool_key, t) % n)
            if row == self_rows[a] or _holds(exclusions, row) or _is_in(rows[i], m, row):
                continue
            d_an = distance(anchors[a], gallery[row])
            root = np.sqrt(d_an)
            if d_an <= floor[i] or root >= CUTOFF:
                continue
            bounded_root = max(root, CLAMP)
            # log 1 / q(D), with q(D) ~ D^(d-2) (1 - D^2/4)^((d-3)/2) the density of distances.
            weight = (2 - d) * np.log(bounded_root) - (d - 3) / 2 * np.log(
                1 - bounded_root * bounded_root / 4
            )
            # The m largest of log-weight + Gumbel noise are m draws without replacement.
            chance = (np.float64(_mix(pair_key, row) >> np.uint64(11)) + 0.5) / 2.0**53
            score = weight - np.log(-np.log(chance))
            place = m - 1
            if score <= scores[place]:
                continue
            while place > 0 and score > scores[place - 1]:
                scores[place] = scores[place - 1]
                rows[i, place], distances[i, place] = rows[i, place - 1], distances[i, place - 1]
                place -= 1
            scores[place], rows[i, place], distances[i, place] = score, row, d_an


@numba.njit(cache=True, nogil=True)
def _mix(state, value):
    """One step of splitmix64 with `value` mixed in."""
    bits = (np.uint64(state) ^ np.uint64(value)) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _holds(ascending, row):
    """Whether the ascending list contains `row`."""
    place = np.searchsorted(ascending, row)
    return place < len(ascending) and ascending[place] == row


@numba.njit(cache=True, nogil=True)
def _is_in(rows, count, row):
    """Whether one of the first `count` rows is `row`."""
    for k in range(count):  # noqa: SIM110 - numba has no any() of a generator
        if rows[k] == row:
            return True
    return False
