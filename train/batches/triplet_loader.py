"""Streams mined triplets from their Parquet shards as shuffled batches of ids.

Row groups are read in a random order into a buffer of a few, the buffer is shuffled and handed out.
Memory is the buffer; a batch costs a slice. Batch number b is the same whatever was read before.
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
    """Batches from the shards at `paths`, for ever, reshuffled every epoch.

    kinds: the kinds to use. buffer_groups: row groups (of 65,536 rows) shuffled together.
    partners: read negative2_id, another item of the negative's class, as a fourth row.
    """

    paths: Sequence[Path]
    kinds: Sequence[str]
    batch: int
    seed: int
    buffer_groups: int = 8
    partners: bool = False

    def batches(self, start: int = 0) -> Iterator[Int64]:
        """(3, batch) int64 ids of anchors, positives, negatives, from batch number `start` on.

        With `partners` a fourth row, -1 where a negative has none.
        """
        epoch = skipped = 0
        while True:
            handed = 0
            for rows in self._buffers(epoch):
                whole = rows.shape[1] // self.batch
                first = min(whole, max(0, start - skipped - handed))
                for i in range(first, whole):
                    yield rows[:, i * self.batch : (i + 1) * self.batch]
                handed += whole
            if not handed:
                raise InputError(
                    f"fewer than train.batch = {self.batch} triplets of kind"
                    f" {' or '.join(self.kinds)} were mined; a smaller batch, a larger"
                    " mining.margin or more train.kinds would help"
                )
            skipped += handed
            epoch += 1

    def _buffers(self, epoch: int) -> Iterator[Int64]:
        """Shuffled buffers of (3, rows) ids; what does not fill a batch goes on to the next."""
        rng = np.random.default_rng([self.seed, epoch])
        files = [pq.ParquetFile(path) for path in self.paths]
        groups = [(f, g) for f in files for g in range(f.metadata.num_row_groups)]
        rng.shuffle(groups)
        rest = np.empty((3 + self.partners, 0), np.int64)
        for i in range(0, len(groups), self.buffer_groups):
            read = [self._read(*group) for group in groups[i : i + self.buffer_groups]]
            rows = np.concatenate([rest, *read], axis=1)
            rows = rows[:, rng.permutation(rows.shape[1])]
            yield rows
            rest = rows[:, rows.shape[1] // self.batch * self.batch :]

    def _read(self, file: pq.ParquetFile, group: int) -> Int64:
        """One row group as (3, rows) ids, only of the wanted kinds."""
        names = [*COLUMNS, *([PARTNER] if self.partners else [])]
        if self.partners and PARTNER not in file.schema_arrow.names:
            raise InputError(
                f'the triplets have no {PARTNER}, and train.synthesis = "symmetrical" reflects'
                " pairs of negatives: mine them with mining.second_negative = true"
            )
        table = file.read_row_group(group, columns=[*names, "kind"])
        kinds = table["kind"].combine_chunks()
        wanted = pc.is_in(kinds.cast(pa.string()), pa.array(list(self.kinds)))
        if not pc.all(wanted).as_py():
            table = table.filter(wanted)
        return np.stack([pc.fill_null(table[name], -1).to_numpy() for name in names])
