"""/search: by id, text, vector and picture, one or many."""

import io
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, UploadFile
from PIL import Image
from starlette.responses import Response

from remine.data.items.inputs import FORMATS, vector_transform
from remine.data.types import Float32, unit
from remine.flows.query.snapshot import Answers, Filter, Queries, Wish
from remine.flows.serving.context import (
    FAULTS,
    answer,
    body_of,
    context,
    documented,
    in_pool,
    item_at,
    item_model,
    served,
)
from remine.flows.serving.faults import Refusal
from remine.flows.serving.holder import Served
from remine.flows.serving.models import (
    MAX_ID,
    BatchAnswer,
    BatchBody,
    Explained,
    Neighbour,
    SearchAnswer,
    SearchBody,
    Split,
    Wanted,
)

router = APIRouter(tags=["search"], responses=FAULTS)
Taken = Annotated[Served, Depends(served)]
Names = Annotated[list[str], Query(max_length=100)]


async def wanted(
    k: Annotated[int, Query(ge=1, le=9_999)] = 10,
    recall: Annotated[float | None, Query(gt=0, le=1, allow_inf_nan=False)] = None,
    label: Names = [],  # noqa: B006 - FastAPI copies it
    split: Annotated[list[Split], Query(max_length=3)] = [],  # noqa: B006
    group: Names = [],  # noqa: B006
    *,
    distinct: bool = False,
    explain: bool = False,
) -> Wanted:
    """How to answer, from the address; labels, splits and groups may be repeated."""
    return Wanted.model_construct(
        k=k,
        recall=recall,
        labels=label,
        splits=split,
        groups=group,
        distinct=distinct,
        explain=explain,
    )


@router.get("/search", response_model=SearchAnswer)
async def search_by_address(
    request: Request,
    taken: Taken,
    wish: Annotated[Wanted, Depends(wanted)],
    id: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,  # noqa: A002
    text: Annotated[str | None, Query(min_length=1, max_length=10_000)] = None,
    *,
    itself: bool = False,
) -> Response:
    """Neighbours of an item or a text, as an address that can be kept."""
    if (id is None) == (text is None):
        raise Refusal(422, "give exactly one of id and text")
    body = SearchBody.model_construct(
        **wish.model_dump(), id=id, text=text, vector=None, itself=itself
    )
    return await search(request, taken, body)


@router.post("/search", response_model=SearchAnswer, openapi_extra=documented(SearchBody))
async def search(
    request: Request, taken: Taken, body: Annotated[SearchBody, Depends(body_of(SearchBody))]
) -> Response:
    """Neighbours of one item, text or vector."""
    queries = await _queries(
        request,
        taken,
        ids=None if body.id is None else [body.id],
        texts=None if body.text is None else [body.text],
        vectors=None if body.vector is None else [body.vector],
        itself=body.itself,
    )
    return await _single(request, taken, queries, body)


@router.post("/search/image", response_model=SearchAnswer)
async def search_by_image(
    request: Request,
    taken: Taken,
    wish: Annotated[Wanted, Depends(wanted)],
    file: UploadFile,
) -> Response:
    """Neighbours of an uploaded picture."""
    raw = await file.read()
    _check_picture(raw, context(request).limits.pixels)
    queries = await in_pool(context(request).encode, _by_picture, taken, raw)
    return await _single(request, taken, queries, wish)


@router.post("/search/batch", response_model=BatchAnswer, openapi_extra=documented(BatchBody))
async def search_batch(
    request: Request, taken: Taken, body: Annotated[BatchBody, Depends(body_of(BatchBody))]
) -> Response:
    """Neighbours of many items, texts or vectors."""
    queries = await _queries(
        request, taken, ids=body.ids, texts=body.texts, vectors=body.vectors, itself=False
    )
    return await _many(request, taken, queries, body)


