"""How well an embedding clusters into its classes: NMI, AMI and pairwise F1 of k-means."""

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Embeddings

ITERATIONS, RESTARTS = 20, 3


def clustering_metrics(embeddings: Embeddings, *, seed: int = 0) -> dict[str, float]:
    """Compare k-means with as many clusters as there are classes with the classes.

    Returns:
        nmi: Mutual information over the arithmetic mean of both entropies.
        ami: The same adjusted for chance (Vinh et al. 2010). NMI alone grows with the number of
            clusters and is 0.7 for noise if classes are small (Musgrave et al. 2020, section 3.3).
        f1: Of pairs of items, same cluster against same class (Manning et al. 2008, section 16.3).
    """
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    classes = np.unique(embeddings.label_codes, return_inverse=True)[1]
    clusters = k_means(embeddings, int(classes.max()) + 1, seed)
    return {
        "nmi": float(normalized_mutual_info_score(classes, clusters)),
        "ami": float(adjusted_mutual_info_score(classes, clusters)),
        "f1": pairwise_f1(classes, clusters),
    }


def k_means(embeddings: Embeddings, k: int, seed: int) -> NDArray[np.int64]:
    """(n,) the cluster of each item, by FAISS's k-means over all items."""
    from remine.data.faiss_library import faiss

    means = faiss.Kmeans(
        embeddings.vectors.shape[1],
        k,
        niter=ITERATIONS,
        nredo=RESTARTS,
        seed=seed,
        # Without these FAISS warns of few points per centroid, and samples if there are many.
        min_points_per_centroid=1,
        max_points_per_centroid=len(embeddings),
    )
    means.train(embeddings.vectors)
    clusters: NDArray[np.int64] = means.index.search(embeddings.vectors, 1)[1][:, 0]
    return clusters


def pairwise_f1(classes: NDArray[np.int64], clusters: NDArray[np.int64]) -> float:
    """F1 of "in one cluster" as a prediction of "of one class", over all pairs of the n items."""
    cells = np.unique(np.stack([classes, clusters]), axis=1, return_counts=True)[1]
    together, same_class, same_cluster = (
        _pairs(counts) for counts in (cells, np.bincount(classes), np.bincount(clusters))
    )
    return 2 * together / max(1, same_class + same_cluster)


def _pairs(counts: NDArray[np.intp]) -> int:
    """How many pairs there are within groups of the given sizes."""
    sizes = counts.astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())
