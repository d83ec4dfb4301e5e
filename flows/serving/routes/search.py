"""/search: neighbours of an item, a text, a vector or a picture, one or many."""

import io
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, UploadFile
from PIL import Image
from starlette.responses import Response

from remine.data.items.inputs import vector_transform
from remine.data.sources.picture_formats import formats
from remine.data.types import Float32, Int64, Split, unit
from remine.flows.query.rejection import Rejection
from remine.flows.query.snapshot import Answers, Filter, Queries, SearchOptions
from remine.flows.serving.context import (
    ERROR_RESPONSES,
    RequestVersion,
    body_schema,
    context,
    item_fields,
    item_model,
    json_body,
    json_response,
    read_id,
    run_in_pool,
)
from remine.flows.serving.models import (
    AnswerOptions,
    BatchAnswer,
    BatchBody,
    Id,
    Neighbour,
    SearchAnswer,
    SearchBody,
)
from remine.flows.serving.refusals import Refusal
from remine.flows.serving.served_version import ServedVersion
from remine.index.search_report import SearchReport

router = APIRouter(tags=["search"], responses=ERROR_RESPONSES)
Names = Annotated[list[str], Query(max_length=100)]


async def address_options(
    k: Annotated[int, Query(ge=1, le=9_999)] = 10,
    recall: Annotated[float | None, Query(gt=0, le=1, allow_inf_nan=False)] = None,
    label: Names = [],  # noqa: B006 - FastAPI copies it
    split: Annotated[list[Split], Query(max_length=4)] = [],  # noqa: B006
    group: Names = [],  # noqa: B006
    *,
    reject: Annotated[float | None, Query(gt=0, lt=1, allow_inf_nan=False)] = None,
    distinct: bool = False,
    explain: bool = False,
) -> AnswerOptions:
    """Search options from the query string; labels, splits and groups may be repeated."""
    return AnswerOptions.model_construct(
        k=k,
        recall=recall,
        labels=label,
        splits=split,
        groups=group,
        distinct=distinct,
        reject=reject,
        explain=explain,
    )


@router.get("/search", response_model=SearchAnswer)
async def search_by_address(
    request: Request,
    version: RequestVersion,
    options: Annotated[AnswerOptions, Depends(address_options)],
    id: Annotated[Id | None, Query()] = None,  # noqa: A002
    text: Annotated[str | None, Query(min_length=1, max_length=10_000)] = None,
    *,
    itself: bool = False,
) -> Response:
    """Neighbours of an item or a text, all in the address."""
    if (id is None) == (text is None):
        raise Refusal(422, "give exactly one of id and text")
    item = None if id is None else read_id(version, id, "id")
    body = SearchBody.model_construct(
        **options.model_dump(), id=item, text=text, vector=None, itself=itself
    )
    return await search(request, version, body)


@router.post("/search", response_model=SearchAnswer, openapi_extra=body_schema(SearchBody))
async def search(
    request: Request,
    version: RequestVersion,
    body: Annotated[SearchBody, Depends(json_body(SearchBody))],
) -> Response:
    """Neighbours of one item, text or vector."""
    if body.itself and body.reject is not None:
        raise Refusal(422, "give one of itself and reject", ["itself", "reject"])
    queries = await _queries(
        request,
        version,
        ids=None if body.id is None else [body.id],
        texts=None if body.text is None else [body.text],
        vectors=None if body.vector is None else [body.vector],
        itself=body.itself,
    )
    return await _single(request, version, queries, body)


@router.post("/search/image", response_model=SearchAnswer)
async def search_by_image(
    request: Request,
    version: RequestVersion,
    options: Annotated[AnswerOptions, Depends(address_options)],
    file: UploadFile,
) -> Response:
    """Neighbours of an uploaded picture."""
    form = await request.form()
    if len(form.multi_items()) > 1:
        raise Refusal(422, "the form holds more than the field file; options go in the address")
    raw = await file.read()
    _check_picture(raw, context(request).limits.pixels)
    queries = await run_in_pool(context(request).encoder_pool, _picture_queries, version, raw)
    return await _single(request, version, queries, options)


