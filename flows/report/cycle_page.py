"""One self-contained HTML page per cycle: curves, counts, and pictures of what was mined."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from remine.data import schemas
from remine.data.store.pins import chosen_version
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.store.views import page_of, view
from remine.data.types import KINDS, SPLITS, Float32, Int64, Triplets
from remine.flows.cycle.round_choice import advice, choice_line
from remine.flows.cycle.stopped_rounds import stop_of
from remine.flows.report import health_curves, plots
from remine.flows.report.item_cards import Card, Gallery
from remine.flows.report.rejection import rejection, rejection_rows
from remine.flows.report.rendering import write_page
from remine.flows.report.rounds_table import PERCENT, column_titles, round_rows

TRIPLETS_PER_KIND, QUERIES, NEIGHBOURS, CLASS_PAIRS = 8, 12, 8, 8
"""How many examples of each the page shows."""


def write_report(store: Store, version: Version) -> Path:
    """Write report.html into the version's view; returns its path."""
    view(store, version)  # makes the folder
    return write_page("report.html.j2", _content(store, version), page_of(store, version))


def _content(store: Store, version: Version) -> dict[str, Any]:
    """All that the template shows."""
    gallery = Gallery(store, version)
    rows = round_rows(version)
    triplet_sets = {
        name: schemas.triplets_from(schemas.read(store.paths(artifact), schema="triplets/1"))
        for name, artifact in _artifacts_of(version, "triplets").items()
    }
    return {
        "version": version,
        "columns": column_titles(rows),
        "percent": PERCENT,
        "health": {"columns": health_curves.COLUMNS, "rows": health_curves.health_rows(version)},
        "stop": stop_of(store, version),
        "choice": [line for line in (choice_line(store, version), advice(version)) if line],
        "rows": rows,
        "rejection": {**rejection(version), "table": rejection_rows(version)},
        "counts": version.artifacts["items"].card["splits"],
        "test_classes_seen": version.artifacts["items"].card["test_classes_seen"],
        "index": version.artifacts["index"].card,
        "plots": _plots(store, version, rows, triplet_sets),
        "triplet_sets": [
            {
                "name": name,
                "card": version.artifacts[name].card,
                "kinds": _examples(gallery, triplets),
            }
            for name, triplets in triplet_sets.items()
        ],
        "confusable_classes": _confusable_classes(store, version),
        "queries": _queries(store, version, gallery),
        "seconds": _stage_seconds(store),
    }


def _plots(
    store: Store, version: Version, rows: list[dict[str, Any]], triplet_sets: dict[str, Triplets]
) -> dict[str, Any]:
    """Inline SVG by the name that the template gives it."""
    health = health_curves.health_curves(store, version)
    return {
        "metrics": plots.metric_curves(rows),
        "training": plots.training_curves(_histories(store, version)),
        "distances": [plots.distance_histograms(triplets) for triplets in triplet_sets.values()],
        "health": plots.health_plots(health) if health else [],
        "ranks": plots.negative_ranks(triplet_sets) if triplet_sets else "",
    }


def _artifacts_of(version: Version, kind: str) -> dict[str, Artifact]:
    """The version's artifacts of one kind by name, in order of their round."""
    return {name: a for name, a in sorted(version.artifacts.items()) if a.kind == kind}


def _histories(store: Store, version: Version) -> list[dict[str, list[float]]]:
    """Loss and active fraction by step, one record for each round."""
    return [
        json.loads(store.path(artifact.files[0]).read_bytes())
        for artifact in _artifacts_of(version, "training").values()
    ]


def _confusable_classes(store: Store, version: Version) -> list[dict[str, Any]]:
    """For each round that trained on confusable classes, the pairs with the nearest centroids."""
    rounds = []
    for name, artifact in _artifacts_of(version, "classes").items():
        table = schemas.read(store.paths(artifact), schema="classes/1").to_pandas()
        # A pair of mutual neighbours has two rows; show it once.
        is_listed_first = table["label_code"] < table["neighbour_code"]
        candidates = table[(table["rank"] == 0) & is_listed_first]
        nearest = candidates.sort_values(["distance", "label_code"]).head(CLASS_PAIRS)
        pairs = nearest[["label", "neighbour", "distance"]].itertuples(index=False, name=None)
        rounds.append({"name": name, "card": artifact.card, "pairs": list(pairs)})
    return rounds


