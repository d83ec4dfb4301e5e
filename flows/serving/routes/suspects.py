"""/suspects: labels that are probably wrong."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from remine.data.types import SPLITS
from remine.flows.query.suspects import REASONS, find_suspects
from remine.flows.serving.context import FAULTS, answer, context, item_model, served
from remine.flows.serving.faults import Refusal
from remine.flows.serving.holder import Served
from remine.flows.serving.models import Split, Suspect, SuspectsAnswer
from remine.mining.suspects import SuspectConfig

MOST = 200_000
"""Items; past them it takes minutes and gigabytes, and is work for `remine suspects`."""
router = APIRouter(tags=["triplets"], responses=FAULTS)
Taken = Annotated[Served, Depends(served)]
Reason = Literal["mislabelled", "same_content", "twin"]
NAMES: dict[str, Reason] = dict(zip(REASONS, ("mislabelled", "same_content", "twin"), strict=True))


@router.get("/suspects", response_model=SuspectsAnswer)
def suspects(
    request: Request,
    taken: Taken,
    margin: Annotated[
        float,
        Query(
            ge=0, le=4, allow_inf_nan=False, description="How much nearer another class must be."
        ),
    ] = 0.4,
    reason: Annotated[list[Reason], Query(max_length=3)] = [],  # noqa: B006
    label: Annotated[str | None, Query(max_length=1_000)] = None,
    split: Split | None = None,
    offset: Annotated[int, Query(ge=0, le=10**12)] = 0,
    limit: Annotated[int, Query(ge=0, le=100)] = 20,
) -> Response:
    """A page of suspects, the worst first; `working` until they are found, then kept."""
    if len(taken.snapshot.known.ids) > MOST:
        raise Refusal(422, f"more than {MOST} items: `remine suspects` finds them")
    key = (taken.index, taken.version.artifacts["items"].digest)
    work = context(request).study.ask(key, _finder(taken))
    if work.failed:
        raise Refusal(503, "the search for suspects failed; see the server's log")
    found = work.result
    fits = None if found is None else _fitting(found, margin, reason, label, split)
    page = [] if fits is None else [*fits.iloc[offset : offset + limit].itertuples(index=False)]
    return answer(
        SuspectsAnswer.model_construct(
            version=taken.version.number,
            index=taken.index,
            state="working" if fits is None else "done",
            done=work.done,
            items=len(taken.snapshot.known.ids),
            total=0 if fits is None else len(fits),
            counts={} if fits is None else _counts(fits),
            suspects=[_suspect(taken, row) for row in page],
        )
    )


def _finder(taken: Served) -> Callable[[Callable[[int, int], None]], pd.DataFrame]:
    # With margin 0 once: what a larger one leaves is chosen from it.
    return lambda told: find_suspects(taken.snapshot, SuspectConfig(margin=0.0), told).suspects


def _fitting(
    found: pd.DataFrame, margin: float, reasons: list[Reason], label: str | None, split: str | None
) -> pd.DataFrame:
    """The suspects that fit, in their order."""
    fits = (found["reason"] != REASONS[0]) | (found["score"] > margin)
    if reasons:
        fits &= found["reason"].map(NAMES).isin(reasons)
    if label is not None:
        fits &= (found["label"] == label) | (found["suspected_label"] == label)
    if split is not None:
        assert split in SPLITS
        fits &= found["split"] == split
    return found[fits]


def _counts(fits: pd.DataFrame) -> dict[str, int]:
    counts = fits["reason"].map(NAMES).value_counts()
    return {name: int(counts.get(name, 0)) for name in NAMES.values()}


def _suspect(taken: Served, row: Any) -> Suspect:
    other = None if row.other_id is pd.NA else int(row.other_id)
    return Suspect.model_construct(
        item=item_model(taken, _row(taken, row.id)),
        suspected_label=row.suspected_label,
        reason=NAMES[row.reason],
        score=None if np.isnan(row.score) else float(row.score),
        other=None if other is None else item_model(taken, _row(taken, other)),
        distance=None if np.isnan(row.distance) else float(row.distance),
    )


def _row(taken: Served, item: int) -> int:
    return int(np.searchsorted(taken.snapshot.known.ids, item))
