"""What routes share: the served version of a request, bodies, answers, items as models."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from remine.data.items.lookup import PICTURES
from remine.data.types import SPLITS
from remine.flows.serving.batcher import Batcher
from remine.flows.serving.counters import Counters
from remine.flows.serving.faults import Refusal, fields_of
from remine.flows.serving.holder import Holder, Served
from remine.flows.serving.limits import Limits
from remine.flows.serving.models import Fault, Item, OfVersion
from remine.flows.serving.study import Study

Model = TypeVar("Model", bound=BaseModel)

FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": said}
    for status, said in (
        (400, "Not HTTP as it should be"),
        (401, "The token is missing or wrong"),
        (404, "No such item, round or page"),
        (413, "The body is too large"),
        (422, "The request does not fit"),
        (429, "Too many requests at a time"),
        (503, "Given up, or a stored file cannot be read"),
    )
}


@dataclass(frozen=True)
class Context:
    """All that requests share. encode: one thread for the model. tables: two for DuckDB.

    study: long work, one piece at a time.
    """

    holder: Holder
    batcher: Batcher
    counters: Counters
    limits: Limits
    encode: ThreadPoolExecutor
    tables: ThreadPoolExecutor
    study: Study


def context(request: Request) -> Context:
    """What requests share."""
    found: Context = request.app.state.context
    return found


async def served(request: Request) -> Served:
    """The version of this request: taken once, used for all of it."""
    return context(request).holder.current


def body_of(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that reads the body as JSON, once, in compiled code."""

    async def read(request: Request) -> Model:
        kind = request.headers.get("content-type", "application/json").partition(";")[0]
        if kind.strip().lower() != "application/json":
            raise Refusal(415, "the body must be application/json")
        try:
            return model.model_validate_json(await request.body())
        except ValidationError as error:
            given = error.errors(include_url=False, include_context=False, include_input=False)
            raise Refusal(422, "the request does not fit", fields_of(given)) from None

    return read


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """For OpenAPI: the body that `body_of` reads."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answer(model: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """A model as JSON, without a second look at it."""
    whole = dict(headers or {})
    if isinstance(model, OfVersion):
        whole["x-remine-version"] = str(model.version)
    return Response(model.model_dump_json(), 200, whole, "application/json")


async def in_pool(pool: ThreadPoolExecutor, work: Callable[..., Any], *args: Any) -> Any:
    """Run `work` in a thread of `pool`."""
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def item_at(taken: Served, row: int) -> dict[str, Any]:
    """The fields of an `Item` at a row."""
    snapshot = taken.snapshot
    number = int(snapshot.known.ids[row])
    return {
        "id": number,
        "label": snapshot.label_of(row),
        "split": SPLITS[snapshot.known.splits[row]],
        "group": snapshot.group_of(row),
        "text": snapshot.texts[row] if snapshot.content == "text" else None,
        "thumbnail": f"items/{number}/thumbnail" if snapshot.content in PICTURES else None,
    }


def item_model(taken: Served, row: int) -> Item:
    """The item at a row."""
    return Item.model_construct(**item_at(taken, row))
