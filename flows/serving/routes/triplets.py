"""/triplets, /rounds, /compare and /map: what was mined, and where the items lie."""

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
from remine.data.types import KINDS, SPLITS
from remine.flows.query.triplet_stats import compare, histograms, stats
from remine.flows.query.triplets import MAX_LIMIT, Range, TripletQuery
from remine.flows.serving.context import FAULTS, Context, answer, context, in_pool, served
from remine.flows.serving.faults import Refusal
from remine.flows.serving.holder import Served
from remine.flows.serving.models import (
    MAX_ID,
    CompareAnswer,
    Kind,
    MapAnswer,
    RoundAnswer,
    RoundRow,
    RoundsAnswer,
    Triplet,
    TripletsAnswer,
)

TOP = 20
EXPORTED = 100_000
"""Rows in one download: seconds; `remine triplets export` writes all."""
SAMPLE = 5_000
router = APIRouter(tags=["triplets"], responses=FAULTS)
Taken = Annotated[Served, Depends(served)]
Sort = Literal["anchor", "d_ap", "d_an", "margin", "negative_rank"]
Bound = Annotated[float | None, Query(allow_inf_nan=False)]
Text = Annotated[str | None, Query(max_length=1_000)]
ItemId = Annotated[int | None, Query(ge=0, le=MAX_ID)]
Round = Annotated[int, Query(ge=-1, lt=1_000_000, description="-1: the last one mined.")]


def triplet_query(
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
    """Which triplets, in what order. label: of the anchor. item: in any place."""
    if descending and sort == "anchor":
        raise Refusal(422, "descending needs a measure to sort by", ["sort"])
    return TripletQuery(
        round=round,
        kinds=tuple(kind),
        label=label,
        negative_label=negative_label,
        item=item,
        anchor=anchor,
        d_ap=Range(low=d_ap_min, high=d_ap_max),
        d_an=Range(low=d_an_min, high=d_an_max),
        margin=Range(low=margin_min, high=margin_max),
        negative_rank=Range(low=rank_min, high=rank_max),
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
    )


@router.get("/triplets", response_model=TripletsAnswer)
async def triplets(
    request: Request, taken: Taken, query: Annotated[TripletQuery, Depends(triplet_query)]
) -> Response:
    """A page of a round's triplets, filtered and sorted."""
    number = _round(taken, query.round)
    rows = await in_pool(context(request).tables, taken.mined.page, query)
    unpaged = ("triplets", _triplets(taken, number), *_filters(query))
    total = await in_pool(
        context(request).tables,
        lambda: taken.kept.get(unpaged, lambda: (taken.mined.count(query),))[0],
    )
    return answer(
        TripletsAnswer.model_construct(
            version=taken.version.number,
            index=taken.index,
            round=number,
            total=total,
            triplets=[Triplet.model_construct(**row) for row in rows],
        )
    )


@router.get(
    "/triplets.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}}
)
async def triplets_csv(
    request: Request, taken: Taken, query: Annotated[TripletQuery, Depends(triplet_query)]
) -> Response:
    """The first 100,000 triplets that fit, as CSV, whatever offset and limit."""
    number = _round(taken, query.round)
    # A wrong filter is refused before the first byte.
    await in_pool(context(request).tables, taken.mined.page, replace(query, limit=1))
    headers = {
        "content-disposition": f'attachment; filename="triplets-round-{number}.csv"',
        "x-remine-version": str(taken.version.number),
    }
    parts = _csv_parts(context(request), taken, query)
    return StreamingResponse(parts, 200, headers, "text/csv; charset=utf-8")


async def _csv_parts(shared: Context, taken: Served, query: TripletQuery) -> AsyncIterator[bytes]:
    """CSV in parts of MAX_LIMIT rows, so that little is held at a time."""
    for offset in range(0, EXPORTED, MAX_LIMIT):
        page = replace(query, offset=offset, limit=MAX_LIMIT)
        rows = await in_pool(shared.tables, taken.mined.page, page)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Triplet.model_fields))
        if offset == 0:
            writer.writeheader()
        writer.writerows(rows)
        yield text.getvalue().encode()
        if len(rows) < MAX_LIMIT:
            return


