"""The FastAPI application: routes, error handlers and the guard around them."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse, Response

from remine.data.store.store import Store
from remine.flows.serving.batcher import Batcher
from remine.flows.serving.context import Context
from remine.flows.serving.counters import Counters
from remine.flows.serving.guard import Guard
from remine.flows.serving.limits import Limits
from remine.flows.serving.long_tasks import LongTasks
from remine.flows.serving.models import BatchBody, SearchBody
from remine.flows.serving.parameters import check_parameters
from remine.flows.serving.refusals import add_handlers
from remine.flows.serving.routes import items, page, search, state, suspects, triplets
from remine.flows.serving.served_version import Holder

OPEN_PATHS = frozenset({"/health"}) | page.OPEN_PATHS
"""Paths that are answered without the token."""


def make_app(
    store: Store,
    limits: Limits | None = None,
    *,
    hosts: frozenset[str] | None = None,
    every: float = 1.0,
    base: Path = Path(),
) -> FastAPI:
    """Build the app over a store.

    Args:
        store: The store to serve.
        limits: Bounds of requests, and the token; None for the defaults.
        hosts: Host names that a request may use; None for any.
        every: Seconds between checks for a newly served version.
        base: Folder of the configuration file, where a user-defined encoder is looked up.

    Raises:
        InputError: If the store has no published version.
    """
    limits, counters = limits or Limits(), Counters()
    holder = Holder(store, counters, base)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with (
            ThreadPoolExecutor(1, "encoder") as encoder_pool,
            ThreadPoolExecutor(2, "tables") as table_pool,
            LongTasks() as long_tasks,
        ):
            batcher = Batcher(counters)
            app.state.context = Context(
                holder, batcher, counters, limits, encoder_pool, table_pool, long_tasks
            )
            watch = asyncio.create_task(holder.watch(every))
            try:
                yield
            finally:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
                batcher.close()

    # FastAPI's documentation pages are off: they load scripts from another host.
    app = FastAPI(
        title="remine",
        version=package_version("remine"),
        summary="Neighbours, items and mined triplets of the served version.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # FastAPI's own route would ignore unknown parameters
        dependencies=[Depends(check_parameters)],
    )
    app.state.version = holder.current.record.number
    app.state.dimensions = holder.current.snapshot.searcher.card.dimensions
    for routes in (search, items, triplets, suspects, state, page):
        app.include_router(routes.router)
    app.include_router(page.session_router)
    add_handlers(app)
    _describe_bodies(app)
    app.add_middleware(
        Guard, limits=limits, counters=counters, hosts=hosts, open_paths=OPEN_PATHS.__contains__
    )
    return app


def _describe_bodies(app: FastAPI) -> None:
    """Serve the OpenAPI document with the models of bodies, which FastAPI does not parse."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            document = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            for model in (SearchBody, BatchBody):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                document["components"]["schemas"][model.__name__] = schema
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    app.get("/openapi.json", include_in_schema=False)(_openapi_document)


# Not a function inside another: FastAPI keeps handlers for ever, and this one would keep the app.
async def _openapi_document(request: Request) -> Response:
    return JSONResponse(request.app.openapi())