@router.post("/search/batch", response_model=BatchAnswer, openapi_extra=body_schema(BatchBody))
async def search_batch(
    request: Request,
    version: RequestVersion,
    body: Annotated[BatchBody, Depends(json_body(BatchBody))],
) -> Response:
    """Neighbours of many items, texts or vectors."""
    queries = await _queries(
        request, version, ids=body.ids, texts=body.texts, vectors=body.vectors, itself=False
    )
    return await _many(request, version, queries, body)


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
    request: Request,
    version: RequestVersion,
    options: Annotated[AnswerOptions, Depends(address_options)],
) -> Response:
    """Neighbours of the (q, d) float vectors of an .npy file, the fastest form of many queries."""
    vectors = _read_npy(await request.body())
    _check_count(request, len(vectors))
    return await _many(
        request, version, version.snapshot.vector_queries(_vectors(version, vectors)), options
    )


async def _queries(
    request: Request,
    version: ServedVersion,
    *,
    ids: Sequence[int | str] | None,
    texts: list[str] | None,
    vectors: list[list[float]] | None,
    itself: bool,
) -> Queries:
    """The queries of a body: vectors are checked, texts are embedded."""
    _check_count(request, len(ids or texts or vectors or ()))
    if ids is not None:
        numbers = await run_in_pool(context(request).table_pool, _numbers, version, ids)
        return version.snapshot.item_queries(numbers, itself=itself)
    if texts is not None:
        if max(map(len, texts)) > context(request).limits.text:
            raise Refusal(422, f"a text is longer than {context(request).limits.text} characters")
        queries: Queries = await run_in_pool(
            context(request).encoder_pool, _text_queries, version, texts
        )
        return queries
    assert vectors is not None
    if len({len(vector) for vector in vectors}) != 1:
        raise Refusal(422, "the vectors differ in length")
    return version.snapshot.vector_queries(_vectors(version, np.array(vectors, np.float64)))


async def _single(
    request: Request, version: ServedVersion, queries: Queries, options: AnswerOptions
) -> Response:
    search_options, rejection = _search_options(request, options, 1), _rejection(version, options)
    answers = await context(request).batcher.search(version.snapshot, queries, search_options)
    query = None if queries.rows is None else item_model(version, int(queries.rows[0]))
    neighbours = [
        Neighbour.model_construct(**item_fields(version, row), rank=rank + 1, distance=distance)
        for rank, (row, distance) in enumerate(
            zip(answers.rows[0].tolist(), answers.distances[0].tolist(), strict=True)
        )
        if row >= 0
    ]
    return json_response(
        SearchAnswer.model_construct(
            **version.stamp,
            left_out=queries.omissions.lines(),
            query=query,
            neighbours=neighbours,
            limit=rejection and rejection.limit,
            unknown=bool(answers.unknown(rejection.limit)[0]) if rejection else None,
            explain=_explanation(answers, options),
        )
    )


async def _many(
    request: Request, version: ServedVersion, queries: Queries, options: AnswerOptions
) -> Response:
    search_options = _search_options(request, options, len(queries))
    rejection = _rejection(version, options)
    answers = await context(request).batcher.search(version.snapshot, queries, search_options)
    exists = answers.rows >= 0
    # Rows that do not exist are -1; whatever stands for them is cut below.
    flat = version.snapshot.catalogue.ids_at(np.maximum(answers.rows, 0).ravel())
    ids = flat.to_numpy(zero_copy_only=False).reshape(answers.rows.shape).tolist()
    distances = answers.distances.tolist()
    if not exists.all():
        lengths = exists.sum(axis=1).tolist()
        ids = [row[:n] for row, n in zip(ids, lengths, strict=True)]
        distances = [row[:n] for row, n in zip(distances, lengths, strict=True)]
    return json_response(
        BatchAnswer.model_construct(
            **version.stamp,
            left_out=queries.omissions.lines(),
            ids=ids,
            distances=distances,
            limit=rejection and rejection.limit,
            unknown=answers.unknown(rejection.limit).tolist() if rejection else None,
            explain=_explanation(answers, options),
        )
    )


