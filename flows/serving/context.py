"""What route handlers share: the version of a request, JSON bodies, responses, items as models."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from remine.data.errors import InputError
from remine.data.items.inputs import PICTURES
from remine.data.types import SPLITS
from remine.flows.serving.batcher import Batcher
from remine.flows.serving.counters import Counters
from remine.flows.serving.limits import Limits
from remine.flows.serving.long_tasks import LongTasks
from remine.flows.serving.models import Fault, Item, VersionedAnswer
from remine.flows.serving.refusals import Refusal, field_errors
from remine.flows.serving.served_version import Holder, ServedVersion

Model = TypeVar("Model", bound=BaseModel)

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": description}
    for status, description in (
        (400, "The request is not valid HTTP"),
        (401, "The token is missing or wrong"),
        (404, "No such item, round or page"),
        (413, "The body is too large"),
        (422, "The request does not fit"),
        (429, "Too many requests at a time"),
        (503, "The request timed out, or a stored file cannot be read"),
    )
}


@dataclass(frozen=True)
class Context:
    """What all requests share.

    Attributes:
        holder: The served version.
        batcher: The searches of the index.
        counters: Metrics.
        limits: Bounds of requests.
        encoder_pool: One thread for the encoder.
        table_pool: Two threads for DuckDB.
        long_tasks: Work that outlives a request.
    """

    holder: Holder
    batcher: Batcher
    counters: Counters
    limits: Limits
    encoder_pool: ThreadPoolExecutor
    table_pool: ThreadPoolExecutor
    long_tasks: LongTasks


def context(request: Request) -> Context:
    """What all requests share."""
    app_context: Context = request.app.state.context
    return app_context


async def current_version(request: Request) -> ServedVersion:
    """The version that is served when the request arrives; FastAPI asks once per request."""
    return context(request).holder.current


RequestVersion = Annotated[ServedVersion, Depends(current_version)]
"""A handler's parameter: the one version that answers the whole request."""


def json_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that parses and validates the body in one step, in compiled code."""

    async def read(request: Request) -> Model:
        media_type = request.headers.get("content-type", "application/json").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            raise Refusal(415, "the body must be application/json")
        try:
            return model.model_validate_json(await request.body())
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False, include_input=False)
            raise Refusal(422, "the request does not fit", field_errors(errors)) from None

    return read


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a body that `json_body` reads, which FastAPI cannot see."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    # app.py adds the definitions to the components of the document.
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def json_response(model: BaseModel) -> Response:
    """A model as a JSON response, without FastAPI's second validation."""
    headers = {}
    if isinstance(model, VersionedAnswer):
        headers["x-remine-version"] = str(model.version)
    return Response(model.model_dump_json(), 200, headers, "application/json")


async def run_in_pool(pool: ThreadPoolExecutor, work: Callable[..., Any], *args: Any) -> Any:
    """Run `work` in a thread of `pool`."""
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def read_id(version: ServedVersion, text: int | str, name: str) -> int | str:
    """An id in an address, where a number is a text, too.

    Raises:
        Refusal: The items' ids are integers, and it is none.
    """
    try:
        return version.snapshot.catalogue.typed_id(str(text))
    except InputError:
        raise Refusal(422, f"{name}: ids are whole numbers, 0 to 2^63 - 1", [name]) from None


def thumbnail_address(version: ServedVersion, row: int) -> str:
    """The relative URL of a thumbnail; the path of a URL cannot hold every text."""
    item_id = version.snapshot.catalogue.id_at(row)
    if isinstance(item_id, int):
        return f"items/{item_id}/thumbnail"
    return f"thumbnail?id={quote(item_id, safe='')}"


def item_fields(version: ServedVersion, row: int) -> dict[str, Any]:
    """The fields of an `Item`: the item at `row`."""
    snapshot = version.snapshot
    return {
        "id": snapshot.catalogue.id_at(row),
        "label": snapshot.label_of(row),
        "split": SPLITS[snapshot.catalogue.splits[row]],
        "group": snapshot.group_of(row),
        "text": snapshot.texts[row] if snapshot.content == "text" else None,
        "path": _path(version, row),
        "extra": snapshot.item_contents.extra_fields(row),
        "thumbnail": thumbnail_address(version, row) if snapshot.content in PICTURES else None,
    }


def _path(version: ServedVersion, row: int) -> str | None:
    contents = version.snapshot.item_contents
    return contents.at(np.array([row]))[0].as_py() if contents.name == "path" else None


def item_model(version: ServedVersion, row: int) -> Item:
    """The item at `row`."""
    return Item.model_construct(**item_fields(version, row))
