"""/index, /versions, /health and /metrics: the served version and the state of the server."""

import dataclasses

from fastapi import APIRouter, Request
from starlette.responses import Response

from remine.data.store.pins import pinned_version
from remine.flows.serving.context import ERROR_RESPONSES, RequestVersion, context, json_response
from remine.flows.serving.counters import CONTENT_TYPE
from remine.flows.serving.models import Health, IndexAnswer, VersionRow, VersionsAnswer

MAX_VERSIONS = 200
router = APIRouter(tags=["state"], responses=ERROR_RESPONSES)


@router.get("/index", response_model=IndexAnswer)
def index(version: RequestVersion) -> Response:
    """The served index: its card, its recall by setting, and the artifacts it was built from."""
    card, artifact = version.snapshot.searcher.card, version.record.artifacts["index"]
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    return json_response(
        IndexAnswer(
            **version.stamp,
            **fields,
            content=version.snapshot.content,
            ids="integers" if version.snapshot.catalogue.keys is None else "texts",
            bytes=artifact.files[0].bytes,
            checkpoint=artifact.card["checkpoint"],
            embeddings=artifact.card["embeddings"],
            cycle=version.record.cycle,
            round=version.record.round,
        )
    )


@router.get("/versions", response_model=VersionsAnswer)
def versions(request: Request, version: RequestVersion) -> Response:
    """The newest 200 published versions."""
    store = context(request).holder.store
    rows = []
    for record in store.versions():
        artifact = record.artifacts["index"]
        rows.append(
            VersionRow(
                version=record.number,
                cycle=record.cycle,
                round=record.round,
                rounds=record.rounds,
                factory=artifact.card["factory"],
                items=artifact.card["items"],
                recall=artifact.card["recall"],
                bytes=artifact.files[0].bytes,
                checkpoint=artifact.card["checkpoint"],
            )
        )
        if len(rows) == MAX_VERSIONS:
            break
    return json_response(
        VersionsAnswer(served=version.record.number, pinned=pinned_version(store), versions=rows)
    )


@router.get("/health", response_model=Health)
def health(request: Request, version: RequestVersion) -> Response:
    """ok, or degraded while a newer version cannot be opened."""
    fault = context(request).holder.fault
    return json_response(
        Health(
            status="degraded" if fault else "ok",
            version=version.record.number,
            detail="a newer version could not be opened; see the server's log" if fault else "",
        )
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Metrics in the text format of Prometheus."""
    return Response(context(request).counters.text(), media_type=CONTENT_TYPE)
