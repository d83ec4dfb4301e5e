"""Tools in common use, each called as its documentation says and given its best case.

They answer the same question as remine from the k nearest of each anchor, so an answer beyond k is
not found; every function counts what it left unanswered. All take unit vectors, search only for
items that can be anchors, and use at most `threads` threads. The caller times them.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from remine.data.types import Float32, Int32, Int64

LONGEST_LIST = 512  # k at most: what people have patience for
BLOCK = 8192  # rows that are post-processed at once, so that they stay in cache
CENTROID_POINTS = 64  # vectors that train each list; FAISS's guide says 30 to 256
SAMPLE = 500  # anchors that measure the recall of an nprobe


@dataclass(frozen=True, kw_only=True)
class PeerNegatives:
    """The negatives of r rows, m each, nearest first.

    rows: (r,) anchors, or (r, 2) pairs of anchor and positive. negatives: (r, m) int64, -1 where
    the list had no more. distances: (r, m) float32 squared distances, inf there. note: settings
    and measurements of the search.
    """

    rows: Int64
    negatives: Int64
    distances: Float32
    note: dict[str, float] = field(default_factory=dict)

    @property
    def short(self) -> int:
        """How many rows got fewer than m negatives."""
        return int((self.negatives < 0).any(axis=1).sum())


# The questions --------------------------------------------------------------------------------


def anchors_of(labels: Int32) -> Int64:
    """Items that have a positive."""
    return np.flatnonzero(np.bincount(labels)[labels] > 1)


def list_length(labels: Int32, m: int) -> int:
    """The k that is sure to hold m negatives: m and the largest class, within LONGEST_LIST."""
    return int(min(m + np.bincount(labels).max(), LONGEST_LIST, len(labels)))


def positive_pairs(labels: Int32, per_anchor: int = 0, *, with_self: bool = False) -> Int64:
    """The pairs (t, 2) of an anchor and an item of its class, by anchor.

    per_anchor: at most that many, those that follow the anchor in its class; 0 is all. with_self:
    pair each anchor with itself, too.
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    start = (np.cumsum(sizes) - sizes)[labels[order]]
    size = sizes[labels[order]]
    place = np.arange(len(labels)) - start
    largest = int(size.max()) - 1
    pairs = []
    for step in range(0 if with_self else 1, 1 + min(per_anchor or largest, largest)):
        has = (size > 1) & (size > step)
        mates = order[start[has] + (place[has] + step) % size[has]]
        pairs.append(np.stack([order[has], mates], axis=1))
    all_pairs = np.concatenate(pairs)
    return all_pairs[np.argsort(all_pairs[:, 0], kind="stable")]


# FAISS: search, then look in the list ---------------------------------------------------------


def faiss_knn(vectors: Float32, anchors: Int64, k: int, threads: int) -> tuple[Float32, Int64]:
    """The k nearest of each anchor (ascending) by `faiss.knn`: (a, k) squared distances and ids."""
    from remine.data.faiss_library import faiss

    faiss.omp_set_num_threads(threads)
    queries = vectors if len(anchors) == len(vectors) else vectors[anchors]
    scores, ids = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    return _distances(scores), ids


def faiss_knn_hard(
    vectors: Float32, labels: Int32, m: int, *, k: int = 0, threads: int
) -> PeerNegatives:
    """The m nearest negatives of each anchor, by `faiss.knn` and numpy; k 0 is `list_length`."""
    anchors, k = anchors_of(labels), k or list_length(labels, m)
    distances, ids = faiss_knn(vectors, anchors, k, threads)
    return _hard(anchors, labels, m, distances, ids, {"k": k})


def faiss_knn_semi_hard(
    vectors: Float32, labels: Int32, pairs: Int64, margin: float, *, k: int, threads: int
) -> PeerNegatives:
    """The nearest semi-hard negative of each pair, by `faiss.knn` over k and numpy.

    pairs: (t, 2), by anchor. A short row has none within k; whether one exists, nobody knows.
    """
    anchors = np.unique(pairs[:, 0])
    distances, ids = faiss_knn(vectors, anchors, k, threads)
    return _semi_hard(anchors, vectors, labels, pairs, margin, distances, ids, {"k": k})


def ivf_hard(
    vectors: Float32, labels: Int32, m: int, *, recall: float, k: int = 0, threads: int
) -> PeerNegatives:
    """The m nearest negatives of each anchor, by an IVF index, `index.search` and numpy."""
    anchors, k = anchors_of(labels), k or list_length(labels, m)
    distances, ids, note = ivf_search(vectors, anchors, k, recall, threads)
    return _hard(anchors, labels, m, distances, ids, note)


