"""What is wrong with a row of users' data is said in one line with its place, and leaves no trace.

The fixture `refused` checks the one line and the traces; here stands what the line must say.
"""

import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest

N, ROW = 24, 20  # items, and the one that is wrong: in the second shard


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def place(path, row=ROW):
    """How messages name a row: text files are counted in lines from 1, below the header."""
    return f"{path}: line {row + 2}" if path.suffix == ".csv" else f"{path}: row {row}"


def swap(values, value, row=ROW):
    """`values` with another `value` at `row`."""
    return [*values[:row], value, *values[row + 1 :]]


@pytest.mark.parametrize("row", [0, ROW])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no picture", "not a readable picture (none of PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM"),
        (EPS, "not a readable picture (none of PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM"),
        (b"", "not a readable picture (none of PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a readable picture"),
        (None, "image is missing"),
    ],
)
def test_picture_that_cannot_be_decoded(refusal, table, picture, content, problem, row):
    path = table(image=swap([picture()] * N, content, row))
    assert refusal(path).startswith(f"{path}: row {row}: {problem}")


def test_truncated_picture(refusal, table, picture):
    complete = picture(size=(64, 64))
    path = table(image=swap([complete] * N, complete[:-30]))
    assert refusal(path).startswith(f"{path}: row {ROW}: not a readable picture (")


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_missing_picture_file(refusal, table, tmp_path, picture, name):
    (tmp_path / "here.png").write_bytes(picture())
    path = table(name, path=swap(["here.png"] * N, "gone.png"))
    assert refusal(path) == f"{place(path)}: {tmp_path}/gone.png does not exist"


@pytest.mark.parametrize("label", [None, "", "  \t"])
@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_missing_label(refusal, table, labels, name, label):
    path = table(name, label=swap(labels, label), text=labels)
    assert refusal(path) == f"{place(path)}: label is missing"


def test_missing_number_label(refusal, table, labels):
    path = table(label=swap([float(row // 2) for row in range(N)], float("nan")), text=labels)
    assert refusal(path) == f"{path}: row {ROW}: label is missing"


def test_missing_text(refusal, table, labels):
    path = table("items.csv", text=swap(labels, None))
    assert refusal(path) == f"{place(path)}: text is missing"


def test_the_row_is_that_of_the_file_also_when_ids_are_unsorted(refusal, table, labels):
    path = table(id=range(N, 0, -1), text=swap(labels, None))
    assert refusal(path) == f"{path}: row {ROW}: text is missing"


@pytest.mark.parametrize("form", [list, lambda ids: ids[::-1]])
def test_duplicate_id(refusal, table, labels, form):
    ids = form(swap(list(range(N)), ROW - 1))
    path = table(id=ids, text=labels)
    first, second = (row for row in range(N) if ids[row] == ROW - 1)
    assert refusal(path) == f"{path}: row {second}: id 19 is also that of {path}: row {first}"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([-5, *range(1, N)], "row 0: id -5 is not between 0 and 2^63 - 1"),
        (swap(list(range(N)), -1), f"row {ROW}: id -1 is not between 0 and 2^63 - 1"),
        (
            pa.array([*range(N - 1), 2**63], pa.uint64()),
            "row 23: id 9223372036854775808 is not between 0 and 2^63 - 1",
        ),
        (swap(list(range(N)), None), f"row {ROW}: id is missing"),
    ],
)
def test_id_out_of_range(refusal, table, labels, ids, message):
    path = table(id=ids, text=labels)
    assert refusal(path) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (np.arange(N) / 2, "double"),
        ([i % 2 == 0 for i in range(N)], "bool"),
        (pa.array(range(N), pa.date32()), "date32"),
    ],
)
def test_id_that_is_neither_integer_nor_text(refusal, table, labels, ids, kind):
    message = refusal(table(id=ids, text=labels))
    assert message.startswith(f"id is {kind}")
    assert "ids are integers or texts" in message


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "id is missing"),
        (" \t", "id is empty"),
        ("item 3", "id 'item 3' is also that of {3}"),
        (" item 3", "id ' item 3' differs from 'item 3' of {3} in white space or Unicode form"),
        ("cafe\u0301", "id 'cafe\u0301' differs from 'caf\xe9' of {0} in white space or Unicode"),
    ],
)
def test_text_id(refusal, table, labels, name, value, fault):
    ids = swap(["caf\xe9", *(f"item {i}" for i in range(1, N))], value)
    path = table(name, id=ids, text=labels)
    expected = fault.replace("{3}", place(path, 3)).replace("{0}", place(path, 0))
    assert refusal(path).startswith(f"{place(path, ROW)}: {expected}")


