"""A two-dimensional map (t-SNE) of the test embeddings, before training and after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from remine.data.items.catalogue import Catalogue
from remine.data.store.records import Artifact
from remine.data.types import SPLITS, Embeddings, Float32, Int64
from remine.flows.compare.evaluation import embeddings_of
from remine.flows.jobs.run_context import Run

MAX_CLASSES, MAX_ITEMS_PER_CLASS = 24, 20
"""More than these would not be readable on the page."""


def map_rows(
    run: Run, panels: Mapping[str, Artifact], catalogue: Catalogue, inputs: Artifact
) -> list[dict[str, Any]]:
    """Positions of the same test items in each panel's embedding: panel, id, label, x, y.

    Args:
        run: Settings and store.
        panels: A checkpoint for each panel title.
        catalogue: The items.
        inputs: Their inputs.

    """
    rows = []
    item_ids = _mapped_ids(catalogue)
    for panel, checkpoint in panels.items():
        test_embeddings = embeddings_of(run, checkpoint, catalogue, inputs, "test")
        embeddings = test_embeddings.take(np.isin(test_embeddings.ids, item_ids))
        positions = _positions(embeddings)
        rows += [
            {
                "panel": panel,
                "id": item_id,
                "label": catalogue.labels[code],
                "x": float(x),
                "y": float(y),
            }
            for item_id, code, (x, y) in zip(
                catalogue.ids_of(pa.array(embeddings.ids)).to_pylist(),
                embeddings.label_codes,
                positions,
                strict=True,
            )
        ]
    return rows


def _mapped_ids(catalogue: Catalogue) -> Int64:
    """Ids of the items to map: the first of some test classes, evenly spaced over all classes."""
    test_rows = np.flatnonzero(catalogue.splits == SPLITS.index("test"))
    test_codes = catalogue.label_codes[test_rows]
    codes, counts = np.unique(test_codes, return_counts=True)
    codes = codes[counts > 1]  # a class of one item shows nothing
    mapped_codes = codes[np.unique(np.linspace(0, len(codes) - 1, MAX_CLASSES).astype(int))]
    rows = [test_rows[test_codes == code][:MAX_ITEMS_PER_CLASS] for code in mapped_codes]
    ids: Int64 = catalogue.ids[np.concatenate(rows)]
    return ids


def _positions(embeddings: Embeddings) -> Float32:
    """Positions (n, 2) in the unit square; random for fewer items than t-SNE needs."""
    from sklearn.manifold import TSNE

    n = len(embeddings)
    if n < 5:
        return np.random.default_rng(0).random((n, 2)).astype(np.float32)
    # At most (n - 1) / 3, so that even a small sample has enough neighbours.
    tsne = TSNE(perplexity=min(20, (n - 1) / 3), init="pca", random_state=0)
    positions = tsne.fit_transform(embeddings.vectors)
    low, high = positions.min(axis=0), positions.max(axis=0)
    unit_positions: Float32 = (positions - low) / np.maximum(high - low, 1e-9)
    return unit_positions
