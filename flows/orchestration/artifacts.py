"""What a run leaves in Prefect's pages: its progress, the table of its rounds, where its report is.

A run has one artifact of each kind; the progress and the table grow with it.
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
from remine.flows.report.rounds_table import columns_of, round_rows, text_of

NEARLY = 99.0
"""Percent at most, until the report is written: how many stages there are is an estimate."""
WIDE = ("recall@8", "pairs")
"""Columns that would push others out of Prefect's page; the report has them."""


class Artifacts:
    """Those of one run."""

    def __init__(self) -> None:
        """Show a run that begins."""
        self._progress: Any = create_progress_artifact(
            0.0, "remine-progress", "How many of the cycle's stages are done."
        )
        self._table: Any = None

    def progress(self, done: int, total: int) -> None:
        """`done` of about `total` stages are done."""
        update_progress_artifact(self._progress, min(NEARLY, 100 * done / total))

    def rounds(self, version: Version) -> None:
        """The table round by round, up to `version`."""
        rows = round_rows(version)
        columns = {key: name for key, name in columns_of(rows).items() if key not in WIDE}
        table = [
            {name: text_of(key, row.get(key)) for key, name in columns.items()} for row in rows
        ]
        said = (
            f"Cycle {version.cycle}, version {version.number}: retrieval among the test items"
            " before each round, what was mined and how it trained."
        )
        if self._table is None:
            self._table = create_table_artifact(table, "remine-rounds", said)
            return
        with get_client(sync_client=True) as client:
            update = ArtifactUpdate(data=json.dumps(table), description=said)
            client.update_artifact(self._table, update)

    def report(
        self, version: Version, page: Path, config: str | None, overrides: Sequence[str]
    ) -> None:
        """Where the finished cycle's page lies: browsers open no file from a page of a server."""
        named = ["--config", config] if config else []
        for one in overrides:
            named += ["--set", one]
        create_markdown_artifact(
            key="remine-report",
            description=f"Cycle {version.cycle}, version {version.number}: where its report is.",
            markdown=f"Version {version.number}. On {socket.gethostname()}, open\n\n"
            f"    {page}\n\nand to write it again:\n\n"
            f"    {shlex.join(['remine', 'report', *named])} --version {version.number}\n",
        )
        update_progress_artifact(self._progress, 100.0)