def test_text_ids_that_are_not_utf8(refusal, table, labels):
    ids = pa.array(swap([f"item {i}".encode() for i in range(N)], b"\xff1"))
    for column in (ids, ids.dictionary_encode(), ids.view(pa.string())):
        path = table(id=column, text=labels)
        assert refusal(path) == f"{path}: row {ROW}: id is not UTF-8 text"


@pytest.mark.parametrize("split", ["develop", "Train", None])
def test_unknown_split(refusal, table, labels, split):
    path = table(split=swap(["train"] * N, split), text=labels)
    assert (
        refusal(path) == f"{path}: row {ROW}: split is {split!r}; known: train, val, test, unknown"
    )


def test_pictures_of_two_sizes(refusal, lay_down, table, picture):
    path = table(image=swap([picture()] * N, picture(size=(9, 8))))
    expected = f"{path}: row {ROW}: the picture is 9x8 pixels, the first is 8x8; set data.image"
    assert refusal(path).startswith(expected)
    # What the message advises works.
    assert lay_down(path, image_size=10).contents.shape == (N, 1, 10, 10)


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header says side x side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    return body + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 0) + b"IDAT"


# Up to twice its own limit Pillow only warns.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8001, 10_000, 50_000])
def test_picture_of_too_many_pixels(refusal, table, picture, side):
    path = table(image=swap([picture()] * N, bomb(side)))
    message = refusal(path, image_size=8)
    assert message.startswith(f"{path}: row {ROW}: ")
    assert "pixels" in message
    assert "many" in message


VECTORS = [[1.0, 2.0]] * N


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ([1.0, float("nan")], "the vector has a number that is not finite"),
        ([1.0, float("-inf")], "the vector has a number that is not finite"),
        ([1.0, 1e300], "the vector has a number that is not finite"),
        ([1.0, None], "the vector has a number that is not finite"),
        ([0.0, -0.0], "the vector is all zeros: it has no direction"),
        ([1e-30, 0.0], "the vector is all zeros: it has no direction"),
        (
            [1e30, 0.0],
            "the vector is longer than 1e18, whose square overflows float32: scale it",
        ),
        (None, "vector is missing"),
        ([1.0], "the vector has 1 numbers, the first has 2"),
        ([1.0, 2.0, 3.0], "the vector has 3 numbers, the first has 2"),
    ],
)
def test_vector_without_a_direction_or_of_another_length(refusal, table, vector, problem):
    path = table(vector=swap(VECTORS, vector))
    assert refusal(path) == f"{path}: row {ROW}: {problem}"


def test_vectors_of_another_length_from_a_shard_on(refusal, table):
    path = table(vector=[*VECTORS[:16], *[[1.0, 2.0, 3.0]] * 8])
    assert refusal(path) == f"{path}: row 16: shape (3,), the first is (2,)"


@pytest.mark.parametrize("bad", [0.0, np.nan, 1e300])
def test_vector_in_npy(refusal, tmp_path, labels, bad):
    vectors = np.ones((N, 2))
    vectors[ROW] = bad
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "labels.npy", np.array(labels))
    message = refusal("vectors.npy", labels="labels.npy")
    assert message.startswith(f"{tmp_path}/vectors.npy: row {ROW}: the vector ")
