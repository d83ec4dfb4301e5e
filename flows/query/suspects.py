"""Items of a version that are probably mislabelled, shown beside their neighbours."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from remine.data.items.catalogue import UNKNOWN
from remine.data.types import SPLITS, Float32, Int64
from remine.flows.query.answers import render_page
from remine.flows.query.label_judge import LabelJudge, Wish, judged
from remine.flows.query.snapshot import SearchOptions, Snapshot
from remine.flows.query.terminal import fitted, folding_table, wide_console
from remine.flows.report.item_cards import Gallery
from remine.mining.suspects import (
    CentroidDistances,
    SuspectConfig,
    near_limit,
    twins,
)

BLOCK = 2048
MAX_PAGE_SUSPECTS = 200
SUFFIXES = (".parquet", ".csv", ".html")
"""Files that suspects are written to."""
NEIGHBOURS = 8

REASONS = ("mislabelled", "same content, two labels", "near twin of another label")
COLUMNS = ["id", "label", "suspected_label", "reason", "score", "other_id", "distance", "split"]
"""id, other_id: the user's. score: how much nearer the suspected class's centroid is. other_id,
distance: of a twin."""


@dataclass(frozen=True, kw_only=True)
class SuspectReport:
    """Suspects of a version and the neighbours of all its items.

    Attributes:
        judge: Which embeddings judged the labels.
        suspects: One row per suspect with COLUMNS, the worst first; with text and other_text, or
            path and other_path, if the items have such.
        neighbour_rows: (n, NEIGHBOURS) int64 rows of each item's neighbours in the version, -1
            where there are fewer, as of unknown items.
        distances: (n, NEIGHBOURS) float32 squared distances, inf where rows are -1.
    """

    judge: LabelJudge
    suspects: pd.DataFrame
    neighbour_rows: Int64
    distances: Float32


def find_suspects(
    snapshot: Snapshot,
    config: SuspectConfig,
    progress: Callable[[int, int], None],
    wish: Wish = "auto",
) -> SuspectReport:
    """Find items nearer to another class, and near-identical items under two labels.

    Items of the split unknown are left out. Holds all embeddings and 12 bytes per neighbour of each
    item in memory.

    Args:
        snapshot: The version.
        config: The thresholds.
        progress: Called with the number of items searched and the number of all items; before
            that, if items are embedded by the encoder before training, with the number of these.
        wish: Which embeddings judge the labels. Twins are always those of the version.
    """
    catalogue = snapshot.catalogue
    scores, judge = judged(snapshot, wish, progress)
    neighbour_rows, distances = _neighbours(snapshot, progress)
    codes = catalogue.label_codes
    contents = snapshot.contents.codes
    # A missing neighbour is -1, which as an index would mean the last item.
    exists = neighbour_rows >= 0
    same_class = exists & (codes[neighbour_rows] == codes[:, None])
    same_content = exists & (contents[neighbour_rows] == contents[:, None])
    limit = near_limit(distances, same_class, config.twin_share)
    pairs = twins(neighbour_rows, distances, codes, same_content, limit)
    records = _mislabelled_records(snapshot, scores, config.margin)
    records += _twin_records(snapshot, pairs, contents)
    frame = pd.DataFrame(records, columns=COLUMNS)
    frame = frame.astype({"other_id": "Int64" if catalogue.keys is None else "string"})
    frame = _with_contents(snapshot, frame)
    return SuspectReport(
        judge=judge, suspects=frame, neighbour_rows=neighbour_rows, distances=distances
    )


def _neighbours(snapshot: Snapshot, progress: Callable[[int, int], None]) -> tuple[Int64, Float32]:
    """Rows and distances (n, NEIGHBOURS) of each known item's neighbours in the version."""
    ids, known = snapshot.catalogue.ids, snapshot.catalogue.splits != UNKNOWN
    shape = (len(ids), NEIGHBOURS)
    neighbour_rows, distances = np.full(shape, -1), np.full(shape, np.inf, np.float32)
    rows = np.flatnonzero(known)
    # Searched through the index: comparing every pair of items would take quadratic time.
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        queries = snapshot.item_queries(ids[block])
        answers = snapshot.search(queries, SearchOptions(k=NEIGHBOURS))
        neighbour_rows[block], distances[block] = answers.rows, answers.distances
        progress(start + len(block), len(rows))
    return neighbour_rows, distances


def _with_contents(snapshot: Snapshot, suspects: pd.DataFrame) -> pd.DataFrame:
    """Suspects with the texts or paths of both items, and the other columns that are kept."""
    contents = snapshot.item_contents
    columns = {}
    for prefix in ("", "other_"):
        ids = suspects[f"{prefix}id"]
        exists = ids.notna().to_numpy()
        rows = snapshot.catalogue.rows_of_ids(ids[exists].tolist())
        for name in contents.columns:
            values = np.full(len(suspects), None, object)
            values[exists] = contents.values(name, rows).to_pylist()
            columns[f"{prefix}{name}"] = values
    return suspects.assign(**columns)


