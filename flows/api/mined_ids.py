"""Text ids of vectors that `remine mine` reads: mining uses their rows, its files have texts."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from remine.data import schemas
from remine.data.sources.keys import Keys

SCHEMA = "triplets/2"
"""As triplets/1, with ids that are texts where those of the vectors are."""


@dataclass(frozen=True, kw_only=True)
class MinedIds:
    """The ids of anchors and of all other items; None where they are integers."""

    anchors: Keys | None
    gallery: Keys | None

    @property
    def has_texts(self) -> bool:
        """Whether any ids are texts."""
        return self.anchors is not None or self.gallery is not None

    def rewrite(self, folder: Path) -> None:
        """Put texts for the rows in all Parquet files of a folder, if any ids are texts."""
        if not self.has_texts:
            return
        for path in sorted(folder.glob("*.parquet")):
            note = schemas.check(path, schema="triplets/1")
            table = self._with_texts(pq.read_table(path, partitioning=None))
            schemas.write(table, path, schema=SCHEMA, provenance=note)

    def _with_texts(self, table: pa.Table) -> pa.Table:
        for place, name in enumerate(table.column_names):
            keys = self.anchors if name == "anchor_id" else self.gallery
            if name.endswith("_id") and keys is not None:
                rows = table[name].combine_chunks()
                table = table.set_column(place, name, keys.take(rows))
        return table
