"""Compiled loops that select positives (`positives`) and random negatives (`random_negatives`)."""

import numba
import numpy as np

from remine.mining.search.scan_kernels import distance, holds

# Unsquared distances of Wu et al. 2017: no weight from CUTOFF on, constant weight below CLAMP.
CUTOFF, CLAMP = 1.4, 0.5
BY_HASH, NEAREST, FARTHEST = 0, 1, 2  # rules of `select_positives`


@numba.njit(cache=True, nogil=True)
def select_positives(
    starts, stops, part_starts, part_stops, part_rows, self_rows, anchor_ids, ids, anchors, gallery,
    seed, rule, places, rows, counts,
):  # fmt: skip
    """Select positives of every anchor in one pass over its rows, without listing them.

    The positives of anchor a go to rows[places[a]:], which has room for as many as are selected,
    in no order; counts (a,) receives their number. `rule` says which: BY_HASH the smallest hashes
    of (seed, anchor id, id), NEAREST and FARTHEST by distance, of equally far ones the lowest ids.
    """
    # The last anchor that saw a row: a row of several parts is considered once.
    stamps = np.full(len(ids), -1, np.int32)
    for a in range(len(starts)):
        limit = places[a + 1] - places[a]
        heap, keys = rows[places[a] : places[a + 1]], np.empty(limit, np.uint64)
        state, count = _mix(seed, anchor_ids[a]), 0
        repeats = stops[a] - starts[a] > 1
        for p in range(starts[a], stops[a]):
            for k in range(part_starts[p], part_stops[p]):
                row = part_rows[k]
                if row == self_rows[a] or (repeats and stamps[row] == a):
                    continue
                if repeats:
                    stamps[row] = a
                if rule == BY_HASH:
                    key = _mix(state, ids[row])
                else:
                    key = _distance_key(distance(anchors[a], gallery[row]), rule)
                if count < limit:
                    _sift_up(keys, heap, ids, count, key, row)
                    count += 1
                elif limit and _precedes(key, ids[row], keys[0], ids[heap[0]]):
                    _sift_down(keys, heap, ids, key, row)
        counts[a] = count


@numba.njit(cache=True, nogil=True)
def _distance_key(d, rule):
    """The bits of a squared distance, which sort as it does; in reverse for FARTHEST."""
    bits = np.uint64(np.float32(d).view(np.uint32))
    return np.uint64(2**32 - 1) - bits if rule == FARTHEST else bits


@numba.njit(cache=True, nogil=True)
def _precedes(key, item, other_key, other_item):
    """Whether (key, id) sorts before another."""
    return key < other_key or (key == other_key and item < other_item)


@numba.njit(cache=True, nogil=True)
def _sift_up(keys, heap, ids, place, key, row):
    """Add an entry at the end of a heap whose root is the last of all."""
    while place > 0:
        parent = (place - 1) // 2
        if not _precedes(keys[parent], ids[heap[parent]], key, ids[row]):
            break
        keys[place], heap[place] = keys[parent], heap[parent]
        place = parent
    keys[place], heap[place] = key, row


@numba.njit(cache=True, nogil=True)
def _sift_down(keys, heap, ids, key, row):
    """Replace the root of a full heap."""
    place, child = 0, 1
    while child < len(heap):
        right = child + 1
        if right < len(heap) and _precedes(
            keys[child], ids[heap[child]], keys[right], ids[heap[right]]
        ):
            child = right
        if not _precedes(key, ids[row], keys[child], ids[heap[child]]):
            break
        keys[place], heap[place] = keys[child], heap[child]
        place, child = child, 2 * child + 1
    keys[place], heap[place] = key, row


@numba.njit(cache=True, nogil=True)
def uniform(
    anchor, positive_ids, anchors, anchor_ids, self_rows, gallery, starts, stops, part_starts,
    part_stops, excluded_rows, rows, distances, floor, ceiling, seed, attempts,
):  # fmt: skip
    """Draw m negatives per pair uniformly among those with floor < d < ceiling.

    Fills rows (p, m), which hold -1 before, and distances (p, m).
    """
    m = rows.shape[1]
    n = np.uint64(len(gallery))
    for i in range(len(anchor)):
        a = anchor[i]
        exclusions = starts[a], stops[a], part_starts, part_stops, excluded_rows
        key = _mix(_mix(seed, anchor_ids[a]), positive_ids[i])
        count = 0
        for t in range(attempts):
            row = np.int64(_mix(key, t) % n)
            if row == self_rows[a] or holds(*exclusions, row) or _is_in(rows[i], count, row):
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
                if row == self_rows[a] or holds(*exclusions, row) or _is_in(rows[i], count, row):
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
    anchor, positive_ids, anchors, anchor_ids, self_rows, gallery, starts, stops, part_starts,
    part_stops, excluded_rows, rows, distances, floor, seed, pool,
):  # fmt: skip
    """Draw m negatives per pair by inverse density of their distance (Wu et al. 2017).

    Fills rows (p, m), which hold -1 before, and distances (p, m).
    """
    m = rows.shape[1]
    n = np.uint64(len(gallery))
    d = anchors.shape[1]
    for i in range(len(anchor)):
        a = anchor[i]
        exclusions = starts[a], stops[a], part_starts, part_stops, excluded_rows
        pool_key = _mix(seed, anchor_ids[a])
        pair_key = _mix(pool_key, positive_ids[i])
        scores = np.full(m, -np.inf)
        for t in range(pool):
            row = np.int64(_mix(pool_key, t) % n)
            if row == self_rows[a] or holds(*exclusions, row) or _is_in(rows[i], m, row):
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
def _is_in(rows, count, row):
    """Whether one of the first `count` rows is `row`."""
    for k in range(count):  # noqa: SIM110 - numba has no any() of a generator
        if rows[k] == row:
            return True
    return False
