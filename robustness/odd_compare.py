"""Whether remine read a table as pandas and DuckDB do, or said where it did not."""

import datetime as dt
import math
import re
import unicodedata
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from remine.data.types import unit
from robustness.odd_readers import Reading, Row

VAL_NAMES = ("validation", "valid", "dev")
FLOATS = (np.float16, np.float32, np.float64)


def clean(label: str) -> str:
    """The documented form of a label."""
    return unicodedata.normalize("NFC", label).strip().strip("\ufeff").strip()


def run_difference(reading: Reading, reference: Sequence[Row]) -> str:
    """The first difference between what `run` stored and a reference; empty if there is none."""
    if reference and "id" in reference[0]:
        reference = sorted(reference, key=lambda row: row["id"])
    if len(reading.rows) != len(reference):
        return f"{len(reading.rows)} items, not {len(reference)}"
    for number, (row, other) in enumerate(zip(reading.rows, reference, strict=True)):
        expected_id = other.get("id", number)
        if row["id"] != expected_id:
            return f"row {number}: id {row['id']}, not {expected_id}"
        for name in ("label", "split", "group", "image", "text", "vector"):
            if name in other and not _is_same(name, row[name], other[name]):
                return f"row {number}: {name} {row[name]!r}, not {other[name]!r}"
    labels = [row["label"] for row in reference]
    return _class_difference([row["label"] for row in reading.rows], labels) or (
        _untold(reading.lines, labels, [row.get("split") for row in reference])
    )


def mine_difference(reading: Reading, reference: Sequence[Row]) -> str:
    """The first difference between what `mine` read and a reference; empty if there is none."""
    if len(reading.rows) != len(reference):
        return f"{len(reading.rows)} items, not {len(reference)}"
    for number, (row, other) in enumerate(zip(reading.rows, reference, strict=True)):
        if row["id"] != other.get("id", number):
            return f"row {number}: id {row['id']}, not {other.get('id', number)}"
        vector = unit(np.asarray([other["vector"]], np.float32))[0]
        if not np.allclose(row["vector"], vector, atol=1e-6):
            return f"row {number}: vector {row['vector']}, not {vector}"
    labels = [row["label"] for row in reference]
    return _class_difference([row["label"] for row in reading.rows], labels) or (
        _untold(reading.lines, labels, [])
    )


def _is_same(name: str, value: Any, other: Any) -> bool:
    """Whether a stored value is that of the reference."""
    if name == "vector":
        return np.array_equal(value, np.asarray(other, np.float32))
    if name == "split":
        return bool(value == ("val" if other in VAL_NAMES else other))
    if name in ("image", "text"):
        return bool(value == (other["bytes"] if isinstance(other, dict) else other))
    return _is_same_text(name, value, other)


def _is_same_text(name: str, value: Any, other: Any) -> bool:
    """Whether a stored label or group is the text of a value."""
    if is_missing(other):
        return name == "group" and value is None
    if isinstance(other, bytes) and len(other) != 16:
        other = other.decode()
    if isinstance(other, str):
        return bool(value == (clean(other) if name == "label" else other))
    return is_text_of(value, other)


def is_missing(value: Any) -> bool:
    """Whether a value of a reference is missing."""
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def is_text_of(text: str, value: Any) -> bool:
    """Whether a text stands for a number, a date or another value that is no text."""
    for kind, is_same in TEXTS_OF:
        if isinstance(value, kind):
            return is_same(text, value)
    return text == str(value)


TEXTS_OF: tuple[tuple[Any, Callable[[str, Any], bool]], ...] = (
    (bool, lambda text, value: text == str(value).lower()),
    (float, lambda text, value: any(kind(text) == value == kind(value) for kind in FLOATS)),
    (Decimal, lambda text, value: Decimal(text) == value),
    (dt.datetime, lambda text, value: bool(pd.Timestamp(text) == pd.Timestamp(value))),
    ((dt.date, dt.time), lambda text, value: type(value).fromisoformat(text[:15]) == value),
    (dt.timedelta, lambda text, value: int(text) == value // dt.timedelta(microseconds=1)),
    (bytes, lambda text, value: uuid.UUID(text).bytes == value),
)
"""How a text of a value of a type is compared with it."""


def _class_difference(labels: Sequence[Any], reference: Sequence[Any]) -> str:
    """Whether two items are of one class here and of two there."""
    here, there = map(_partition, (map(_key, labels), map(_key, reference)))
    if here == there:
        return ""
    number = next(i for i, pair in enumerate(zip(here, there, strict=True)) if pair[0] != pair[1])
    return f"row {number}: label {labels[number]!r} is in another class than {reference[number]!r}"


def _partition(keys: Any) -> list[int]:
    """The first row of the same key, for each row."""
    first: dict[Any, int] = {}
    return [first.setdefault(key, number) for number, key in enumerate(keys)]


def _key(label: Any) -> Any:
    """What two labels of one class have in common."""
    if isinstance(label, list):
        return tuple(map(_key, label))
    if isinstance(label, bytes):
        try:
            label = label.decode()
        except UnicodeDecodeError:
            return label
    return clean(label) if isinstance(label, str) else label


def _untold(lines: Sequence[str], labels: Sequence[Any], splits: Sequence[Any]) -> str:
    """What was changed without a line that counts it; empty if nothing was."""
    parts = [part for label in labels for part in (label if isinstance(label, list) else [label])]
    spellings = {p.decode(errors="replace") if isinstance(p, bytes) else p for p in parts}
    texts = {spelling for spelling in spellings if isinstance(spelling, str)}
    said = "\n".join(lines)
    cleaned = sum(clean(text) != text for text in texts)
    merged = len(texts) - len({clean(text) for text in texts})
    if cleaned and not re.search(rf"(?m)^labels: {cleaned} spelling\(s\) .*white space", said):
        return f"{cleaned} labels were cleaned, and no line says so"
    if merged and not re.search(rf"(?m)^labels: {merged} .*same class", said):
        return f"{merged} labels were merged, and no line says so"
    names = [name for name in splits if name in VAL_NAMES]
    if names and f"{names[0]!r} is read as val ({len(names)} items)" not in said:
        return f"split {names[0]!r} was read as val, and no line says so"
    return ""
