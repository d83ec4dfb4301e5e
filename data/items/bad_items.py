"""Items that cannot be read: all of them are listed, and set aside if the settings say so."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from remine.data.errors import InputError
from remine.data.items.inputs import Transform
from remine.data.sources.source import Source
from remine.data.types import Float32, Int64

LISTED = 5
"""Bad items that are named in a line; all are counted."""


class BadItems:
    """A transform that notes the items it cannot read, where the one within stops at the first.

    The input of such an item is zeros; nothing is stored before `reasons` was looked at.

    Attributes:
        transform: The transform within.
        reasons: Why an item cannot be read, by the name of its row.
    """

    def __init__(self, transform: Transform) -> None:
        """Wrap a transform."""
        self.transform = transform
        self.reasons: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        """What the transform within has: the counts of what it left out, for example."""
        return getattr(self.transform, name)

    def __call__(self, contents: Sequence[Any], row_name: Callable[[int], str]) -> np.ndarray:
        """The inputs of contents.

        Raises:
            InputError: None of them can be read.
        """
        try:
            return self.transform(contents, row_name)
        except InputError as error:
            return self._row_by_row(contents, row_name, error)

    def _row_by_row(
        self, contents: Sequence[Any], row_name: Callable[[int], str], error: InputError
    ) -> np.ndarray:
        blocks: dict[int, np.ndarray] = {}
        for row in range(len(contents)):
            name = row_name(row)
            try:
                blocks[row] = self.transform(contents[row : row + 1], {0: name}.__getitem__)
            except InputError as fault:
                self.reasons[name] = str(fault)
        if not blocks:
            raise error
        largest = max(blocks.values(), key=lambda block: block.shape)
        inputs = np.zeros((len(contents), *largest.shape[1:]), largest.dtype)
        for row, block in blocks.items():
            part: Any = (row, *map(slice, block.shape[1:]))  # texts may be of several lengths
            inputs[part] = block[0]
        return inputs

    def refusal(self, total: int) -> InputError:
        """The error about the bad items of `total`."""
        if len(self.reasons) == 1:
            return InputError(next(iter(self.reasons.values())))
        return InputError(f'{self.line(total)} (mend them, or set data.bad = "skip")')

    def line(self, total: int) -> str:
        """A line that counts the bad items of `total` and names the first."""
        reasons = list(self.reasons.values())
        more = f"; and {len(reasons) - LISTED:,} more" if len(reasons) > LISTED else ""
        return f"{len(reasons):,} of {total:,} items are bad: {'; '.join(reasons[:LISTED])}{more}"


class SkippingSource:
    """A source without the rows that cannot be read."""

    def __init__(self, source: Source, names: set[str]) -> None:
        """names: Of the rows that are left out."""
        self.source: Any = source
        self.content, self.root, self.notes = source.content, source.root, source.notes
        self.lacks_ids = source.lacks_ids
        n = len(source.metadata())
        is_good = [source.row_name(row) not in names for row in range(n)]
        self.rows: Int64 = np.flatnonzero(is_good)

    def fingerprint(self) -> object:
        """The fingerprint of the whole source."""
        fingerprint: object = self.source.fingerprint()
        return fingerprint

    def row_name(self, row: int) -> str:
        """The name of the row in the whole source."""
        return str(self.source.row_name(int(self.rows[row])))

    def metadata(self) -> pa.Table:
        """The metadata of the remaining rows."""
        table: pa.Table = self.source.metadata()
        return table.take(self.rows)

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents of the remaining rows, `rows` or fewer at a time."""
        start = 0
        is_good = np.zeros(len(self.source.metadata()), bool)
        is_good[self.rows] = True
        for block in self.source.blocks(rows):
            places = np.flatnonzero(is_good[start : start + len(block)])
            start += len(block)
            if len(places):
                yield _chosen(block, places)

    def ordered_blocks(self, order: Int64, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents of the remaining rows in the given order."""
        yield from self.source.ordered_blocks(self.rows[order], rows)


def _chosen(block: Sequence[Any] | np.ndarray, places: Int64) -> Any:
    return block[places] if isinstance(block, np.ndarray) else [block[i] for i in places.tolist()]
