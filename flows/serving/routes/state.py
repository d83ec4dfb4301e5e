"""/index, /versions, /health and /metrics: what is served, and how it fares."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from remine.data.store.pins import pinned_version
from remine.flows.serving.context import FAULTS, answer, context, served
from remine.flows.serving.counters import CONTENT_TYPE
from remine.flows.serving.holder import Served
from remine.flows.serving.models import CurvePoint, Health, IndexAnswer, VersionRow, VersionsAnswer

SHOWN = 200
router = APIRouter(tags=["state"], responses=FAULTS)
Taken = Annotated[Served, Depends(served)]


@router.get("/index", response_model=IndexAnswer)
def index(taken: Taken) -> Response:
    """The served index: its card, its recall over its settings, what made it."""
    card, artifact = taken.snapshot.searcher.card, taken.version.artifacts["index"]
    plain = {k: v for k, v in card.to_json().items() if k != "curve"}
    return answer(
        IndexAnswer(
            version=taken.version.number,
            index=taken.index,
            **plain,
            curve=[CurvePoint(**point.to_json()) for point in card.curve],
            content=taken.snapshot.content,
            bytes=artifact.files[0].bytes,
            checkpoint=artifact.card["checkpoint"],
            embeddings=artifact.card["embeddings"],
            cycle=taken.version.cycle,
            round=taken.version.round,
        )
    )


@router.get("/versions", response_model=VersionsAnswer)
def versions(request: Request, taken: Taken) -> Response:
    """The newest 200 published versions."""
    store = context(request).holder.store
    found = []
    for version in store.versions():
        artifact = version.artifacts["index"]
        found.append(
            VersionRow(
                version=version.number,
                cycle=version.cycle,
                round=version.round,
                rounds=version.rounds,
                factory=artifact.card["factory"],
                items=artifact.card["items"],
                recall=artifact.card["recall"],
                bytes=artifact.files[0].bytes,
                checkpoint=artifact.card["checkpoint"],
            )
        )
        if len(found) == SHOWN:
            break
    return answer(
        VersionsAnswer(served=taken.version.number, pinned=pinned_version(store), versions=found)
    )


@router.get("/health", response_model=Health)
def health(request: Request, taken: Taken) -> Response:
    """Whether all is well."""
    fault = context(request).holder.fault
    return answer(
        Health(
            status="degraded" if fault else "ok",
            version=taken.version.number,
            detail="a newer version could not be opened; see the server's log" if fault else "",
        )
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Counts for Prometheus."""
    return Response(context(request).counters.text(), media_type=CONTENT_TYPE)
