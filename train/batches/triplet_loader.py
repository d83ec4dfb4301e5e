"""Mined triplets from their Parquet shards as shuffled batches of ids.

Row groups are read in random order into a buffer of a few, which is shuffled and cut into batches.
Memory is that of the buffer, and a batch costs one slice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from remine.data.errors import InputError
from remine.data.types import Int64

COLUMNS = ["anchor_id", "positive_id", "negative_id"]
PARTNER = "negative2_id"


@dataclass(frozen=True, kw_only=True)
class TripletLoader:
    """Endless batches from the shards at `paths`, reshuffled every epoch.

    kinds: the kinds of triplets to use. buffer_groups: number of row groups (of 65,536 rows) that
    are shuffled together. partners: also read negative2_id, another item of the negative's class.
    """

    paths: Sequence[Path]
    kinds: Sequence[str]
    batch: int
    seed: int
    buffer_groups: int = 8
    partners: bool = False

    def batches(self, start: int = 0) -> Iterator[Int64]:
        """Yield batches of triplets from batch number `start` on.

        Yields:
            (3, batch) int64 ids of anchors, positives and negatives; with `partners` a fourth row
            of partners, -1 for a negative without one.

        Raises:
            InputError: an epoch does not fill a single batch.

        """
        # Batches before `start` are read and skipped: which rows form a batch depends on the
        # remainders of all buffers before it.
        epoch = earlier_batches = 0
        while True:
            epoch_batches = 0
            for rows in self._buffers(epoch):
                count = rows.shape[1] // self.batch
                first = min(count, max(0, start - earlier_batches - epoch_batches))
                for i in range(first, count):
                    yield rows[:, i * self.batch : (i + 1) * self.batch]
                epoch_batches += count
            if not epoch_batches:
                raise InputError(
                    f"fewer than {self.batch} triplets of kind {' or '.join(self.kinds)} were mined"
                )
            earlier_batches += epoch_batches
            epoch += 1

    def _buffers(self, epoch: int) -> Iterator[Int64]:
        """Yield shuffled buffers of (3, rows) ids; rows that fill no batch join the next buffer."""
        rng = np.random.default_rng([self.seed, epoch])
        groups = row_groups(self.paths)
        rng.shuffle(groups)
        remainder = np.empty((3 + self.partners, 0), np.int64)
        for i in range(0, len(groups), self.buffer_groups):
            blocks = [self._read(*group) for group in groups[i : i + self.buffer_groups]]
            rows = np.concatenate([remainder, *blocks], axis=1)
            rows = rows[:, rng.permutation(rows.shape[1])]
            yield rows
            remainder = rows[:, rows.shape[1] // self.batch * self.batch :]

    def _read(self, file: pq.ParquetFile, group: int) -> Int64:
        """(3, rows) ids of one row group, filtered by kind."""
        names = [*COLUMNS, *([PARTNER] if self.partners else [])]
        if self.partners and PARTNER not in file.schema_arrow.names:
            raise InputError(
                f'the triplets have no {PARTNER}, and train.synthesis = "symmetrical" reflects'
                " pairs of negatives: mine them with mining.second_negative = true"
            )
        table = file.read_row_group(group, columns=[*names, "kind"])
        kinds = table["kind"].combine_chunks()
        is_selected = pc.is_in(kinds.cast(pa.string()), pa.array(list(self.kinds)))
        # Filtering copies the table; usually all rows are of the selected kinds.
        if not pc.all(is_selected).as_py():
            table = table.filter(is_selected)
        return np.stack([pc.fill_null(table[name], -1).to_numpy() for name in names])


def count_triplets(paths: Sequence[Path], kinds: Sequence[str]) -> int:
    """The number of triplets of `kinds` in the shards at `paths`."""
    columns = (pq.read_table(path, columns=["kind"])["kind"] for path in paths)
    wanted_kinds = pa.array(list(kinds))
    return sum(
        pc.sum(pc.is_in(column.cast(pa.string()), wanted_kinds)).as_py() or 0 for column in columns
    )


def row_groups(paths: Sequence[Path]) -> list[tuple[pq.ParquetFile, int]]:
    """All row groups of the Parquet files, as (file, number)."""
    files = [pq.ParquetFile(path) for path in paths]
    return [(file, number) for file in files for number in range(file.metadata.num_row_groups)]
