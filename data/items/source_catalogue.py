"""The catalogue of a source: id, label and split of every item, checked before any is decoded."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.catalogue import TEST, TRAIN, UNKNOWN, VAL, Catalogue
from remine.data.items.unknown_items import check_unknown, unknown_rows, with_unknown_label
from remine.data.items.val_split import has_val, label_fractions, with_val
from remine.data.sources.keys import Keys, holds_text, read_keys
from remine.data.sources.labels import Cleaning, clean_labels
from remine.data.sources.source import Source
from remine.data.sources.splits import VAL_NAMES
from remine.data.types import SPLITS, Int8, Int32, Int64


def build_catalogue(source: Source, config: DataConfig) -> Catalogue:
    """Read and check the metadata of every item of a source.

    Raises:
        InputError: An id, label or split is missing or invalid, or the data leaves nothing to
            train on or to test.
    """
    table = source.metadata()
    if not len(table):
        raise InputError(f"data.source: {config.source} holds no items")
    ids, keys = _item_ids(table, source.row_name)
    split_texts = texts(table, "split", config.source) if "split" in table.column_names else None
    label_texts = with_unknown_label(texts(table, "label", config.source), split_texts)
    labels, codes = _encode_labels(label_texts, table, source.row_name)
    is_unknown = unknown_rows(labels, codes, config.unknown_labels)
    if split_texts is not None:
        splits = _read_splits(split_texts, source.row_name)
        splits[is_unknown] = UNKNOWN
        check_unknown(labels, codes, splits, source.row_name)
        share = 0.0 if (splits == VAL).any() else config.val_from_train
    else:
        splits = _split_by_class(labels, codes, is_unknown, config)
        share = 0.0 if has_val(splits, codes) else config.val_share
    splits, val_note = with_val(splits, codes, labels, ids, share) if share else (splits, "")
    catalogue = Catalogue(
        ids=ids,
        label_codes=codes,
        labels=labels,
        splits=splits,
        groups=texts(table, "group", config.source) if "group" in table.column_names else None,
        cleaning=Cleaning.of(pc.unique(label_texts).to_pylist()),
        val_note=val_note,
        keys=keys,
        extras=table.select(list(config.extra_columns)) if config.extra_columns else None,
    )
    _check_task(catalogue, config.source)
    return catalogue


def texts(table: pa.Table, name: str, source: str) -> pa.ChunkedArray:
    """A column as UTF-8 strings; numbers and dates are formatted.

    Raises:
        InputError: The column holds lists, structs, or bytes that are not UTF-8.
    """
    column = table[name]
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_float = pa.types.is_floating(column.type)
        column = column.cast(pa.string())
        if is_float:  # 0.0 and -0.0 are equal
            is_zero = pc.is_in(column, pa.array(["-0", "-0.0"]))
            column = pc.if_else(is_zero, pc.utf8_slice_codeunits(column, 1), column)
        # A file may declare arbitrary bytes to be strings; only full validation notices.
        column.validate(full=True)
    except pa.ArrowException:
        raise InputError(
            f"{source}: {name} is {table[name].type} which cannot be read as text; make it UTF-8"
            " text"
        ) from None
    return column


def _item_ids(table: pa.Table, row_name: Callable[[int], str]) -> tuple[Int64, Keys | None]:
    """The ids, checked, and the user's ids if these are texts.

    Row numbers are the ids of a source without ids, and of one with texts that was not yet stored.
    """
    if "id" not in table.column_names:
        return np.arange(len(table), dtype=np.int64), None
    if "key" in table.column_names:  # numbered, and so checked
        return table["id"].to_numpy(), Keys(table["key"])
    if holds_text(table["id"].type):
        return np.arange(len(table), dtype=np.int64), read_keys(table["id"], row_name)
    return _integer_ids(table["id"], row_name), None


def _integer_ids(column: pa.ChunkedArray, row_name: Callable[[int], str]) -> Int64:
    """The column of ids that are integers, ascending, checked."""
    if column.null_count:
        raise InputError(f"{row_name(pc.index(pc.is_null(column), True).as_py())}: id is missing")
    if not pa.types.is_integer(column.type):
        raise InputError(
            f"id is {column.type}; ids are integers or texts (leave the column out to number the"
            " rows)"
        )
    values = column.to_numpy()
    out_of_range = (values < 0) | (values > np.iinfo(np.int64).max)
    if out_of_range.any():
        row = int(out_of_range.argmax())
        raise InputError(f"{row_name(row)}: id {values[row]} is not between 0 and 2^63 - 1")
    ids: Int64 = values.astype(np.int64)
    if (repeats := ids[1:] == ids[:-1]).any():
        row = int(repeats.argmax())
        raise InputError(f"{row_name(row + 1)}: id {ids[row]} is also that of {row_name(row)}")
    return ids


def _encode_labels(
    names: pa.ChunkedArray, table: pa.Table, row_name: Callable[[int], str]
) -> tuple[list[str], Int32]:
    """The sorted label names, and the code of each item's label (n,)."""
    column = clean_labels(names)
    missing = pc.is_null(column)
    if pa.types.is_floating(table["label"].type):  # pandas writes a missing number as NaN
        missing = pc.or_kleene(missing, pc.equal(column, "nan"))
    if pc.any(missing).as_py():
        raise InputError(f"{row_name(pc.index(missing, True).as_py())}: label is missing")
    labels = sorted(pc.unique(column).to_pylist())
    codes = pc.index_in(column, pa.array(labels)).to_numpy().astype(np.int32)
    return labels, codes


