"""What a round mined, in numbers: one pass a question, over Parquet, in DuckDB."""

from typing import Any

import numpy as np

from remine.data.types import KINDS
from remine.flows.query.triplets import MEASURES, Mined

FINE = 1000
"""Bins a unit of distance: what quantiles are exact to."""
QUANTILES = (0.05, 0.5, 0.95)
DISTANCES = ("d_ap", "d_an", "margin")
TOP = 10


def stats(mined: Mined, number: int, top: int = TOP) -> dict[str, Any]:
    """Counts, kinds, distances, hubs and confused classes of a round."""
    number = mined.round(number)
    kinds = _kinds(mined, number)
    rows = sum(kind["rows"] for kind in kinds.values())
    for kind in kinds.values():
        kind["share"] = kind["rows"] / rows
    for name in DISTANCES:
        for code, (heights, low) in _fine(mined, number, name).items():
            kinds[code][name] |= _quantiles(heights, low)
    (anchors,) = mined.rows(f"SELECT count(DISTINCT anchor_id) AS n FROM {mined.relation(number)}")
    most, negatives = _hubs(mined, number, max(1, top))
    return {
        "round": number,
        "rows": rows,
        "anchors": anchors["n"],
        "negatives": negatives,
        "kinds": kinds,
        "hubs": most,
        "confused": confused(mined, number, top),
    }