def _numbers(version: ServedVersion, ids: Sequence[int | str]) -> Int64:
    """The numbers (q,) of items by id; refuses ids of another kind than the items'."""
    noun = "integers" if version.snapshot.catalogue.keys is None else "texts"
    if isinstance(ids[0], int) != (noun == "integers"):
        raise Refusal(422, f"the ids of these items are {noun}", ["id"])
    return version.snapshot.numbers(ids)


def _search_options(request: Request, options: AnswerOptions, count: int) -> SearchOptions:
    """The options for `count` queries; refuses more than the limits allow."""
    limits = context(request).limits
    if options.k > limits.k:
        raise Refusal(422, f"k is at most {limits.k} here", ["k"])
    if options.k * count > limits.answers:
        raise Refusal(422, f"queries times k is at most {limits.answers} here", ["k"])
    return SearchOptions(
        k=options.k,
        recall=options.recall,
        item_filter=Filter(
            labels=tuple(options.labels), splits=tuple(options.splits), groups=tuple(options.groups)
        ),
        distinct=options.distinct,
        explain=options.explain,
    )


def _rejection(version: ServedVersion, options: AnswerOptions) -> Rejection | None:
    """The limit that the request asks for; refuses a rate for which the version has none."""
    return None if options.reject is None else Rejection.of(version.record, options.reject)


def _explanation(answers: Answers, options: AnswerOptions) -> SearchReport | None:
    return answers.explanation if options.explain else None


def _check_count(request: Request, count: int) -> None:
    if count > context(request).limits.batch:
        raise Refusal(422, f"at most {context(request).limits.batch} queries per request here")


def _vectors(version: ServedVersion, vectors: np.ndarray) -> Float32:
    """Scale vectors (q, d) to length 1; refuses another d and numbers outside float32."""
    d = version.snapshot.searcher.card.dimensions
    if vectors.shape[1] != d:
        raise Refusal(422, f"vectors of {vectors.shape[1]} numbers; the index has {d}", ["vector"])
    maximum = np.finfo(np.float32).max
    if not (np.isfinite(vectors) & (np.abs(vectors) <= maximum)).all():
        raise Refusal(422, "a number is not finite, or too large for 32 bits", ["vector"])
    narrow_vectors: Any = vectors.astype(np.float32)
    return unit(vector_transform(narrow_vectors, lambda row: f"vector {row}"))


def _text_queries(version: ServedVersion, texts: list[str]) -> Queries:
    return version.snapshot.text_queries(texts, lambda row: f"text {row}")


def _picture_queries(version: ServedVersion, raw: bytes) -> Queries:
    return version.snapshot.picture_queries([raw], lambda _row: "file")


def _check_picture(raw: bytes, max_pixels: int) -> None:
    """Refuse a file that is not a picture, and a picture that is too large, before decoding it."""
    try:
        with Image.open(io.BytesIO(raw), formats=formats()) as image:
            pixels = image.width * image.height
            if pixels <= max_pixels:
                image.load()
    except Exception:  # noqa: BLE001 - decoders raise all kinds of errors on broken files
        raise Refusal(422, "not a readable picture", ["file"]) from None
    if pixels > max_pixels:
        raise Refusal(422, f"the picture has {pixels} pixels; at most {max_pixels} here", ["file"])


def _read_npy(raw: bytes) -> np.ndarray:
    """The (q, d) floats of an .npy file, whose header is checked against its length first."""
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(file)
    except Exception:  # noqa: BLE001 - numpy parses the header as Python, which raises all kinds of errors
        raise Refusal(422, "the body is not an .npy file") from None
    byte_count = len(raw) - file.tell()
    if len(shape) != 2 or min(shape) < 1 or is_fortran or dtype.str not in ("<f4", "<f8"):
        raise Refusal(422, "the .npy file must hold (q, d) little-endian floats in row order")
    if shape[0] * shape[1] * dtype.itemsize != byte_count:
        raise Refusal(422, "the .npy file is not as long as its header says")
    return np.frombuffer(raw, dtype, offset=file.tell()).reshape(shape)
