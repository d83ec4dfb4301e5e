"""/triplets, /rounds, /compare and /map: mined triplets, rounds, and the map of the items."""

import csv
import io
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from remine.data.errors import InputError
from remine.data.types import KINDS, SPLITS, Kind
from remine.flows.query.triplet_stats import compare, histograms, stats
from remine.flows.query.triplets import MAX_LIMIT, Range, TripletQuery
from remine.flows.serving.context import (
    ERROR_RESPONSES,
    Context,
    RequestVersion,
    context,
    json_response,
    read_id,
    run_in_pool,
)
from remine.flows.serving.models import (
    CompareAnswer,
    Id,
    MapAnswer,
    RoundAnswer,
    RoundRow,
    RoundsAnswer,
    Triplet,
    TripletsAnswer,
)
from remine.flows.serving.refusals import Refusal
from remine.flows.serving.served_version import ServedVersion

TOP = 20
MAX_CSV_ROWS = 100_000
"""Rows in one download, which takes seconds; `remine triplets export` writes all."""
MAX_MAP_ITEMS = 5_000
router = APIRouter(tags=["triplets"], responses=ERROR_RESPONSES)
Sort = Literal["anchor", "d_ap", "d_an", "margin", "negative_rank"]
Bound = Annotated[float | None, Query(allow_inf_nan=False)]
Text = Annotated[str | None, Query(max_length=1_000)]
ItemId = Annotated[Id | None, Query()]
Round = Annotated[int, Query(ge=-1, lt=1_000_000, description="-1: the last one mined.")]


def triplet_query(
    version: RequestVersion,
    *,
    round: Round = -1,  # noqa: A002
    kind: Annotated[list[Kind], Query(max_length=3)] = [],  # noqa: B006
    label: Text = None,
    negative_label: Text = None,
    item: ItemId = None,
    anchor: ItemId = None,
    d_ap_min: Bound = None,
    d_ap_max: Bound = None,
    d_an_min: Bound = None,
    d_an_max: Bound = None,
    margin_min: Bound = None,
    margin_max: Bound = None,
    rank_min: Bound = None,
    rank_max: Bound = None,
    sort: Sort = "anchor",
    offset: Annotated[int, Query(ge=0, le=10**12)] = 0,
    limit: Annotated[int, Query(ge=0, le=500)] = 50,
    descending: bool = False,
) -> TripletQuery:
    """Filters, order and page of triplets. label: of the anchor. item: in any role."""
    if descending and sort == "anchor":
        raise Refusal(422, "descending needs a measure to sort by", ["sort"])
    return TripletQuery(
        round=round,
        kinds=tuple(kind),
        label=label,
        negative_label=negative_label,
        item=None if item is None else read_id(version, item, "item"),
        anchor=None if anchor is None else read_id(version, anchor, "anchor"),
        d_ap=Range(low=d_ap_min, high=d_ap_max),
        d_an=Range(low=d_an_min, high=d_an_max),
        margin=Range(low=margin_min, high=margin_max),
        negative_rank=Range(low=rank_min, high=rank_max),
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
    )


Selection = Annotated[TripletQuery, Depends(triplet_query)]


@router.get("/triplets", response_model=TripletsAnswer)
async def triplets(
    request: Request,
    version: RequestVersion,
    query: Selection,
) -> Response:
    """A page of a round's triplets, filtered and sorted."""
    number = _round(version, query.round)
    rows = await run_in_pool(context(request).table_pool, version.triplets.page, query)
    # The count is the same on every page.
    key = ("triplets", _content_key(version, number), *_filters(query))
    total = await run_in_pool(
        context(request).table_pool,
        version.cache.get,
        key,
        lambda: version.triplets.count(query),
    )
    return json_response(
        TripletsAnswer.model_construct(
            **version.stamp,
            round=number,
            total=total,
            triplets=[Triplet.model_construct(**row) for row in rows],
        )
    )


@router.get(
    "/triplets.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}}
)
async def triplets_csv(
    request: Request,
    version: RequestVersion,
    query: Selection,
) -> Response:
    """The first 100,000 triplets that pass the filters, as CSV; offset and limit are ignored."""
    number = _round(version, query.round)
    # One row is read first: a wrong filter must be refused before the status is sent.
    await run_in_pool(context(request).table_pool, version.triplets.page, replace(query, limit=1))
    headers = {
        "content-disposition": f'attachment; filename="triplets-round-{number}.csv"',
        "x-remine-version": str(version.record.number),
    }
    parts = _csv_parts(context(request), version, query)
    return StreamingResponse(parts, 200, headers, "text/csv; charset=utf-8")


async def _csv_parts(
    app_context: Context, version: ServedVersion, query: TripletQuery
) -> AsyncIterator[bytes]:
    """Yield CSV in parts of MAX_LIMIT rows, which bounds the memory."""
    for offset in range(0, MAX_CSV_ROWS, MAX_LIMIT):
        page = replace(query, offset=offset, limit=MAX_LIMIT)
        rows = await run_in_pool(app_context.table_pool, version.triplets.page, page)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Triplet.model_fields))
        if offset == 0:
            writer.writeheader()
        writer.writerows(rows)
        yield text.getvalue().encode()
        if len(rows) < MAX_LIMIT:
            return


