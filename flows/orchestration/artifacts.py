"""Artifacts of a run in Prefect's pages: its progress, the table of its rounds, its report.

A run has one artifact of each kind; the progress and the table are updated as it goes on.
"""

import json
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.actions import ArtifactUpdate

from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.flows.cycle.round_choice import advice, choice_line
from remine.flows.report.rounds_table import cell_text, column_titles, round_rows

MAX_PERCENT = 99.0
"""Progress until the report is written: the number of stages is an estimate."""

HIDDEN_COLUMNS = ("recall@8", "pairs")
"""Columns that do not fit the width of Prefect's page; the report has them."""


class PrefectArtifacts:
    """The artifacts of the flow run that creates this object."""

    def __init__(self, store: Store) -> None:
        """Create the progress artifact of a run that starts on `store`."""
        self._store = store
        self._progress: Any = create_progress_artifact(
            0.0, "remine-progress", "Share of the cycle's stages that are finished."
        )
        self._table: Any = None

    def show_progress(self, finished_stages: int, total: int) -> None:
        """Show that `finished_stages` of about `total` stages are finished."""
        percent = min(MAX_PERCENT, 100 * finished_stages / total)
        update_progress_artifact(self._progress, percent)

    def show_rounds(self, version: Version) -> None:
        """Create or update the table of rounds up to `version`, and say which one is served."""
        rows = round_rows(version)
        titles = {k: title for k, title in column_titles(rows).items() if k not in HIDDEN_COLUMNS}
        table = [
            {title: cell_text(key, row.get(key)) for key, title in titles.items()} for row in rows
        ]
        description = (
            f"Cycle {version.cycle}, version {version.number}: retrieval among the test items"
            " before each round, what was mined, and how training went."
        )
        if line := choice_line(self._store, version):
            description += f" {line[0].upper()}{line[1:]}. {advice(version)}"
        if self._table is None:
            self._table = create_table_artifact(table, "remine-rounds", description)
            return
        with get_client(sync_client=True) as client:
            update = ArtifactUpdate(data=json.dumps(table), description=description)
            client.update_artifact(self._table, update)

    def show_report(
        self, version: Version, page: Path, config: str | None, overrides: Sequence[str]
    ) -> None:
        """Say where the finished cycle's page is; browsers open no local file from a web page."""
        options = ["--config", config] if config else []
        for override in overrides:
            options += ["--set", override]
        command = shlex.join(["remine", "report", *options])
        create_markdown_artifact(
            key="remine-report",
            description=f"Cycle {version.cycle}, version {version.number}: path of its report.",
            markdown=f"Version {version.number}. On {socket.gethostname()}, open\n\n"
            f"    {page}\n\nTo write it again:\n\n"
            f"    {command} --version {version.number}\n",
        )
        update_progress_artifact(self._progress, 100.0)