def histograms(mined: Mined, number: int, bins: int = 60) -> dict[str, Any]:
    """Per distance: the edges (bins + 1), and the counts of each kind between them."""
    number, found = mined.round(number), {}
    for name in DISTANCES:
        fine = _fine(mined, number, name)
        first = min((low for _, low in fine.values()), default=0)
        last = max((low + len(heights) for heights, low in fine.values()), default=1)
        width = max(1, -(-(last - first) // bins))
        edges = [(first + i * width) / FINE for i in range(bins + 1)]
        counts = {}
        for kind, (heights, low) in fine.items():
            places = (np.arange(len(heights)) + low - first) // width
            counts[kind] = np.bincount(places, heights, minlength=bins)[:bins].astype(int).tolist()
        found[name] = {"edges": edges, "counts": counts}
    return found


def coarse(
    mined: Mined, number: int, name: str, bins: int
) -> dict[str, tuple[list[int], list[float]]]:
    """By kind: counts in `bins` equal bins from least to most, and their edges (bins + 1)."""
    measure, triplets = MEASURES[name], mined.relation(number)
    bounds = mined.rows(
        f"SELECT kind, min({measure}) AS low, max({measure}) AS high FROM {triplets} GROUP BY kind"
    )
    found = {}
    for kind in KINDS:
        for row in (row for row in bounds if row["kind"] == kind):
            low, high = float(row["low"]), float(row["high"])
            width = (high - low) / bins or 1.0
            counts = mined.rows(
                f"SELECT least(CAST(floor(({measure} - $1) / $2) AS INT), {bins - 1}) AS bin,"
                f" count(*) AS count FROM {triplets} WHERE kind = $3 GROUP BY 1",
                [low, width, kind],
            )
            heights = [0] * bins
            for one in counts:
                heights[one["bin"]] = one["count"]
            found[kind] = heights, [low + i * width for i in range(bins + 1)]
    return found


def confused(mined: Mined, number: int, top: int = TOP) -> list[dict[str, Any]]:
    """The pairs of classes that most triplets hold apart: label, negative_label, count."""
    return mined.rows(
        "WITH pairs AS (SELECT a.label_code AS a, n.label_code AS n, count(*) AS count"
        f" FROM {mined.relation(number)} AS t"
        " JOIN items AS a ON a.id = anchor_id JOIN items AS n ON n.id = negative_id"
        f" GROUP BY ALL ORDER BY count DESC, a, n LIMIT {int(top)})"
        " SELECT la.label, ln.label AS negative_label, count FROM pairs"
        " JOIN labels AS la ON la.label_code = a JOIN labels AS ln ON ln.label_code = n"
        " ORDER BY count DESC, a, n"
    )


def _hubs(mined: Mined, number: int, top: int) -> tuple[list[dict[str, Any]], int]:
    """The items that most often serve as negatives, and how many do at all.

    id, label, count, anchors: of how many different anchors.
    """
    triplets = mined.relation(number)
    most = mined.rows(
        f"WITH served AS (SELECT negative_id, count(*) AS n FROM {triplets} GROUP BY 1)"
        " SELECT negative_id, count(*) OVER () AS total FROM served"
        f" ORDER BY n DESC, negative_id LIMIT {int(top)}"
    )
    if not most:
        return [], 0
    ids = ", ".join(str(int(row["negative_id"])) for row in most)
    named = mined.rows(
        "SELECT h.*, label FROM (SELECT negative_id AS id, count(*) AS count,"
        f" count(DISTINCT anchor_id) AS anchors FROM {triplets} WHERE negative_id IN ({ids})"
        " GROUP BY 1) AS h JOIN items USING (id) JOIN labels USING (label_code)"
        " ORDER BY count DESC, id"
    )
    return named, most[0]["total"]


def roles(mined: Mined, number: int, item: int) -> dict[str, int]:
    """How often an item is an anchor, a positive and a negative in a round."""
    places = ("anchor", "positive", "negative")
    counts = ", ".join(f"count(*) FILTER ({place}_id = $1) AS {place}" for place in places)
    where = " OR ".join(f"{place}_id = $1" for place in places)
    sql = f"SELECT {counts} FROM {mined.relation(number)} WHERE {where}"
    return dict(mined.rows(sql, [item])[0])


def compare(mined: Mined, first: int, second: int) -> dict[str, Any]:
    """What changed from one round to another, over the (anchor, positive) pairs of both."""
    one, two = (mined.relation(number) for number in (first, second))
    (pairs,) = mined.rows(
        "WITH a AS (SELECT anchor_id, positive_id, avg(d_ap) AS d_ap, avg(d_an) AS d_an"
        f" FROM {one} GROUP BY ALL), b AS (SELECT anchor_id, positive_id, avg(d_ap) AS d_ap,"
        f" avg(d_an) AS d_an FROM {two} GROUP BY ALL)"
        " SELECT (SELECT count(*) FROM a) AS first, (SELECT count(*) FROM b) AS second,"
        " count(*) AS both, avg(b.d_ap - a.d_ap) AS d_ap_change, avg(b.d_an - a.d_an) AS"
        " d_an_change FROM a JOIN b USING (anchor_id, positive_id)"
    )
    same = mined.rows(
        f"SELECT kind, count(*) AS rows FROM {two} AS b SEMI JOIN {one} AS a"
        " USING (anchor_id, positive_id, negative_id) GROUP BY kind ORDER BY kind"
    )
    kept = {row["kind"]: row["rows"] for row in same}
    kinds = {number: _kinds(mined, number) for number in (first, second)}
    return {
        "first": mined.round(first),
        "second": mined.round(second),
        "pairs": pairs,
        "kinds": {
            kind: {
                "first": kinds[first].get(kind, {}).get("rows", 0),
                "second": kinds[second].get(kind, {}).get("rows", 0),
                "same_triplet": kept.get(kind, 0),
            }
            for kind in KINDS
        },
        "means": {
            name: [_mean(kinds[number], name) for number in (first, second)] for name in MEASURES
        },
    }


def _kinds(mined: Mined, number: int) -> dict[str, dict[str, Any]]:
    """Rows, and the mean, least and most of each measure, by kind."""
    wanted = ", ".join(
        f"avg({m}) AS {n}_mean, min({m}) AS {n}_min, max({m}) AS {n}_max"
        for n, m in MEASURES.items()
        if n != "negative_rank"
    )
    ranks = (
        "avg(negative_rank) FILTER (negative_rank >= 0) AS negative_rank_mean,"
        " min(negative_rank) FILTER (negative_rank >= 0) AS negative_rank_min,"
        " max(negative_rank) FILTER (negative_rank >= 0) AS negative_rank_max"
    )
    found = mined.rows(
        f"SELECT kind, count(*) AS rows, {wanted}, {ranks} FROM {mined.relation(number)}"
        " GROUP BY kind"
    )
    by_kind = {row["kind"]: row for row in found}
    return {
        kind: {
            "rows": by_kind[kind]["rows"],
            **{n: {w: by_kind[kind][f"{n}_{w}"] for w in ("mean", "min", "max")} for n in MEASURES},
        }
        for kind in KINDS
        if kind in by_kind
    }


def _mean(kinds: dict[str, dict[str, Any]], name: str) -> float | None:
    """The mean of a measure over all kinds that have one."""
    parts = [(kind["rows"], kind[name]["mean"]) for kind in kinds.values()]
    known = [(rows, mean) for rows, mean in parts if mean is not None]
    total = sum(rows for rows, _ in known)
    return sum(rows * mean for rows, mean in known) / total if total else None


def _fine(mined: Mined, number: int, name: str) -> dict[str, tuple[np.ndarray, int]]:
    """By kind: counts in bins of 1/1000, and the number of the first bin."""
    found = mined.rows(
        f"SELECT kind, CAST(floor({MEASURES[name]} * {FINE}) AS INT) AS bin, count(*) AS count"
        f" FROM {mined.relation(number)} GROUP BY ALL"
    )
    fine = {}
    for kind in KINDS:
        bins = np.array([[r["bin"], r["count"]] for r in found if r["kind"] == kind], np.int64)
        if len(bins):
            low = int(bins[:, 0].min())
            fine[kind] = (np.bincount(bins[:, 0] - low, bins[:, 1]), low)
    return fine


def _quantiles(heights: np.ndarray, low: int) -> dict[str, float]:
    """p5, p50, p95 in the middle of their bins."""
    share = np.cumsum(heights) / heights.sum()
    places = np.searchsorted(share, QUANTILES)
    middles = ((places + low + 0.5) / FINE).tolist()
    return {f"p{round(100 * q)}": m for q, m in zip(QUANTILES, middles, strict=True)}
