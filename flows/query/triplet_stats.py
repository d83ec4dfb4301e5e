"""Statistics of a round's triplets, each one pass over its Parquet files in DuckDB."""

from typing import Any

import numpy as np
import pyarrow as pa

from remine.data.types import KINDS
from remine.flows.query.triplets import MEASURES, ROLES, TripletTable

BINS_PER_UNIT = 1000
"""Bins per unit of distance in the fine histograms; quantiles are exact to one bin."""
QUANTILES = (0.05, 0.5, 0.95)
DISTANCES = ("d_ap", "d_an", "margin")
TOP = 10


def stats(triplets: TripletTable, number: int, top: int = TOP) -> dict[str, Any]:
    """Counts, kinds, distances, hubs and confused classes of a round.

    Args:
        triplets: The triplets of a version.
        number: The round, or -1 for the last one.
        top: Number of hubs and of confused pairs of classes.

    Returns:
        round, rows, anchors, negatives (different items), kinds (measures by kind), hubs, confused.
    """
    number = triplets.round(number)
    kinds = _measures_by_kind(triplets, number)
    rows = sum(kind["rows"] for kind in kinds.values())
    for kind in kinds.values():
        kind["share"] = kind["rows"] / rows
    for name in DISTANCES:
        for code, (heights, low) in _fine_histograms(triplets, number, name).items():
            kinds[code][name] |= _quantiles(heights, low)
    (anchors,) = triplets.rows(
        f"SELECT count(DISTINCT anchor_id) AS n FROM {triplets.relation(number)}"
    )
    hubs, negatives = _hubs(triplets, number, max(1, top))
    return {
        "round": number,
        "rows": rows,
        "anchors": anchors["n"],
        "negatives": negatives,
        "kinds": kinds,
        "hubs": hubs,
        "confused": confused_classes(triplets, number, top),
    }


