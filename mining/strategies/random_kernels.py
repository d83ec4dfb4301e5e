"""Compiled loops of random choice: positives (`positives`), negatives (`random_negatives`)."""

import numba
import numpy as np

from remine.mining.search.scan_kernels import distance

CUTOFF, CLAMP = 1.4, 0.5  # unsquared distances: no weight beyond, no more weight below (Wu 2017)


@numba.njit(cache=True, nogil=True)
def smallest_hashes(starts, stops, rows, own, anchor_ids, ids, seed, limit):
    """Which entries of the lists rows[starts[a]:stops[a]] are among the `limit` of their anchor.

    Those with the smallest hashes of (seed, anchor id, entry's id), the anchor itself left out: a
    mask over all entries, list by list.
    """
    sizes = stops - starts
    mask, offset = np.zeros(sizes.sum(), np.bool_), 0
    keys = np.empty(sizes.max() if len(sizes) else 0, np.uint64)
    for a in range(len(starts)):
        state, last = _mix(seed, anchor_ids[a]), np.uint64(2**64 - 1)
        for k in range(sizes[a]):
            row = rows[starts[a] + k]
            keys[k] = last if row == own[a] else _mix(state, ids[row])
        chosen = np.argsort(keys[: sizes[a]], kind="mergesort")
        for k in chosen[:limit]:
            mask[offset + k] = rows[starts[a] + k] != own[a]
        offset += sizes[a]
    return mask


@numba.njit(cache=True, nogil=True)
def uniform(
    anchor, positive_ids, anchors, anchor_ids, own, gallery, starts, stops, barred,
    rows, distances, floor, ceiling, seed, attempts,
):  # fmt: skip
    """Fill rows (p, m), -1 before, and distances (p, m)."""
    m = rows.shape[1]
    n = np.uint64(len(gallery))
    for i in range(len(anchor)):
        a = anchor[i]
        banned = barred[starts[a] : stops[a]]
        key = _mix(_mix(seed, anchor_ids[a]), positive_ids[i])
        taken = 0
        for t in range(attempts):
            row = np.int64(_mix(key, t) % n)
            if row == own[a] or _holds(banned, row) or _is_in(rows[i], taken, row):
                continue
            d = distance(anchors[a], gallery[row])
            if floor[i] < d < ceiling[i]:
                rows[i, taken], distances[i, taken] = row, d
                taken += 1
                if taken == m:
                    break
        while taken < m:  # look at all that are left, take the one with the smallest hash
            best, best_key, best_d = np.int64(-1), np.uint64(0), np.float32(0)
            for row in range(len(gallery)):
                if row == own[a] or _holds(banned, row) or _is_in(rows[i], taken, row):
                    continue
                d = distance(anchors[a], gallery[row])
                if floor[i] < d < ceiling[i]:
                    row_key = _mix(key, -1 - row)
                    if best < 0 or row_key < best_key:
                        best, best_key, best_d = np.int64(row), row_key, d
            if best < 0:
                break
            rows[i, taken], distances[i, taken] = best, best_d
            taken += 1


@numba.njit(cache=True, nogil=True)
def weighted(
    anchor, positive_ids, anchors, anchor_ids, own, gallery, starts, stops, barred,
    rows, distances, floor, seed, pool,
):  # fmt: skip
    """Fill rows (p, m), -1 before, and distances (p, m)."""
    m = rows.shape[1]
    n = np.uint64(len(gallery))
    d = anchors.shape[1]
    for i in range(len(anchor)):
        a = anchor[i]
        banned = barred[starts[a] : stops[a]]
        pool_key = _mix(seed, anchor_ids[a])
        pair_key = _mix(pool_key, positive_ids[i])
        scores = np.full(m, -np.inf)
        for t in range(pool):
            row = np.int64(_mix(pool_key, t) % n)
            if row == own[a] or _holds(banned, row) or _is_in(rows[i], m, row):
                continue
            squared = distance(anchors[a], gallery[row])
            unsquared = np.sqrt(squared)
            if squared <= floor[i] or unsquared >= CUTOFF:
                continue
            clamped = max(unsquared, CLAMP)
            weight = (2 - d) * np.log(clamped) - (d - 3) / 2 * np.log(1 - clamped * clamped / 4)
            chance = (np.float64(_mix(pair_key, row) >> np.uint64(11)) + 0.5) / 2.0**53
            score = weight - np.log(-np.log(chance))
            place = m - 1
            if score <= scores[place]:
                continue
            while place > 0 and score > scores[place - 1]:
                scores[place] = scores[place - 1]
                rows[i, place], distances[i, place] = rows[i, place - 1], distances[i, place - 1]
                place -= 1
            scores[place], rows[i, place], distances[i, place] = score, row, squared


@numba.njit(cache=True, nogil=True)
def _mix(state, value):
    """One step of splitmix64 with `value` stirred in."""
    mixed = (np.uint64(state) ^ np.uint64(value)) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _holds(ascending, row):
    """Whether an ascending list holds `row`."""
    place = np.searchsorted(ascending, row)
    return place < len(ascending) and ascending[place] == row


@numba.njit(cache=True, nogil=True)
def _is_in(rows, count, row):
    """Whether one of the first `count` rows is `row`."""
    for k in range(count):  # noqa: SIM110 - numba has no any() of a generator
        if rows[k] == row:
            return True
    return False