@router.get("/rounds", response_model=RoundsAnswer)
def rounds(version: RequestVersion) -> Response:
    """All rounds of the cycle: metrics before the round, triplets, training."""
    record = version.cycle
    rows = []
    for number in range(record.rounds + 1):
        cards = {
            name: record.artifacts[f"{name}/round={number}"].card
            for name in ("metrics", "triplets", "training")
            if f"{name}/round={number}" in record.artifacts
        }
        if cards:
            rows.append(
                RoundRow.model_construct(
                    round=number,
                    metrics=_numbers(cards.get("metrics")),
                    val=_numbers(cards.get("metrics", {}).get("val")),
                    mined=_counts(cards.get("triplets")),
                    margin=cards.get("triplets", {}).get("settings", {}).get("margin"),
                    training=_numbers(cards.get("training")),
                )
            )
    return json_response(
        RoundsAnswer.model_construct(
            **version.stamp,
            cycle=record.cycle,
            finished=record.finished,
            served_round=version.record.round,
            rounds=rows,
        )
    )


@router.get("/rounds/{number}", response_model=RoundAnswer)
async def round_stats(
    request: Request, version: RequestVersion, number: Annotated[int, Path(ge=0, lt=1_000_000)]
) -> Response:
    """Kinds, distances with histograms, hub negatives and confused classes of a round."""
    key = ("round", _content_key(version, _round(version, number)))

    def compute() -> dict[str, Any]:
        fields = stats(version.triplets, number, TOP)
        return {**fields, "histograms": histograms(version.triplets, number)}

    fields = await run_in_pool(context(request).table_pool, version.cache.get, key, compute)
    return json_response(RoundAnswer(**version.stamp, **fields))


@router.get("/compare", response_model=CompareAnswer)
async def compare_rounds(
    request: Request,
    version: RequestVersion,
    first: Annotated[int, Query(ge=0, lt=1_000_000)],
    second: Annotated[int, Query(ge=0, lt=1_000_000)],
) -> Response:
    """The changes from one round to another."""
    key = ("compare", *(_content_key(version, _round(version, n)) for n in (first, second)))

    def compute() -> dict[str, Any]:
        return compare(version.triplets, first, second)

    comparison = await run_in_pool(context(request).table_pool, version.cache.get, key, compute)
    # Cached by content: another version may have the same triplets under other round numbers.
    fields = {**comparison, "first": first, "second": second}
    return json_response(CompareAnswer(**version.stamp, **fields))


@router.get("/map", response_model=MapAnswer)
async def map_of_items(
    request: Request,
    version: RequestVersion,
    items: Annotated[int, Query(ge=1, le=MAX_MAP_ITEMS)] = 2_000,
) -> Response:
    """A random sample of items on the first two principal axes of the embeddings."""
    key = ("map", version.index_digest)
    rows, points, variance_share = await run_in_pool(
        context(request).table_pool, version.cache.get, key, lambda: _project(version)
    )
    catalogue = version.snapshot.catalogue
    rows, points = rows[:items], points[:items]
    # Labels are sent once each, items refer to them by position.
    codes, label_places = np.unique(catalogue.label_codes[rows], return_inverse=True)
    return json_response(
        MapAnswer.model_construct(
            **version.stamp,
            ids=catalogue.ids_at(rows).to_pylist(),
            x=points[:, 0].tolist(),
            y=points[:, 1].tolist(),
            label=label_places.tolist(),
            labels=[catalogue.labels[code] for code in codes],
            split=[SPLITS[code] for code in catalogue.splits[rows]],
            explained=variance_share,
        )
    )


def _project(version: ServedVersion) -> tuple[np.ndarray, np.ndarray, float]:
    """Project a random sample of m items onto the first two principal axes.

    Returns:
        (m,) rows, (m, 2) coordinates from -1 to 1, and the share of the variance that they show.
    """
    catalogue = version.snapshot.catalogue
    rows = np.random.default_rng(0).permutation(len(catalogue.ids))[:MAX_MAP_ITEMS]
    vectors = version.snapshot.searcher.vectors(catalogue.ids[rows]).astype(np.float64)
    vectors -= vectors.mean(axis=0)
    _, spread, axes = np.linalg.svd(vectors, full_matrices=False)
    # The sign of a singular vector is arbitrary: fixing it keeps the map from flipping.
    axes = axes[:2] * np.where(axes[:2].sum(axis=1) < 0, -1, 1)[:, None]
    points = np.zeros((len(rows), 2))
    points[:, : len(axes)] = vectors @ axes.T
    points /= np.abs(points).max(initial=0) or 1.0
    total = float((spread**2).sum())
    return rows, points.round(5), float((spread[:2] ** 2).sum() / total) if total else 0.0


def _round(version: ServedVersion, number: int) -> int:
    """The number of a round with triplets; refuses others."""
    try:
        return version.triplets.round(number)
    except InputError:
        raise Refusal(404, "no triplets of this round in this version", ["round"]) from None


def _content_key(version: ServedVersion, number: int) -> str:
    """A key of all that statistics of a round depend on: its triplets and the items' labels."""
    return version.triplets.artifacts[number].digest + version.record.artifacts["items"].digest


def _filters(query: TripletQuery) -> tuple[Any, ...]:
    """The fields of a query that decide how many triplets there are."""
    names = ("kinds", "label", "negative_label", "item", "anchor")
    ranges = ("d_ap", "d_an", "margin", "negative_rank")
    return tuple(getattr(query, name) for name in (*names, *ranges))


def _numbers(card: Any) -> dict[str, float | None] | None:
    """The finite numbers of a card."""
    if card is None:
        return None
    numbers = {k: v for k, v in card.items() if isinstance(v, int | float)}
    return {k: float(v) if math.isfinite(v) else None for k, v in numbers.items()}


def _counts(card: Any) -> dict[str, int] | None:
    """The numbers of triplets by kind and in total on a card."""
    if card is None:
        return None
    kinds = {kind: int(card.get("kinds", {}).get(kind, 0)) for kind in KINDS}
    return {**kinds, "triplets": int(card.get("triplets", sum(kinds.values())))}