@router.post(
    "/search/npy",
    response_model=BatchAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def search_npy(
    request: Request, taken: Taken, wish: Annotated[Wanted, Depends(wanted)]
) -> Response:
    """Neighbours of the (q, d) float32 vectors of an .npy file, the fastest way to ask many."""
    vectors = _read_npy(await request.body())
    _check_count(request, len(vectors))
    return await _many(request, taken, taken.snapshot.by_vector(_vectors(taken, vectors)), wish)


async def _queries(
    request: Request,
    taken: Served,
    *,
    ids: list[int] | None,
    texts: list[str] | None,
    vectors: list[list[float]] | None,
    itself: bool,
) -> Queries:
    """The queries of a body; vectors are checked, texts go through the model."""
    _check_count(request, len(ids or texts or vectors or ()))
    if ids is not None:
        return taken.snapshot.by_id(np.array(ids, np.int64), itself=itself)
    if texts is not None:
        if max(map(len, texts)) > context(request).limits.text:
            raise Refusal(422, f"a text is longer than {context(request).limits.text} characters")
        found: Queries = await in_pool(context(request).encode, _by_text, taken, texts)
        return found
    assert vectors is not None
    if len({len(vector) for vector in vectors}) != 1:
        raise Refusal(422, "the vectors are of several lengths")
    return taken.snapshot.by_vector(_vectors(taken, np.array(vectors, np.float64)))


async def _single(request: Request, taken: Served, queries: Queries, wish: Wanted) -> Response:
    found = await context(request).batcher.ask(taken.snapshot, queries, _wish(request, wish, 1))
    query = None if queries.rows is None else item_model(taken, int(queries.rows[0]))
    near = [
        Neighbour.model_construct(**item_at(taken, row), rank=rank + 1, distance=distance)
        for rank, (row, distance) in enumerate(
            zip(found.rows[0].tolist(), found.distances[0].tolist(), strict=True)
        )
        if row >= 0
    ]
    return answer(
        SearchAnswer.model_construct(
            version=taken.version.number,
            index=taken.index,
            query=query,
            neighbours=near,
            explain=_explained(found, wish),
        )
    )


async def _many(request: Request, taken: Served, queries: Queries, wish: Wanted) -> Response:
    wished = _wish(request, wish, len(queries))
    found = await context(request).batcher.ask(taken.snapshot, queries, wished)
    ids = np.where(found.rows >= 0, taken.snapshot.known.ids[found.rows], -1).tolist()
    distances = found.distances.tolist()
    if (found.rows < 0).any():
        lengths = (found.rows >= 0).sum(axis=1).tolist()
        ids = [row[:n] for row, n in zip(ids, lengths, strict=True)]
        distances = [row[:n] for row, n in zip(distances, lengths, strict=True)]
    return answer(
        BatchAnswer.model_construct(
            version=taken.version.number,
            index=taken.index,
            ids=ids,
            distances=distances,
            explain=_explained(found, wish),
        )
    )


def _wish(request: Request, wish: Wanted, count: int) -> Wish:
    limits = context(request).limits
    if wish.k > limits.k:
        raise Refusal(422, f"k is at most {limits.k} here", ["k"])
    if wish.k * count > limits.answers:
        raise Refusal(422, f"queries times k is at most {limits.answers} here", ["k"])
    among = Filter(labels=tuple(wish.labels), splits=tuple(wish.splits), groups=tuple(wish.groups))
    return Wish(
        k=wish.k, recall=wish.recall, among=among, distinct=wish.distinct, explain=wish.explain
    )


def _explained(found: Answers, wish: Wanted) -> Explained | None:
    return Explained.model_construct(**found.told.to_json()) if wish.explain else None


def _check_count(request: Request, count: int) -> None:
    if count > context(request).limits.batch:
        raise Refusal(422, f"at most {context(request).limits.batch} queries a request here")


def _vectors(taken: Served, vectors: np.ndarray) -> Float32:
    """(q, d) vectors of length 1; refuses another d."""
    d = taken.snapshot.searcher.card.dimensions
    if vectors.shape[1] != d:
        raise Refusal(422, f"vectors of {vectors.shape[1]} numbers; the index has {d}", ["vector"])
    most = np.finfo(np.float32).max
    if not (np.isfinite(vectors) & (np.abs(vectors) <= most)).all():
        raise Refusal(422, "a number is not finite, or too large for 32 bits", ["vector"])
    whole: Any = vectors.astype(np.float32)
    return unit(vector_transform(whole, lambda row: f"vector {row}"))


def _by_text(taken: Served, texts: list[str]) -> Queries:
    return taken.snapshot.by_text(texts, lambda row: f"text {row}")


def _by_picture(taken: Served, raw: bytes) -> Queries:
    return taken.snapshot.by_picture([raw], lambda _row: "file")


def _check_picture(raw: bytes, most: int) -> None:
    """Refuse what is no picture or too large a one, before it is decoded."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels <= most:
                image.load()
    except Exception:  # noqa: BLE001 - decoders raise whatever they like on broken files
        raise Refusal(422, "not a readable picture", ["file"]) from None
    if pixels > most:
        raise Refusal(422, f"the picture has {pixels} pixels; at most {most} here", ["file"])


def _read_npy(raw: bytes) -> np.ndarray:
    """The (q, d) floats of an .npy file; its header is held against its length first."""
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
    except Exception:  # noqa: BLE001 - a header is parsed as Python, and fails as Python does
        raise Refusal(422, "the body is no .npy file") from None
    left = len(raw) - file.tell()
    if len(shape) != 2 or min(shape) < 1 or fortran or dtype.str not in ("<f4", "<f8"):
        raise Refusal(422, "the .npy file must hold (q, d) little-endian floats in row order")
    if shape[0] * shape[1] * dtype.itemsize != left:
        raise Refusal(422, "the .npy file is not as long as its header says")
    return np.frombuffer(raw, dtype, offset=file.tell()).reshape(shape)
