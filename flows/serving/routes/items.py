"""/items and /labels: who is who, and what it looks like."""

import io
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from PIL import Image
from starlette.responses import Response

from remine.data.items.lookup import PICTURES
from remine.flows.query.snapshot import Filter
from remine.flows.query.triplet_stats import roles
from remine.flows.serving.context import FAULTS, answer, context, in_pool, item_model, served
from remine.flows.serving.faults import Refusal
from remine.flows.serving.holder import Served
from remine.flows.serving.models import (
    MAX_ID,
    Id,
    ItemAnswer,
    ItemsAnswer,
    Label,
    LabelsAnswer,
    Split,
)

router = APIRouter(tags=["items"], responses=FAULTS)
Taken = Annotated[Served, Depends(served)]
ItemId = Annotated[int, Path(ge=0, le=MAX_ID)]
Offset = Annotated[int, Query(ge=0, le=10**12)]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/items", response_model=ItemsAnswer)
def items(
    taken: Taken,
    label: Annotated[str | None, Query(max_length=1_000)] = None,
    split: Split | None = None,
    group: Annotated[str | None, Query(max_length=1_000)] = None,
    offset: Offset = 0,
    limit: Limit = 50,
    seed: Annotated[int | None, Query(ge=0, lt=2**31, description="In a random order.")] = None,
    id: Annotated[list[Id], Query(max_length=500, description="These alone.")] = [],  # noqa: A002, B006
) -> Response:
    """A page of items, in order of id or, with a seed, in a random order that it decides.

    With ids: of these, in order of id, those that are in this version.
    """
    among = Filter(
        labels=() if label is None else (label,),
        splits=() if split is None else (split,),
        groups=() if group is None else (group,),
    )
    kept = taken.snapshot.kept(among)
    known = taken.snapshot.known.ids
    rows = np.flatnonzero(np.isin(known, id)) if id else np.arange(len(known))
    if kept is not None:
        rows = rows[kept[rows]]
    total = len(rows)
    if seed is not None:
        rows = np.random.default_rng(seed).permutation(rows)
    page = [item_model(taken, int(row)) for row in rows[offset : offset + limit]]
    return answer(
        ItemsAnswer.model_construct(
            version=taken.version.number, index=taken.index, total=total, items=page
        )
    )


@router.get("/labels", response_model=LabelsAnswer)
def labels(
    taken: Taken,
    contains: Annotated[str, Query(max_length=1_000)] = "",
    offset: Offset = 0,
    limit: Limit = 50,
) -> Response:
    """A page of classes whose name contains a text, whatever its case."""
    known, wanted = taken.snapshot.known, contains.casefold()
    counts = np.bincount(known.label_codes, minlength=len(known.labels))
    fits = [code for code, label in enumerate(known.labels) if wanted in label.casefold()]
    page = [
        Label.model_construct(label=known.labels[code], items=int(counts[code]))
        for code in fits[offset : offset + limit]
    ]
    return answer(
        LabelsAnswer.model_construct(
            version=taken.version.number, index=taken.index, total=len(fits), labels=page
        )
    )


@router.get("/items/{item}", response_model=ItemAnswer)
async def item(request: Request, taken: Taken, item: ItemId) -> Response:
    """One item, and its part in the last round mined."""
    row = row_of(taken, item)
    counts = None
    if taken.mined.artifacts:
        counts = await in_pool(context(request).tables, roles, taken.mined, -1, item)
    return answer(
        ItemAnswer.model_construct(
            version=taken.version.number,
            index=taken.index,
            item=item_model(taken, row),
            roles=counts,
        )
    )


@router.get(
    "/items/{item}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def thumbnail(request: Request, taken: Taken, item: ItemId) -> Response:
    """What the model sees of a picture, as PNG."""
    row = row_of(taken, item)
    if taken.snapshot.content not in PICTURES:
        raise Refusal(404, "the items are no pictures")
    pixels = taken.snapshot.inputs[np.array([row])][0]
    tag = f'"{taken.version.artifacts["inputs"].digest[:24]}-{item}"'
    # Inputs of one hash never change; another version may have others.
    headers = {"etag": tag, "cache-control": "private, max-age=60"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    buffer = io.BytesIO()
    whole = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(whole)).save(buffer, "PNG")
    return Response(buffer.getvalue(), 200, headers, "image/png")


def row_of(taken: Served, item: int) -> int:
    """The place of an item in the order of ids; refuses an unknown one."""
    ids = taken.snapshot.known.ids
    row = int(np.searchsorted(ids, item))
    if row == len(ids) or ids[row] != item:
        raise Refusal(404, "no such item in this version")
    return row