@router.get("/rounds", response_model=RoundsAnswer)
def rounds(taken: Taken) -> Response:
    """Every round of the cycle: retrieval before it, what it mined, how it trained."""
    version = taken.version
    found = []
    for number in range(version.rounds + 1):
        cards = {
            name: version.artifacts[f"{name}/round={number}"].card
            for name in ("metrics", "triplets", "training")
            if f"{name}/round={number}" in version.artifacts
        }
        if cards:
            found.append(
                RoundRow.model_construct(
                    round=number,
                    metrics=_numbers(cards.get("metrics")),
                    mined=_counts(cards.get("triplets")),
                    margin=cards.get("triplets", {}).get("settings", {}).get("margin"),
                    training=_numbers(cards.get("training")),
                )
            )
    return answer(
        RoundsAnswer.model_construct(
            version=version.number,
            index=taken.index,
            cycle=version.cycle,
            finished=version.finished,
            rounds=found,
        )
    )


@router.get("/rounds/{number}", response_model=RoundAnswer)
async def round_stats(
    request: Request, taken: Taken, number: Annotated[int, Path(ge=0, lt=1_000_000)]
) -> Response:
    """Kinds, distances and their histograms, hub negatives and confused classes of a round."""
    key = ("round", _triplets(taken, _round(taken, number)))

    def study() -> dict[str, Any]:
        found = stats(taken.mined, number, TOP)
        return {**found, "histograms": histograms(taken.mined, number)}

    found = await in_pool(context(request).tables, taken.kept.get, key, study)
    return answer(RoundAnswer(version=taken.version.number, index=taken.index, **found))


@router.get("/compare", response_model=CompareAnswer)
async def compare_rounds(
    request: Request,
    taken: Taken,
    first: Annotated[int, Query(ge=0, lt=1_000_000)],
    second: Annotated[int, Query(ge=0, lt=1_000_000)],
) -> Response:
    """What changed from one round to another."""
    key = ("compare", *(_triplets(taken, _round(taken, n)) for n in (first, second)))

    def study() -> dict[str, Any]:
        return compare(taken.mined, first, second)

    found = await in_pool(context(request).tables, taken.kept.get, key, study)
    whole = {**found, "first": first, "second": second}
    return answer(CompareAnswer(version=taken.version.number, index=taken.index, **whole))


@router.get("/map", response_model=MapAnswer)
async def map_of_items(
    request: Request, taken: Taken, items: Annotated[int, Query(ge=1, le=SAMPLE)] = 2_000
) -> Response:
    """A random sample of items in the plane of the embedding's two widest directions."""
    key = ("map", taken.index)
    whole = await in_pool(context(request).tables, taken.kept.get, key, lambda: _plane(taken))
    rows, points, explained = whole
    known = taken.snapshot.known
    shown, places = rows[:items], points[:items]
    codes, short = np.unique(known.label_codes[shown], return_inverse=True)
    return answer(
        MapAnswer.model_construct(
            version=taken.version.number,
            index=taken.index,
            ids=known.ids[shown].tolist(),
            x=places[:, 0].tolist(),
            y=places[:, 1].tolist(),
            label=short.tolist(),
            labels=[known.labels[code] for code in codes],
            split=[SPLITS[code] for code in known.splits[shown]],
            explained=explained,
        )
    )


def _plane(taken: Served) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of a random sample, their (m, 2) places in -1 to 1, and the share of variance shown."""
    known = taken.snapshot.known
    rows = np.random.default_rng(0).permutation(len(known.ids))[:SAMPLE]
    vectors = taken.snapshot.searcher.vectors(known.ids[rows]).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1) < 0, -1, 1)[:, None]  # one sign, not chance's
    points = np.zeros((len(rows), 2))
    points[:, : len(axes)] = centred @ axes.T
    points /= np.abs(points).max(initial=0) or 1.0
    total = float((spread**2).sum())
    return rows, points.round(5), float((spread[:2] ** 2).sum() / total) if total else 0.0


def _round(taken: Served, number: int) -> int:
    try:
        return taken.mined.round(number)
    except InputError:
        raise Refusal(404, "no triplets of this round in this version", ["round"]) from None


def _triplets(taken: Served, number: int) -> str:
    """What everything about a round's triplets follows from: they, and the items' labels."""
    return taken.mined.artifacts[number].digest + taken.version.artifacts["items"].digest


def _filters(query: TripletQuery) -> tuple[Any, ...]:
    """What decides how many triplets fit."""
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
    """Triplets by kind, and in all, as a card tells."""
    if card is None:
        return None
    kinds = {kind: int(card.get("kinds", {}).get(kind, 0)) for kind in KINDS}
    return {**kinds, "triplets": int(card.get("triplets", sum(kinds.values())))}