def histograms(triplets: TripletTable, number: int, bins: int = 60) -> dict[str, Any]:
    """Histograms of each distance with bins of whole thousandths.

    Returns:
        By distance: edges (bins + 1), common to all kinds, and counts (bins) by kind.
    """
    number, by_name = triplets.round(number), {}
    for name in DISTANCES:
        # Fine bins are merged, so that all kinds share edges that are round numbers.
        fine = _fine_histograms(triplets, number, name)
        first = min((low for _, low in fine.values()), default=0)
        last = max((low + len(heights) for heights, low in fine.values()), default=1)
        width = max(1, -(-(last - first) // bins))  # fine bins per bin, rounded up
        edges = [(first + i * width) / BINS_PER_UNIT for i in range(bins + 1)]
        counts = {}
        for kind, (heights, low) in fine.items():
            places = (np.arange(len(heights)) + low - first) // width
            counts[kind] = np.bincount(places, heights, minlength=bins)[:bins].astype(int).tolist()
        by_name[name] = {"edges": edges, "counts": counts}
    return by_name


def coarse_histograms(
    triplets: TripletTable, number: int, name: str, bins: int
) -> dict[str, tuple[list[int], list[float]]]:
    """By kind: counts in `bins` equal bins from minimum to maximum, and their edges (bins + 1)."""
    measure, relation = MEASURES[name], triplets.relation(number)
    ranges = triplets.rows(
        f"SELECT kind, min({measure}) AS low, max({measure}) AS high FROM {relation} GROUP BY kind"
    )
    by_kind = {}
    for kind in KINDS:
        for row in (row for row in ranges if row["kind"] == kind):
            low, high = float(row["low"]), float(row["high"])
            width = (high - low) / bins or 1.0  # 1 if all values are equal
            counts = triplets.rows(
                f"SELECT least(CAST(floor(({measure} - $1) / $2) AS INT), {bins - 1}) AS bin,"
                f" count(*) AS count FROM {relation} WHERE kind = $3 GROUP BY 1",
                [low, width, kind],
            )
            heights = [0] * bins
            for count in counts:
                heights[count["bin"]] = count["count"]
            by_kind[kind] = heights, [low + i * width for i in range(bins + 1)]
    return by_kind


def confused_classes(triplets: TripletTable, number: int, top: int = TOP) -> list[dict[str, Any]]:
    """The (anchor, negative) pairs of classes with most triplets: label, negative_label, count."""
    return triplets.rows(
        "WITH pairs AS (SELECT a.label_code AS a, n.label_code AS n, count(*) AS count"
        f" FROM {triplets.relation(number)} AS t"
        " JOIN items AS a ON a.id = anchor_id JOIN items AS n ON n.id = negative_id"
        f" GROUP BY ALL ORDER BY count DESC, a, n LIMIT {int(top)})"
        " SELECT la.label, ln.label AS negative_label, count FROM pairs"
        " JOIN labels AS la ON la.label_code = a JOIN labels AS ln ON ln.label_code = n"
        " ORDER BY count DESC, a, n"
    )


def _hubs(triplets: TripletTable, number: int, top: int) -> tuple[list[dict[str, Any]], int]:
    """The items that most often serve as negatives, and the number of different negatives.

    Returns:
        Per hub: the user's id, label, count (triplets) and anchors (different ones); and the
        number.
    """
    relation = triplets.relation(number)
    # Anchors are counted for the hubs alone: a distinct count per item over all rows is slow.
    counts = triplets.rows(
        f"WITH served AS (SELECT negative_id, count(*) AS n FROM {relation} GROUP BY 1)"
        " SELECT negative_id, count(*) OVER () AS total FROM served"
        f" ORDER BY n DESC, negative_id LIMIT {int(top)}"
    )
    if not counts:
        return [], 0
    ids = ", ".join(str(int(row["negative_id"])) for row in counts)
    hubs = triplets.rows(
        "SELECT h.*, label FROM (SELECT negative_id AS id, count(*) AS count,"
        f" count(DISTINCT anchor_id) AS anchors FROM {relation} WHERE negative_id IN ({ids})"
        " GROUP BY 1) AS h JOIN items USING (id) JOIN labels USING (label_code)"
        " ORDER BY count DESC, id"
    )
    for hub in hubs:
        hub["id"] = triplets.catalogue.ids_of(pa.array([hub["id"]]))[0].as_py()
    return hubs, counts[0]["total"]


def role_counts(triplets: TripletTable, number: int, item: int | str) -> dict[str, int]:
    """The number of a round's triplets in which an item is anchor, positive and negative.

    item: The user's id.
    """
    counts = ", ".join(f"count(*) FILTER ({role}_id = $1) AS {role}" for role in ROLES)
    condition = " OR ".join(f"{role}_id = $1" for role in ROLES)
    sql = f"SELECT {counts} FROM {triplets.relation(number)} WHERE {condition}"
    return dict(triplets.rows(sql, [triplets.number_of(item)])[0])


def compare(triplets: TripletTable, first: int, second: int) -> dict[str, Any]:
    """Compare two rounds.

    Returns:
        first, second: the rounds. pairs: (anchor, positive) pairs of each and of both, and the mean
        changes of the distances over those of both. kinds: triplets by kind, and those in both.
        means: the mean of each measure in the two rounds.
    """
    one, two = (triplets.relation(number) for number in (first, second))
    # A pair has several triplets: distances are averaged per pair before rounds are compared.
    (pairs,) = triplets.rows(
        "WITH a AS (SELECT anchor_id, positive_id, avg(d_ap) AS d_ap, avg(d_an) AS d_an"
        f" FROM {one} GROUP BY ALL), b AS (SELECT anchor_id, positive_id, avg(d_ap) AS d_ap,"
        f" avg(d_an) AS d_an FROM {two} GROUP BY ALL)"
        " SELECT (SELECT count(*) FROM a) AS first, (SELECT count(*) FROM b) AS second,"
        " count(*) AS both, avg(b.d_ap - a.d_ap) AS d_ap_change, avg(b.d_an - a.d_an) AS"
        " d_an_change FROM a JOIN b USING (anchor_id, positive_id)"
    )
    common_rows = triplets.rows(
        f"SELECT kind, count(*) AS rows FROM {two} AS b SEMI JOIN {one} AS a"
        " USING (anchor_id, positive_id, negative_id) GROUP BY kind ORDER BY kind"
    )
    common_counts = {row["kind"]: row["rows"] for row in common_rows}
    kinds = {number: _measures_by_kind(triplets, number) for number in (first, second)}
    return {
        "first": triplets.round(first),
        "second": triplets.round(second),
        "pairs": pairs,
        "kinds": {
            kind: {
                "first": kinds[first].get(kind, {}).get("rows", 0),
                "second": kinds[second].get(kind, {}).get("rows", 0),
                "same_triplet": common_counts.get(kind, 0),
            }
            for kind in KINDS
        },
        "means": {
            name: [_mean(kinds[number], name) for number in (first, second)] for name in MEASURES
        },
    }


def _measures_by_kind(triplets: TripletTable, number: int) -> dict[str, dict[str, Any]]:
    """By kind: the number of rows, and mean, min and max of each measure."""
    distances = ", ".join(
        f"avg({m}) AS {n}_mean, min({m}) AS {n}_min, max({m}) AS {n}_max"
        for n, m in MEASURES.items()
        if n != "negative_rank"
    )
    # A negative drawn at random has rank -1, which is not a rank.
    ranks = (
        "avg(negative_rank) FILTER (negative_rank >= 0) AS negative_rank_mean,"
        " min(negative_rank) FILTER (negative_rank >= 0) AS negative_rank_min,"
        " max(negative_rank) FILTER (negative_rank >= 0) AS negative_rank_max"
    )
    rows = triplets.rows(
        f"SELECT kind, count(*) AS rows, {distances}, {ranks} FROM {triplets.relation(number)}"
        " GROUP BY kind"
    )
    by_kind = {row["kind"]: row for row in rows}
    return {
        kind: {
            "rows": by_kind[kind]["rows"],
            **{n: {w: by_kind[kind][f"{n}_{w}"] for w in ("mean", "min", "max")} for n in MEASURES},
        }
        for kind in KINDS
        if kind in by_kind
    }


def _mean(kinds: dict[str, dict[str, Any]], name: str) -> float | None:
    """The mean of a measure over all kinds that have one, or None."""
    means = [(kind["rows"], kind[name]["mean"]) for kind in kinds.values()]
    weighted_means = [(rows, mean) for rows, mean in means if mean is not None]
    total = sum(rows for rows, _ in weighted_means)
    return sum(rows * mean for rows, mean in weighted_means) / total if total else None


def _fine_histograms(
    triplets: TripletTable, number: int, name: str
) -> dict[str, tuple[np.ndarray, int]]:
    """By kind: counts in bins of 1/1000, and the number of the first bin."""
    counts = triplets.rows(
        f"SELECT kind, CAST(floor({MEASURES[name]} * {BINS_PER_UNIT}) AS INT) AS bin,"
        f" count(*) AS count FROM {triplets.relation(number)} GROUP BY ALL"
    )
    by_kind = {}
    for kind in KINDS:
        bins = np.array([[c["bin"], c["count"]] for c in counts if c["kind"] == kind], np.int64)
        if len(bins):
            low = int(bins[:, 0].min())
            by_kind[kind] = (np.bincount(bins[:, 0] - low, bins[:, 1]), low)
    return by_kind


def _quantiles(heights: np.ndarray, low: int) -> dict[str, float]:
    """p5, p50 and p95, each the middle of its bin."""
    # From counts of bins, since exact quantiles would sort all rows.
    cumulative_shares = np.cumsum(heights) / heights.sum()
    places = np.searchsorted(cumulative_shares, QUANTILES)
    middles = ((places + low + 0.5) / BINS_PER_UNIT).tolist()
    return {f"p{round(100 * q)}": m for q, m in zip(QUANTILES, middles, strict=True)}