def _evenly_spaced(rows: Int64, count: int) -> Int64:
    """`count` of `rows` at even distances, neither the first nor the last."""
    positions = np.linspace(0, len(rows) - 1, count + 2).astype(int)[1:-1]
    example_rows: Int64 = rows[positions]
    return example_rows


def _examples(gallery: Gallery, triplets: Triplets) -> dict[str, list[list[Card]]]:
    """A few triplets of each kind, evenly spaced over all."""
    examples = {}
    for code, kind in enumerate(KINDS):
        rows = np.flatnonzero(triplets.kind == code)
        if len(rows):
            example_rows = _evenly_spaced(rows, TRIPLETS_PER_KIND)
            examples[kind] = [_triplet_cards(gallery, triplets, row) for row in example_rows]
    return examples


def _triplet_cards(gallery: Gallery, triplets: Triplets, row: int) -> list[Card]:
    """Anchor, positive and negative, with the distances and the negative's rank."""
    rank = int(triplets.negative_rank[row])
    note = f"{triplets.d_an[row]:.3f}" + (f"\nrank {rank:,}" if rank >= 0 else "")
    return [
        gallery.card(int(triplets.anchor_id[row]), "anchor"),
        gallery.card(int(triplets.positive_id[row]), f"{triplets.d_ap[row]:.3f}", good=True),
        gallery.card(int(triplets.negative_id[row]), note, good=False),
    ]


def _queries(store: Store, version: Version, gallery: Gallery) -> list[dict[str, Any]]:
    """Test items with their nearest test items, before the cycle, as served, and after it."""
    test_rows = np.flatnonzero(gallery.catalogue.splits == SPLITS.index("test"))
    query_rows = _evenly_spaced(test_rows, QUERIES)
    # Garbage collection may have removed the cycle's first version; take the first that exists.
    in_cycle = (v for v in store.versions() if v.cycle == version.cycle)
    first = min(in_cycle, key=lambda v: v.round)
    # Keyed by title, so that a cycle of one version has one row of answers.
    answers = {
        f"round {v.round}": _nearest(store, v.artifacts["embeddings"], test_rows, query_rows)
        for v in (first, chosen_version(store, version), version)
    }
    return [
        {
            "query": gallery.card(int(gallery.catalogue.ids[row]), "query"),
            "answers": {
                title: _answer_cards(
                    gallery, gallery.catalogue.label_codes[row], ids[number], distances[number]
                )
                for title, (ids, distances) in answers.items()
            },
        }
        for number, row in enumerate(query_rows)
    ]


def _answer_cards(gallery: Gallery, query_code: int, ids: Int64, distances: Float32) -> list[Card]:
    """A query's neighbours, marked good where their label is the query's."""
    return [
        gallery.card(
            int(item_id), f"{distance:.3f}", good=gallery.label_code(int(item_id)) == query_code
        )
        for item_id, distance in zip(ids, distances, strict=True)
    ]


def _nearest(
    store: Store, artifact: Artifact, gallery_rows: Int64, query_rows: Int64
) -> tuple[Int64, Float32]:
    """Ids and squared distances of the nearest gallery rows for each query row, itself excluded.

    Args:
        store: The store that has `artifact`.
        artifact: Embeddings of all items.
        gallery_rows: (n,) rows of the embeddings to search among.
        query_rows: (q,) rows of the embeddings to search for.

    Returns:
        ids (q, k) and distances (q, k) float32, nearest first.

    """
    embeddings = schemas.read_embeddings(store.paths(artifact))
    products = embeddings.vectors[query_rows] @ embeddings.vectors[gallery_rows].T
    distances = np.maximum(2 - 2 * products, 0)
    distances[query_rows[:, None] == gallery_rows] = np.inf  # the query itself
    order = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
    return embeddings.ids[gallery_rows[order]], np.take_along_axis(distances, order, axis=1)


def _stage_seconds(store: Store) -> list[tuple[str, str, int, float]]:
    """(round, stage, count, seconds) of every stage that ran in the last cycle, from the log."""
    events = store.events()
    # Each cycle ends with one event; stages after the last but one belong to the last cycle.
    ends = [i for i, event in enumerate(events) if event.get("event") == "cycle"]
    start = ends[-2] + 1 if len(ends) > 1 else 0
    return [
        (event["round"], event["stage"], event["count"], event["seconds"])
        for event in events[start:]
        if event.get("event") == "stage"
    ]
