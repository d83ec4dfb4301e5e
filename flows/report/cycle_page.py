"""One self-contained HTML page per cycle: curves, counts, and pictures of what was mined."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from remine.data import schemas
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.store.views import page_of, view
from remine.data.types import KINDS, SPLITS, Float32, Int64, Triplets
from remine.flows.cycle.stopped_rounds import stop_of
from remine.flows.report import health_curves, plots
from remine.flows.report.gallery import Card, Gallery
from remine.flows.report.rounds_table import PERCENT, column_titles, round_rows

SHOWN_TRIPLETS, SHOWN_QUERIES, SHOWN_NEIGHBOURS, SHOWN_PAIRS = 8, 12, 8, 8


def write_report(store: Store, version: Version) -> Path:
    """Write report.html into the version's view; returns its path."""
    environment = Environment(
        loader=PackageLoader("remine.flows"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(_content(store, version))
    temp = view(store, version) / ".report.html"
    temp.write_text(page)
    return temp.replace(page_of(store, version))


def _content(store: Store, version: Version) -> dict[str, Any]:
    """All that the template shows."""
    gallery = Gallery(store, version)
    rows = round_rows(version)
    curves = health_curves.health_curves(store, version)
    mined = {
        name: schemas.triplets_from(schemas.read(store.paths(artifact), schema="triplets/1"))
        for name, artifact in sorted(version.artifacts.items())
        if artifact.kind == "triplets"
    }
    return {
        "version": version,
        "columns": column_titles(rows),
        "percent": PERCENT,
        "health": {"columns": health_curves.COLUMNS, "rows": health_curves.health_rows(version)},
        "stop": stop_of(store, version),
        "rows": rows,
        "counts": version.artifacts["items"].card["splits"],
        "seen": version.artifacts["items"].card["test_classes_seen"],
        "index": version.artifacts["index"].card,
        "plots": {
            "metrics": plots.metric_curves(rows),
            "training": plots.training_curves(_histories(store, version)),
            "distances": [plots.distances(triplets) for triplets in mined.values()],
            "health": plots.health_curves(curves) if curves else [],
            "ranks": plots.ranks(mined) if mined else "",
        },
        "mined": [
            {"name": name, "card": version.artifacts[name].card, "kinds": _samples(gallery, found)}
            for name, found in mined.items()
        ],
        "confused": _confused(store, version),
        "queries": _queries(store, version, gallery),
        "seconds": _seconds(store),
    }


def _histories(store: Store, version: Version) -> list[dict[str, list[float]]]:
    """The step-by-step training records, round by round."""
    records = (a for _, a in sorted(version.artifacts.items()) if a.kind == "training")
    return [json.loads(store.path(record.files[0]).read_bytes()) for record in records]


def _confused(store: Store, version: Version) -> list[dict[str, Any]]:
    """Of each round that trained on confusable classes the pairs whose centroids are nearest."""
    shown = []
    for name, artifact in sorted(version.artifacts.items()):
        if artifact.kind == "classes":
            table = schemas.read(store.paths(artifact), schema="classes/1").to_pandas()
            once = table[(table["rank"] == 0) & (table["label_code"] < table["neighbour_code"])]
            nearest = once.sort_values(["distance", "label_code"]).head(SHOWN_PAIRS)
            rows = nearest[["label", "neighbour", "distance"]].itertuples(index=False, name=None)
            shown.append({"name": name, "card": artifact.card, "pairs": list(rows)})
    return shown


def _samples(gallery: Gallery, triplets: Triplets) -> dict[str, list[list[Card]]]:
    """A few triplets of each kind, evenly from all of them."""
    samples = {}
    for code, kind in enumerate(KINDS):
        rows = np.flatnonzero(triplets.kind == code)
        if len(rows):
            chosen = rows[np.linspace(0, len(rows) - 1, SHOWN_TRIPLETS + 2).astype(int)[1:-1]]
            samples[kind] = [_triplet(gallery, triplets, row) for row in chosen]
    return samples


def _triplet(gallery: Gallery, triplets: Triplets, row: int) -> list[Card]:
    rank = int(triplets.negative_rank[row])
    note = f"{triplets.d_an[row]:.3f}" + (f"\nrank {rank:,}" if rank >= 0 else "")
    return [
        gallery.card(int(triplets.anchor_id[row]), "anchor"),
        gallery.card(int(triplets.positive_id[row]), f"{triplets.d_ap[row]:.3f}", good=True),
        gallery.card(int(triplets.negative_id[row]), note, good=False),
    ]


def _queries(store: Store, version: Version, gallery: Gallery) -> list[dict[str, Any]]:
    """Test items with their nearest test items, before the cycle and after it."""
    test = np.flatnonzero(gallery.catalogue.splits == SPLITS.index("test"))
    asked = test[np.linspace(0, len(test) - 1, SHOWN_QUERIES + 2).astype(int)[1:-1]]
    # The first that is left: a collection may have taken the cycle's beginning.
    first = min((v for v in store.versions() if v.cycle == version.cycle), key=lambda v: v.round)
    answers = {
        title: _nearest(store, v.artifacts["embeddings"], test, asked)
        for title, v in ((f"round {v.round}", v) for v in (first, version))
    }
    shown = []
    for place, row in enumerate(asked):
        item = int(gallery.catalogue.ids[row])
        code = gallery.label_code(item)
        shown.append(
            {
                "query": gallery.card(item, "query"),
                "answers": {
                    title: [
                        gallery.card(int(i), f"{d:.3f}", good=gallery.label_code(int(i)) == code)
                        for i, d in zip(ids[place], distances[place], strict=True)
                    ]
                    for title, (ids, distances) in answers.items()
                },
            }
        )
    return shown


def _nearest(
    store: Store, embeddings: Artifact, among: Int64, asked: Int64
) -> tuple[Int64, Float32]:
    """Ids and squared distances, (q, k) each, of the rows `among` nearest to the rows `asked`."""
    whole = schemas.read_embeddings(store.paths(embeddings))
    distances = np.maximum(2 - 2 * whole.vectors[asked] @ whole.vectors[among].T, 0)
    distances[asked[:, None] == among] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :SHOWN_NEIGHBOURS]
    return whole.ids[among[order]], np.take_along_axis(distances, order, axis=1)


def _seconds(store: Store) -> list[tuple[str, str, int, float]]:
    """(round, stage, count, seconds) of every stage that ran in the last cycle, from the log."""
    events = store.events()
    ends = [i for i, event in enumerate(events) if event.get("event") == "cycle"]
    start = ends[-2] + 1 if len(ends) > 1 else 0
    return [
        (event["round"], event["stage"], event["count"], event["seconds"])
        for event in events[start:]
        if event.get("event") == "stage"
    ]
