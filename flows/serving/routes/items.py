"""/items and /labels: the items, their thumbnails and their labels."""

import io
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from PIL import Image
from starlette.responses import Response

from remine.data.items.inputs import PICTURES
from remine.data.types import Split
from remine.flows.query.snapshot import Filter
from remine.flows.query.triplet_stats import role_counts
from remine.flows.serving.context import (
    ERROR_RESPONSES,
    RequestVersion,
    context,
    item_model,
    json_response,
    read_id,
    run_in_pool,
)
from remine.flows.serving.models import (
    Id,
    ItemAnswer,
    ItemsAnswer,
    Label,
    LabelsAnswer,
)
from remine.flows.serving.refusals import Refusal
from remine.flows.serving.served_version import ServedVersion

router = APIRouter(tags=["items"], responses=ERROR_RESPONSES)
ItemId = Annotated[Id, Path(description="An id; one that an address cannot hold goes in ?id=.")]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
Offset = Annotated[int, Query(ge=0, le=10**12)]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/items", response_model=ItemsAnswer)
def items(
    version: RequestVersion,
    label: Annotated[str | None, Query(max_length=1_000)] = None,
    split: Split | None = None,
    group: Annotated[str | None, Query(max_length=1_000)] = None,
    offset: Offset = 0,
    limit: Limit = 50,
    seed: Annotated[
        int | None, Query(ge=0, lt=2**31, description="Seed of a random order.")
    ] = None,
    id: Annotated[list[Id], Query(max_length=500, description="Only items with these ids.")] = [],  # noqa: A002, B006
) -> Response:
    """A page of items in order of id or, with a seed, in a random order that the seed decides.

    With ids, only the items among them that are in this version, in order of id.
    """
    item_filter = Filter(
        labels=() if label is None else (label,),
        splits=() if split is None else (split,),
        groups=() if group is None else (group,),
    )
    mask = version.snapshot.filter_mask(item_filter)
    rows = np.arange(len(version.snapshot.catalogue.ids))
    if id:
        wanted = [read_id(version, one, "id") for one in id]
        rows = np.unique(version.snapshot.catalogue.rows_of_ids(wanted))
        rows = rows[rows >= 0]
    if mask is not None:
        rows = rows[mask[rows]]
    total = len(rows)
    if seed is not None:
        rows = np.random.default_rng(seed).permutation(rows)
    page = [item_model(version, int(row)) for row in rows[offset : offset + limit]]
    return json_response(ItemsAnswer.model_construct(**version.stamp, total=total, items=page))


@router.get("/labels", response_model=LabelsAnswer)
def labels(
    version: RequestVersion,
    contains: Annotated[str, Query(max_length=1_000)] = "",
    offset: Offset = 0,
    limit: Limit = 50,
) -> Response:
    """A page of labels that contain a text, in any case, with their numbers of items."""
    catalogue, text = version.snapshot.catalogue, contains.casefold()
    counts = np.bincount(catalogue.label_codes, minlength=len(catalogue.labels))
    codes = [code for code, label in enumerate(catalogue.labels) if text in label.casefold()]
    page = [
        Label.model_construct(label=catalogue.labels[code], items=int(counts[code]))
        for code in codes[offset : offset + limit]
    ]
    return json_response(
        LabelsAnswer.model_construct(**version.stamp, total=len(codes), labels=page)
    )


async def item(request: Request, version: RequestVersion, item: ItemId) -> Response:
    """One item, and its number of triplets in each role in the last round mined."""
    row = row_of(version, item)
    counts = None
    if version.triplets.artifacts:
        item_id = version.snapshot.catalogue.id_at(row)
        counts = await run_in_pool(
            context(request).table_pool, role_counts, version.triplets, -1, item_id
        )
    return json_response(
        ItemAnswer.model_construct(
            **version.stamp,
            item=item_model(version, row),
            roles=counts,
        )
    )


@router.get("/thumbnail", response_class=Response, responses=PNG)
def thumbnail_by_id(
    request: Request,
    version: RequestVersion,
    id: Annotated[Id, Query()],  # noqa: A002
) -> Response:
    """The picture as the encoder sees it, as PNG."""
    return thumbnail(request, version, id)


@router.get("/items/{item}/thumbnail", response_class=Response, responses=PNG)
def thumbnail(request: Request, version: RequestVersion, item: ItemId) -> Response:
    """The picture as the encoder sees it, as PNG."""
    row = row_of(version, item)
    if version.snapshot.content not in PICTURES:
        raise Refusal(404, "the items are not pictures")
    pixels = version.snapshot.inputs[np.array([row])][0]
    number = version.snapshot.catalogue.ids[row]
    tag = f'"{version.record.artifacts["inputs"].digest[:24]}-{number}"'
    # Revalidated after a minute: another version may have other inputs under this address.
    headers = {"etag": tag, "cache-control": "private, max-age=60"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    buffer = io.BytesIO()
    image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
    return Response(buffer.getvalue(), 200, headers, "image/png")


# A text may hold slashes. After the route of thumbnails, which it would hide.
router.get("/items/{item:path}", response_model=ItemAnswer)(item)


def row_of(version: ServedVersion, item: int | str) -> int:
    """The row of an item in the order of ids; refuses an unknown item."""
    (row,) = version.snapshot.catalogue.rows_of_ids([read_id(version, item, "item")]).tolist()
    if row < 0:
        raise Refusal(404, "no such item in this version")
    return int(row)
