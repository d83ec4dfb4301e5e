"""/suspects: items that are probably mislabelled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from remine.data.types import SPLITS, Split
from remine.flows.query.label_judge import LabelJudge
from remine.flows.query.suspects import REASONS, find_suspects
from remine.flows.serving.context import (
    ERROR_RESPONSES,
    RequestVersion,
    context,
    item_model,
    json_response,
)
from remine.flows.serving.long_tasks import Progress
from remine.flows.serving.models import Judge, Suspect, SuspectsAnswer
from remine.flows.serving.refusals import Refusal
from remine.flows.serving.served_version import ServedVersion
from remine.mining.suspects import SuspectConfig

MAX_ITEMS = 200_000
"""More items take minutes and gigabytes: a task for `remine suspects`."""
router = APIRouter(tags=["triplets"], responses=ERROR_RESPONSES)
Reason = Literal["mislabelled", "same_content", "twin"]
NAMES: dict[str, Reason] = dict(zip(REASONS, ("mislabelled", "same_content", "twin"), strict=True))


@router.get("/suspects", response_model=SuspectsAnswer)
def suspects(
    request: Request,
    version: RequestVersion,
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
    """A page of suspects, the worst first; the state is `working` until the search is done."""
    if len(version.snapshot.catalogue.ids) > MAX_ITEMS:
        raise Refusal(422, f"more than {MAX_ITEMS} items: use `remine suspects`")
    key = (version.index_digest, version.record.artifacts["items"].digest)
    task = context(request).long_tasks.get(key, _finder(version))
    if task.has_failed:
        raise Refusal(503, "the search for suspects failed; see the server's log")
    rows = None
    if task.result is not None:
        rows = _select(task.result.suspects, margin, reason, label, split)
    page = [] if rows is None else [*rows.iloc[offset : offset + limit].itertuples(index=False)]
    return json_response(
        SuspectsAnswer.model_construct(
            **version.stamp,
            state="working" if rows is None else "done",
            done=task.steps_finished,
            items=len(version.snapshot.catalogue.ids),
            total=0 if rows is None else len(rows),
            judge=None if rows is None else Judge(**task.result.judge.to_json()),
            counts={} if rows is None else _count_by_reason(rows),
            suspects=[_suspect(version, row) for row in page],
        )
    )


@dataclass(frozen=True)
class _Result:
    """What is retained of a search: without the neighbours, which take most of the memory."""

    suspects: pd.DataFrame
    judge: LabelJudge


def _finder(version: ServedVersion) -> Callable[[Progress], _Result]:
    # With margin 0: the suspects of any larger margin are among these.
    config = SuspectConfig(margin=0.0)

    def result(progress: Progress) -> _Result:
        report = find_suspects(version.snapshot, config, progress)
        return _Result(report.suspects, report.judge)

    return result


def _select(
    suspects: pd.DataFrame,
    margin: float,
    reasons: list[Reason],
    label: str | None,
    split: str | None,
) -> pd.DataFrame:
    """The suspects that pass all filters, in their order."""
    mask = (suspects["reason"] != REASONS[0]) | (suspects["score"] > margin)
    if reasons:
        mask &= suspects["reason"].map(NAMES).isin(reasons)
    if label is not None:
        mask &= (suspects["label"] == label) | (suspects["suspected_label"] == label)
    if split is not None:
        assert split in SPLITS
        mask &= suspects["split"] == split
    return suspects[mask]


def _count_by_reason(rows: pd.DataFrame) -> dict[str, int]:
    counts = rows["reason"].map(NAMES).value_counts()
    return {name: int(counts.get(name, 0)) for name in NAMES.values()}


def _suspect(version: ServedVersion, row: Any) -> Suspect:
    twin = None if pd.isna(row.other_id) else row.other_id
    return Suspect.model_construct(
        item=item_model(version, _row(version, row.id)),
        suspected_label=row.suspected_label,
        reason=NAMES[row.reason],
        score=None if np.isnan(row.score) else float(row.score),
        other=None if twin is None else item_model(version, _row(version, twin)),
        distance=None if np.isnan(row.distance) else float(row.distance),
    )


def _row(version: ServedVersion, item: int | str) -> int:
    return int(version.snapshot.catalogue.rows_of_ids([item])[0])
