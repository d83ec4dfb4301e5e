"""The test embedding in two dimensions (t-SNE), for a person to look at."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from remine.data.items.catalogue import Catalogue
from remine.data.store.records import Artifact
from remine.data.types import SPLITS, Embeddings, Float32, Int64
from remine.flows.compare.contestant import embeddings_of
from remine.flows.jobs.run import Run

CLASSES, EACH = 24, 20


def map_rows(
    run: Run, panels: Mapping[str, Artifact], found: Catalogue, inputs: Artifact
) -> list[dict[str, Any]]:
    """Where the same test items lie by each checkpoint: panel, id, label, x, y."""
    rows = []
    chosen = _chosen(found)
    for panel, checkpoint in panels.items():
        whole = embeddings_of(run, checkpoint, found, inputs, "test")
        part = whole.take(np.isin(whole.ids, chosen))
        places = _places(part)
        rows += [
            {
                "panel": panel,
                "id": int(i),
                "label": found.labels[code],
                "x": float(x),
                "y": float(y),
            }
            for i, code, (x, y) in zip(part.ids, part.label_codes, places, strict=True)
        ]
    return rows


def _chosen(found: Catalogue) -> Int64:
    """Ids of up to EACH items of up to CLASSES test classes, evenly from all."""
    test = np.flatnonzero(found.splits == SPLITS.index("test"))
    codes, counts = np.unique(found.label_codes[test], return_counts=True)
    codes = codes[counts > 1]
    picked = codes[np.unique(np.linspace(0, len(codes) - 1, CLASSES).astype(int))]
    rows = [test[found.label_codes[test] == code][:EACH] for code in picked]
    ids: Int64 = found.ids[np.concatenate(rows)]
    return ids


def _places(embeddings: Embeddings) -> Float32:
    """(n, 2) in the unit square."""
    from sklearn.manifold import TSNE

    n = len(embeddings)
    if n < 5:
        return np.random.default_rng(0).random((n, 2)).astype(np.float32)
    places = TSNE(perplexity=min(20, (n - 1) / 3), init="pca", random_state=0).fit_transform(
        embeddings.vectors
    )
    low, high = places.min(axis=0), places.max(axis=0)
    scaled: Float32 = (places - low) / np.maximum(high - low, 1e-9)
    return scaled
