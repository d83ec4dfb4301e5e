"""Items that are of no class that is searched for: marked by their split, or by a label.

Such items (out of scope, as in CLINC150) are kept to measure how well a search rejects what it does
not know. They are never trained on, never found, and no class of theirs is one of train, val or
test.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from remine.data.errors import InputError
from remine.data.items.catalogue import UNKNOWN
from remine.data.sources.labels import clean_label
from remine.data.types import SPLITS, Int8, Int32

LABEL = "unknown"
"""The label of an item of the split unknown that has none of its own."""


def with_unknown_label(labels: pa.ChunkedArray, splits: pa.ChunkedArray | None) -> pa.ChunkedArray:
    """The column of labels with LABEL where an item of the split unknown has none."""
    if splits is None:
        return labels
    is_unknown = pc.fill_null(pc.equal(splits, SPLITS[UNKNOWN]), False)
    return pc.if_else(is_unknown, pc.fill_null(labels, LABEL), labels)


def unknown_rows(labels: Sequence[str], codes: Int32, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether the label of each item (n,) is one of `names`, the setting data.unknown_labels.

    Raises:
        InputError: No item has one of the labels.
    """
    places = {label: code for code, label in enumerate(labels)}
    for name in names:
        if clean_label(name) not in places:
            raise InputError(f"data.unknown_labels: no item has the label {name!r}")
    return np.isin(codes, [places[clean_label(name)] for name in names])


def check_unknown(
    labels: Sequence[str], codes: Int32, splits: Int8, row_name: Callable[[int], str]
) -> None:
    """Refuse an unknown item whose label is also that of an item of another split.

    Raises:
        InputError: There is such an item: its class would be both known and unknown.
    """
    is_unknown = splits == UNKNOWN
    is_both = is_unknown & np.isin(codes, np.unique(codes[~is_unknown]))
    if is_both.any():
        row = int(is_both.argmax())
        raise InputError(
            f"{row_name(row)}: split is 'unknown', but items of other splits have its label"
            f" {labels[codes[row]]!r}, too: give it another, or none"
        )