def ivf_semi_hard(
    vectors: Float32,
    labels: Int32,
    pairs: Int64,
    margin: float,
    *,
    recall: float,
    k: int,
    threads: int,
) -> PeerNegatives:
    """The nearest semi-hard negative of each pair, by an IVF index, `index.search` and numpy."""
    anchors = np.unique(pairs[:, 0])
    distances, ids, note = ivf_search(vectors, anchors, k, recall, threads)
    return _semi_hard(anchors, vectors, labels, pairs, margin, distances, ids, note)


def ivf_search(
    vectors: Float32, anchors: Int64, k: int, recall: float, threads: int
) -> tuple[Float32, Int64, dict[str, float]]:
    """The k nearest of each anchor by IVF4√n,Flat, built, tuned and searched.

    nprobe doubles until a sample of anchors has the wished share of its true k nearest.
    """
    from remine.data.faiss_library import faiss

    faiss.omp_set_num_threads(threads)
    n, d = vectors.shape
    lists = min(max(1, round(4 * n**0.5)), max(1, n // 39))
    rng = np.random.default_rng(0)
    index = faiss.index_factory(d, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[rng.permutation(n)[: CENTROID_POINTS * lists]])
    index.add(vectors)
    sample = np.sort(rng.choice(anchors, min(SAMPLE, len(anchors)), replace=False))
    truth = faiss_knn(vectors, sample, k, threads)[0][:, -1:]
    index.nprobe, sample_recall = 1, 0.0
    while True:
        sample_distances = _distances(index.search(vectors[sample], k)[0])
        sample_recall = float((sample_distances <= truth + 1e-6).mean())
        if sample_recall >= recall or index.nprobe >= lists:
            break
        index.nprobe = min(2 * index.nprobe, lists)
    scores, ids = index.search(vectors if len(anchors) == n else vectors[anchors], k)
    note = {"k": k, "lists": lists, "nprobe": index.nprobe, "recall": sample_recall}
    return _distances(scores), ids, note


def _distances(scores: Float32) -> Float32:
    """Squared distances of inner products, in place; inf where FAISS found nothing."""
    is_missing = scores < -2
    np.subtract(2, np.multiply(2, scores, out=scores, where=~is_missing), out=scores)
    scores[is_missing] = np.inf
    return scores


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def _hard(
    anchors: Int64,
    labels: Int32,
    m: int,
    distances: Float32,
    ids: Int64,
    note: dict[str, float],
) -> PeerNegatives:
    """The first m of each anchor's list that are of another class."""
    negatives = np.full((len(anchors), m), -1, np.int64)
    negative_distances = np.full((len(anchors), m), np.inf, np.float32)
    for block in _blocks(len(anchors)):
        neighbours = ids[block]
        is_negative = (labels[neighbours] != labels[anchors[block], None]) & (neighbours >= 0)
        rank = np.cumsum(is_negative, axis=1, dtype=np.int32)
        row, column = np.nonzero(is_negative & (rank <= m))
        place = rank[row, column] - 1
        negatives[block][row, place] = neighbours[row, column]
        negative_distances[block][row, place] = distances[block][row, column]
    return PeerNegatives(rows=anchors, negatives=negatives, distances=negative_distances, note=note)


def _semi_hard(
    anchors: Int64,
    vectors: Float32,
    labels: Int32,
    pairs: Int64,
    margin: float,
    distances: Float32,
    ids: Int64,
    note: dict[str, float],
) -> PeerNegatives:
    """The nearest with d_ap < d_an < d_ap + margin in the list of each pair's anchor."""
    negatives = np.full((len(pairs), 1), -1, np.int64)
    negative_distances = np.full((len(pairs), 1), np.inf, np.float32)
    at = np.searchsorted(anchors, pairs[:, 0])
    for block in _blocks(len(pairs)):
        anchor, positive = pairs[block].T
        cosine = np.einsum("td,td->t", vectors[anchor], vectors[positive])
        d_ap = (2 - 2 * cosine)[:, None]
        neighbours, d_an = ids[at[block]], distances[at[block]]
        fits = (labels[neighbours] != labels[anchor, None]) & (neighbours >= 0)
        fits &= (d_an > d_ap) & (d_an < d_ap + np.float32(margin))
        first = fits.argmax(axis=1)
        row = np.flatnonzero(fits[np.arange(len(first)), first])
        negatives[block][row, 0] = neighbours[row, first[row]]
        negative_distances[block][row, 0] = d_an[row, first[row]]
    return PeerNegatives(rows=pairs, negatives=negatives, distances=negative_distances, note=note)


# sentence-transformers ------------------------------------------------------------------------


def sentence_transformers_hard(
    queries: Float32,
    gallery: Float32,
    pairs: Int64,
    m: int,
    *,
    use_faiss: bool,
    threads: int,
    relative_margin: float | None = None,
    max_score: float | None = None,
    output_format: str = "triplet",
) -> PeerNegatives:
    """The m nearest negatives of each query by `sentence_transformers.util.mine_hard_negatives`.

    pairs: (t, 2) rows of queries and of their positives in the gallery, by query; what is paired
    with a query is never its negative. relative_margin: skip negatives whose cosine exceeds 1 -
    relative_margin of the (worst) positive's. max_score: skip those above this cosine.
    output_format: "triplet", its default, or "n-tuple", its quickest, which leaves out a pair
    that has fewer than m. Embedding is a look-up, so what is timed is mining, its output included.
    """
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    torch.set_num_threads(threads)
    _set_faiss_threads(threads)
    texts = {"anchor": _texts(pairs[:, 0]), "positive": _texts(pairs[:, 1])}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        data_set = mine_hard_negatives(
            Dataset.from_dict(texts),
            _LookUp(queries, gallery),
            corpus=_texts(np.arange(len(gallery))),
            range_min=0,
            num_negatives=m,
            sampling_strategy="top",
            relative_margin=relative_margin,
            max_score=max_score,
            output_format=output_format,
            use_faiss=use_faiss,
            verbose=False,
        )
    return _per_query(queries, gallery, pairs, m, data_set)


def sentence_transformers_label_aware(
    vectors: Float32,
    labels: Int32,
    m: int,
    *,
    use_faiss: bool,
    threads: int,
    output_format: str = "triplet",
) -> PeerNegatives:
    """The same among items of classes: all that share the anchor's class are its positives.

    That is its way of many positives: a row for each. The anchor stands among them, or it would
    be its own nearest negative.
    """
    return sentence_transformers_hard(
        vectors,
        vectors,
        positive_pairs(labels, with_self=True),
        m,
        use_faiss=use_faiss,
        threads=threads,
        output_format=output_format,
    )


class _LookUp:
    """What `mine_hard_negatives` asks of a SentenceTransformer; a text is the number of a row."""

    device = torch.device("cpu")

    def __init__(self, queries: Float32, gallery: Float32) -> None:
        self.queries, self.gallery = queries, gallery

    def encode_query(self, texts: Sequence[str], **_: object) -> Float32:
        """The queries that are asked for."""
        return self.queries[np.array(texts, np.int64)]

    def encode_document(self, texts: Sequence[str], **_: object) -> Float32:
        """The items of the gallery that are asked for."""
        return self.gallery[np.array(texts, np.int64)]

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.gallery.shape[1]

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        """All inner products, as models of unit vectors do with similarity_fn_name="dot"."""
        from sentence_transformers.util import dot_score

        return dot_score(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        """The inner products of rows."""
        from sentence_transformers.util import pairwise_dot_score

        return pairwise_dot_score(a, b)


def _texts(rows: Int64) -> list[str]:
    return list(map(str, rows.tolist()))


def _set_faiss_threads(threads: int) -> None:
    from remine.data.faiss_library import faiss

    faiss.omp_set_num_threads(threads)


def _per_query(
    queries: Float32, gallery: Float32, pairs: Int64, m: int, data_set: Any
) -> PeerNegatives:
    """The negatives of each query out of a Dataset of texts: anchor, positive, negatives.

    The rows of a query repeat its negatives for each positive: the first positive's are read.
    """
    import pyarrow as pa

    table = data_set.with_format("arrow")[:]
    a, p, *negative_columns = (column.cast(pa.int64()).to_numpy() for column in table.columns)
    rows, first = np.unique(pairs[:, 0], return_index=True)
    is_first_positive = p == pairs[first[np.searchsorted(rows, a)], 1]
    a, n = (
        np.repeat(a[is_first_positive], len(negative_columns)),
        np.stack(negative_columns, axis=1)[is_first_positive].ravel(),
    )
    at, place = np.searchsorted(rows, a), np.arange(len(a)) - np.searchsorted(a, a)
    negatives = np.full((len(rows), m), -1, np.int64)
    distances = np.full((len(rows), m), np.inf, np.float32)
    negatives[at, place] = n
    distances[at, place] = 2 - 2 * np.einsum("td,td->t", queries[a], gallery[n])
    note = {"triplets": len(table) * len(negative_columns)}
    return PeerNegatives(rows=rows, negatives=negatives, distances=distances, note=note)
