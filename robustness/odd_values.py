"""Columns of valid but odd tables: labels and contents of every type that Parquet can store."""

import datetime as dt
import io
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

INDEX_TYPES = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16())
TEXT_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    *(pa.dictionary(index, pa.string()) for index in INDEX_TYPES),
    pa.dictionary(pa.int32(), pa.large_string()),
)
BINARY_TYPES = (pa.binary(), pa.large_binary(), pa.binary_view())
INTEGER_TYPES = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
)
NUMBER_TYPES = (
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.int8(), pa.int32(), pa.int64(), pa.uint16()),
)

SPELLINGS: tuple[Sequence[str], ...] = (
    ("00", "0", "1", "01", "1.0", "1e5", "+1"),
    ("NA", "null", "NaN", "nan", "None", "true", "N/A"),
    ("caf\u00e9", "cafe\u0301", "na\u00efve", "\u212b", "\u00c5", "\ufb01n", "fin"),
    ("c1", " c1", "c1 ", "c2", "c3\t", "\u00a0c4", "c5"),
    ("\ufeffa", "a", "b\u2028c", "b c", "d\x0ce", "d e", "\u200bf"),
    ("\u0130", "i", "I", "\u0131", "\u00df", "ss", "\U0001f600"),
    ("a,b", 'a"b', "a\nb", "'a'", "a;b", "#a", "a\\b"),
    ("\u05d0\u05d1", "\u0627", "\ud55c\uae00", "\u1112\u1161\u11ab", "x" * 300, "=1+1", "-"),
    ("cat", "Cat", "CAT", "dog", "bird", "fish", "ant"),
)
"""Texts that other readers take for something else, or that differ by their code points only."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Six labels or fewer, and the types that store them without a change of value."""

    values: Sequence[Any]
    types: Sequence[pa.DataType]


def draw_labels(draw: random.Random) -> Labels:
    """Labels of a random kind."""
    return draw.choice(KINDS)(draw)


def _texts(draw: random.Random) -> Labels:
    return Labels(values=draw.sample(draw.choice(SPELLINGS), 6), types=TEXT_TYPES)


def _bytes(draw: random.Random) -> Labels:
    texts = draw.sample(draw.choice(SPELLINGS), 6)
    return Labels(values=[text.encode() for text in texts], types=BINARY_TYPES)


def _integers(draw: random.Random) -> Labels:
    kind = draw.choice(INTEGER_TYPES)
    limits = np.iinfo(kind.to_pandas_dtype())
    values = [0, 1, 7, 100, limits.max, limits.min or 2]
    types = [t for t in INTEGER_TYPES if kind in (pa.int8(), pa.uint8()) and t.bit_width > 8]
    types = [t for t in types if not pa.types.is_unsigned_integer(t) or limits.min == 0]
    return Labels(values=values, types=[kind, *types, pa.dictionary(pa.int8(), kind)])


def _floats(draw: random.Random) -> Labels:
    kind = draw.choice([pa.float16(), pa.float32(), pa.float64()])
    values = [0.0, 1.0, 0.1, -2.5, 1e-7 if kind != pa.float16() else 0.5, 3e4]
    if draw.random() < 0.2:
        values[3] = -0.0
    return Labels(values=[_rounded(value, kind) for value in values], types=[kind])


def _rounded(value: float, kind: pa.DataType) -> float:
    return float(np.asarray(value, kind.to_pandas_dtype()))


def _bools(_draw: random.Random) -> Labels:
    return Labels(values=[True, False], types=[pa.bool_()])


def _decimals(draw: random.Random) -> Labels:
    texts = ("0", "1", "1.5", "-3", "12.34", "99.9")
    values = [Decimal(text).quantize(Decimal("0.01")) for text in texts]
    kinds = (pa.decimal32(6, 2), pa.decimal64(12, 2), pa.decimal128(20, 2), pa.decimal256(50, 2))
    return Labels(values=values, types=[draw.choice(kinds)])


def _days(draw: random.Random) -> Labels:
    days = [dt.date(1970, 1, 1) + dt.timedelta(day) for day in (-400, 0, 1, 59, 9999, 2)]
    return Labels(values=days, types=[draw.choice([pa.date32(), pa.date64()])])


def _times(draw: random.Random) -> Labels:
    start = dt.datetime(2024, 3, 31, 0, 30, tzinfo=dt.UTC)
    zone = draw.choice([None, "UTC", "Europe/Berlin"])
    unit = draw.choice(["s", "ms", "us", "ns"])
    values = [start + dt.timedelta(hours=hours) for hours in range(6)]
    if not zone:
        values = [value.replace(tzinfo=None) for value in values]
    return Labels(values=values, types=[pa.timestamp(unit, zone)])


def _clock(draw: random.Random) -> Labels:
    values = [dt.time(hour, 5, 7) for hour in range(6)]
    return Labels(values=values, types=[draw.choice([pa.time32("ms"), pa.time64("us")])])


def _durations(_draw: random.Random) -> Labels:
    values = [dt.timedelta(seconds=seconds) for seconds in range(6)]
    return Labels(values=values, types=[pa.duration("us")])


def _identifiers(_draw: random.Random) -> Labels:
    values = [uuid.UUID(int=number).bytes for number in range(6)]
    return Labels(values=values, types=[pa.uuid()])


def _lists(draw: random.Random) -> Labels:
    names = draw.sample(SPELLINGS[-1], 6)
    values = [[name, names[0]] if draw.random() < 0.5 else [name] for name in names]
    return Labels(values=values, types=[pa.list_(pa.string()), pa.large_list(pa.string())])


KINDS: tuple[Callable[[random.Random], Labels], ...] = (
    _texts, _texts, _texts, _texts, _bytes, _integers, _integers, _floats, _bools, _decimals, _days,
    _times, _clock, _durations, _identifiers, _lists,
)  # fmt: skip


def vector_types(draw: random.Random, size: int) -> list[pa.DataType]:
    """Types of lists of one kind of number, which may meet in one folder."""
    number = draw.choice(NUMBER_TYPES)
    makers: tuple[Callable[[pa.DataType], pa.DataType], ...] = (
        pa.list_, pa.large_list, lambda kind: pa.list_(kind, size), pa.list_view,
        pa.large_list_view,
    )  # fmt: skip
    types = [make(number) for make in makers]
    if number in (pa.float32(), pa.float64()):
        types.append(pa.list_(pa.float64() if number == pa.float32() else pa.float32()))
    return types


def vector(row: int, size: int, number: pa.DataType) -> list[Any]:
    """A vector whose numbers the type can hold."""
    whole = [(row * 7 + place * 3) % 11 + 1 for place in range(size)]
    if not pa.types.is_floating(number):
        return whole
    return [_rounded(value / 7, pa.float16()) for value in whole]


def text(row: int, draw: random.Random) -> str:
    """A text with signs that readers stumble over."""
    signs = ("", ' "quoted"', ", comma", "\nline", "\r\nline", "\u2028", "\t", "  ", " 'a'", "\\n")
    word = draw.choice(("text", "cafe\u0301", "NA", "007", "\u6587"))
    return f"{word} {row}{draw.choice(signs)}."


def picture(row: int) -> bytes:
    """A small PNG."""
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), row * 9 % 256, np.uint8)).save(out, "PNG")
    return out.getvalue()
