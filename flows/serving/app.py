"""The app: routes, refusals and the guard around them."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from remine.data.store.store import Store
from remine.flows.serving.batcher import Batcher
from remine.flows.serving.context import Context
from remine.flows.serving.counters import Counters
from remine.flows.serving.faults import add_handlers
from remine.flows.serving.guard import Guard
from remine.flows.serving.holder import Holder
from remine.flows.serving.limits import Limits
from remine.flows.serving.models import BatchBody, SearchBody
from remine.flows.serving.routes import items, page, search, state, suspects, triplets
from remine.flows.serving.study import Study

OPEN = frozenset({"/health"}) | page.OPEN
"""What answers without the token."""


def make_app(
    store: Store,
    limits: Limits | None = None,
    *,
    hosts: frozenset[str] | None = None,
    every: float = 1.0,
    base: Path = Path(),
) -> FastAPI:
    """The app over a store.

    hosts: the names it answers to. every: seconds between looks for another version. base: the
    folder of the config, where an encoder of the user's own lies.
    """
    limits, counters = limits or Limits(), Counters()
    holder = Holder(store, counters, base)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with (
            ThreadPoolExecutor(1, "encode") as encode,
            ThreadPoolExecutor(2, "tables") as tables,
            Study() as study,
        ):
            batcher = Batcher(counters)
            app.state.context = Context(holder, batcher, counters, limits, encode, tables, study)
            watch = asyncio.create_task(holder.watch(every))
            try:
                yield
            finally:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
                batcher.close()

    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="remine",
        version=package_version("remine"),
        summary="Neighbours, items and mined triplets of the served version.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.version = holder.current.version.number
    app.state.dimensions = holder.current.snapshot.searcher.card.dimensions
    for routes in (
        search,
        items,
        triplets,
        suspects,
        state,
        page,
    ):
        app.include_router(routes.router)
    app.include_router(page.signing)
    add_handlers(app)
    _document(app)
    app.add_middleware(
        Guard, limits=limits, counters=counters, hosts=hosts, open_paths=OPEN.__contains__
    )
    return app


def _document(app: FastAPI) -> None:
    """Name the bodies in the OpenAPI document, which we read ourselves."""

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
