"""Exact negatives over the whole gallery in one blocked pass, no n x n memory.

An anchor's positive distances, sorted, are thresholds t_0 <= t_1 <= ... that cut the line into
buckets; bucket k holds the negatives with exactly k thresholds below them. One pass over the
gallery keeps each bucket's size and nearest member. Then, for the pair with threshold t_j,

    hard        the nearest member of the first filled bucket, if that bucket is <= j
    semi-hard   the nearest member of the first filled bucket after j

and the negatives in the buckets before it are its rank: FaceNet's argmin over {n : d_an > d_ap}
(Schroff et al. 2015, section 3.2), over the whole gallery rather than a batch.

A float32 matrix product finds out which negatives could matter; every distance that decides is then
summed again in float64 and rounded once, so no answer depends on block sizes, threads or shards.
"""

import numpy as np
import torch

from data.types import HARD, SEMI_HARD, Embeddings, Int64, Triplets
from mining.config import MiningConfig
from mining.kernels import choose, exact_distances, fill_buckets
from mining.pairs import Pairs, Rows, find_pairs
from mining.stats import MiningStats

TILE_ANCHORS = 1024
TILE_GALLERY = 8192
CODES = {"hard": HARD, "semi_hard": SEMI_HARD}


def mine_block(
    gallery: Embeddings, anchors: Rows, config: MiningConfig, seed: int = 0
) -> tuple[Triplets, MiningStats]:
    """Mine the triplets of `anchors` (b,), rows of the gallery, from all of the gallery.

    Sorted by anchor, then d_ap, then kind as in config.kinds. `seed` decides which positives are
    taken where an anchor has more than config.max_positives.
    """
    parts, stats = [], MiningStats()
    for start in range(0, len(anchors), TILE_ANCHORS):
        rows = anchors[start : start + TILE_ANCHORS]
        pairs = find_pairs(gallery, rows, config.max_positives, seed)
        negative, rank = choose(pairs.starts, *scan(gallery, rows, pairs))
        answers = [
            _answer(gallery, rows, pairs, (negative[CODES[kind]], rank[CODES[kind]]), kind, config)
            for kind in config.kinds
        ]
        parts.append(_in_order([pair for pair, _ in answers], [found for _, found in answers]))
        stats += MiningStats(
            anchors=len(rows),
            singletons=int((np.diff(pairs.starts) == 0).sum()),
            pairs=len(pairs.anchor),
            answered={k: len(f) for k, (_, f) in zip(config.kinds, answers, strict=True)},
        )
    return Triplets.concatenate(parts), stats


def scan(gallery: Embeddings, anchors: Rows, pairs: Pairs) -> tuple[Int64, Int64]:
    """Each bucket's size and nearest member over the whole gallery.

    Returns two (p + b,) int64 arrays, one entry a bucket: those of anchor i, one more than it has
    pairs, start at pairs.starts[i] + i. The nearest member is a gallery row, the one of lowest id
    where several are as near, -1 in an empty bucket. An anchor's last bucket is not counted.
    """
    buckets = len(pairs.anchor) + len(anchors)
    sizes, nearest = np.zeros(buckets, np.int64), np.full(buckets, -1, np.int64)
    best = np.full(buckets, np.inf, np.float32)
    vectors = torch.from_numpy(gallery.vectors)
    queries = vectors[torch.from_numpy(anchors)]
    slack = product_slack(gallery.vectors.shape[1])
    for start in range(0, len(gallery), TILE_GALLERY):
        scores = queries @ vectors[start : start + TILE_GALLERY].T
        fill_buckets(
            scores.numpy(),
            start,
            slack,
            gallery.vectors,
            gallery.label_codes,
            gallery.ids,
            anchors,
            pairs.starts,
            pairs.d_ap,
            sizes,
            nearest,
            best,
        )
    return sizes, nearest


def product_slack(d: int) -> float:
    """How far 2 - 2 * (float32 product of d terms) may lie from the exact squared distance.

    In any order of summation the product errs by at most d * 2^-24 * sum |a_i b_i|, which is at
    most 1, and float32 unit vectors have squared lengths within (d + 2) * 2^-24 of 1.
    """
    return float(4 * (d + 4) * 2.0**-24)


def _answer(
    gallery: Embeddings,
    anchors: Rows,
    pairs: Pairs,
    chosen: tuple[Int64, Int64],
    kind: str,
    config: MiningConfig,
) -> tuple[Int64, Triplets]:
    """The pairs (by number) that have a negative of `kind`, and their triplets."""
    negative, rank = chosen
    found = np.flatnonzero(negative >= 0)
    d_ap = pairs.d_ap[found]
    d_an = exact_distances(gallery.vectors, anchors[pairs.anchor[found]], negative[found])
    fits = d_an <= d_ap if kind == "hard" else d_an < d_ap + np.float32(config.margin)
    found, d_ap, d_an = found[fits], d_ap[fits], d_an[fits]
    return found, Triplets(
        anchor_id=gallery.ids[anchors[pairs.anchor[found]]],
        positive_id=gallery.ids[pairs.positive[found]],
        negative_id=gallery.ids[negative[found]],
        d_ap=d_ap,
        d_an=d_an,
        kind=np.full(len(found), CODES[kind], np.int8),
        negative_rank=rank[found].astype(np.int32),
    )


def _in_order(pair_numbers: list[Int64], parts: list[Triplets]) -> Triplets:
    """All kinds' triplets, by pair."""
    order = np.argsort(np.concatenate(pair_numbers), kind="stable")
    return Triplets.concatenate(parts).take(order)