def write_suspects(snapshot: Snapshot, report: SuspectReport, out: Path) -> None:
    """Write all suspects as Parquet or CSV, or the worst 200 as a page of pictures.

    A table has a column `judge`, the same in all rows: "served", or "start" for the embeddings
    before training.
    """
    table = report.suspects.assign(judge=report.judge.name)
    if out.suffix == ".parquet":
        table.to_parquet(out, index=False)
    elif out.suffix == ".csv":
        table.to_csv(out, index=False)
    else:
        out.write_text(_suspect_page(snapshot, report))


def print_json(report: SuspectReport, rows: int) -> None:
    """Print the judge and the first `rows` suspects as JSON."""
    suspects = json.loads(report.suspects.head(rows).to_json(orient="records"))
    content = {"judge": report.judge.to_json(), "suspects": suspects}
    print(json.dumps(content, ensure_ascii=False))  # noqa: T201


def print_suspects(report: SuspectReport, rows: int) -> None:
    """Print the first `rows` suspects as a table, without empty columns, and all counts."""
    suspects = report.suspects.head(rows)
    if len(suspects):
        suspects = suspects.dropna(axis="columns", how="all")
    table = folding_table(*suspects.columns)
    for row in suspects.itertuples(index=False):
        named_values = zip(suspects.columns, row, strict=True)
        table.add_row(*(_text(value, name.rpartition("_")[2]) for name, value in named_values))
    console = wide_console()
    console.print(table)
    counts = report.suspects["reason"].value_counts()
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    items = len(report.neighbour_rows)
    console.print(f"{len(report.suspects):,} suspects of {items:,} items: {reasons or 'none'}")
    console.print(report.judge.line)


def _text(value: Any, name: str) -> str:
    if pd.isna(value):
        return ""
    if name in ("text", "path"):
        return fitted(value, name)
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    return str(value)


def _mislabelled_records(
    snapshot: Snapshot, scores: CentroidDistances, margin: float
) -> list[tuple[Any, ...]]:
    """One record per known item with a score above the margin. scores: of known items alone."""
    catalogue = snapshot.catalogue
    known_rows = np.flatnonzero(catalogue.splits != UNKNOWN)
    return [
        (
            catalogue.id_at(row),
            snapshot.label_of(row),
            catalogue.labels[scores.nearest_class[place]],
            REASONS[0],
            float(scores.score[place]),
            None,
            float("nan"),
            SPLITS[catalogue.splits[row]],
        )
        for place in scores.mislabelled(margin)
        for row in (known_rows[place],)
    ]


def _twin_records(snapshot: Snapshot, pairs: Int64, contents: np.ndarray) -> list[tuple[Any, ...]]:
    """One record per pair (2, t) of rows, under the first of the two."""
    catalogue, records = snapshot.catalogue, []
    vectors = snapshot.searcher.vectors
    for first, second in pairs.T:
        ids = catalogue.ids[[first, second]]
        distance = float(np.square(np.subtract(*vectors(ids))).sum())
        records.append(
            (
                catalogue.id_at(first),
                snapshot.label_of(first),
                snapshot.label_of(second),
                REASONS[1] if contents[first] == contents[second] else REASONS[2],
                float("nan"),
                catalogue.id_at(second),
                distance,
                SPLITS[catalogue.splits[first]],
            )
        )
    return records


def _suspect_page(snapshot: Snapshot, report: SuspectReport) -> str:
    """A page of the worst suspects; green marks neighbours with the item's label, red others."""
    gallery = Gallery(snapshot.store, snapshot.version)
    ids = snapshot.catalogue.ids
    cases = []
    suspects = report.suspects.head(MAX_PAGE_SUSPECTS)
    rows = snapshot.catalogue.rows_of_ids(suspects["id"].tolist())
    for suspect, row in zip(suspects.itertuples(index=False), rows, strict=True):
        cards = [
            gallery.card(
                int(ids[neighbour]),
                f"{distance:.3f}",
                good=snapshot.label_of(neighbour) == suspect.label,
            )
            for neighbour, distance in zip(
                report.neighbour_rows[row], report.distances[row], strict=True
            )
            if neighbour >= 0
        ]
        cases.append({"query": gallery.card(int(ids[row]), suspect.reason), "cards": cards})
    summary = [
        f"{len(report.suspects):,} suspects of {len(ids):,} items; the worst {len(cases)}.",
        f"{report.judge.line[0].upper()}{report.judge.line[1:]}.",
        "Green: has the item's label. Red: has another label.",
    ]
    return render_page(snapshot, cases, summary, "Suspects")