def _read_splits(column: pa.ChunkedArray, row_name: Callable[[int], str]) -> Int8:
    """The codes of a column of split names."""
    codes = pc.fill_null(pc.index_in(column, pa.array(SPLITS)), -1).to_numpy()
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        value = column[row].as_py()
        advice = ""
        if value in VAL_NAMES:
            advice = f" (of {', '.join(VAL_NAMES)} the data may have one, which is val)"
        raise InputError(f"{row_name(row)}: split is {value!r}; known: {', '.join(SPLITS)}{advice}")
    splits: Int8 = codes.astype(np.int8)
    return splits


def _split_by_class(
    labels: list[str], codes: Int32, is_unknown: NDArray[np.bool_], config: DataConfig
) -> Int8:
    """Assign whole classes to splits by a hash of the label, those of unknown items apart."""
    fractions = label_fractions(labels)
    fractions[codes[is_unknown]] = 1.0  # above all, so that none of these is the test class
    edges = [config.test_share, config.test_share + config.val_share]
    interval = np.searchsorted(edges, fractions, side="right")
    split_of_class = np.array([TEST, VAL, TRAIN], np.int8)[interval]
    # With few classes no hash may fall below a small share, but evaluation needs a test class.
    if (split_of_class != TEST).all():
        split_of_class[int(np.argmin(fractions))] = TEST
    split_of_class[codes[is_unknown]] = UNKNOWN
    return split_of_class[codes]


def _check_task(catalogue: Catalogue, source: str) -> None:
    """Raise InputError if the data leaves nothing to train on or nothing to test."""
    counts = catalogue.counts()
    if not counts["test"]["classes"]:
        raise InputError(
            f"{source}: no test classes: no item has the split `test` (of a column `split`, or of"
            " folders train, val and test)"
        )
    if counts["train"]["classes"] < 2:
        raise InputError(
            f"{source}: {counts['train']['classes']} of {len(catalogue.labels)} classes are for"
            " training: triplets need two or more, and a test needs one more"
        )
    for code, noun, consequence in (
        (TRAIN, "training", "there is no pair"),
        (TEST, "test", "retrieval cannot be measured"),
    ):
        if np.bincount(catalogue.label_codes[catalogue.splits == code]).max() < 2:
            raise InputError(f"{source}: no {noun} class has two items, so {consequence}")
