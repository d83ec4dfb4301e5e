"""CSV: what is read is what the file says, and what cannot be read names its line."""

import csv
import io
import random

import pyarrow as pa
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.sources.csv_table import CsvTable
from remine.data.sources.source import open_source


@pytest.fixture
def read(tmp_path):
    """The columns of a CSV of these bytes, as Python values."""

    def run(content: bytes | str, *columns: str, integers=(), label=None):
        path = tmp_path / "x.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        table = CsvTable(path, integers=integers, label=label)
        return table.to_table(columns or table.schema.names).to_pydict()

    return run


def message_of(read, content, *columns, **options) -> str:
    with pytest.raises(InputError) as error:
        read(content, *columns, **options)
    message = str(error.value)
    assert "\n" not in message
    return message.split("x.csv: ", 1)[1]


ROWS = [f"c{i // 4},item number {i} of kind {i % 7}" for i in range(400)]


def swap(lines: dict[int, str]) -> str:
    return "\n".join(["label,text", *(lines.get(i, row) for i, row in enumerate(ROWS))]) + "\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            {10: 'c2,"12 inch pipe', 300: 'c75,"14 inch pipe'},
            "line 12: the quote that opens here closes in",
        ),
        ({10: 'c2,"12 inch pipe'}, "line 12: a quote opens and never closes"),
        (
            {10: 'c2,"12 inch pipe', 300: 'c75,14"'},
            "line 12: the quote that opens here closes in line 302",
        ),
        (
            {10: 'c2,"12 inch pipe', 11: 'c2,14"'},
            "line 12: the quote that opens here closes in line 13",
        ),
        (
            {10: 'c2,"12 inch pipe', 20: 'c5,14" pipe'},
            "line 12: the quote that opens here closes in line 22",
        ),
        (
            {10: 'c2,"12 inch pipe', 20: 'c5,"a, b"'},
            "line 12: the quote that opens here closes in line 22",
        ),
        (
            {10: 'c2,"5 inch" pipe'},
            "line 12: the quote that opens here closes in line 12, before more text",
        ),
        (
            {10: '"c2,12 inch pipe', 12: 'c3",14 inch'},
            "line 12: the quote that opens here closes in line 14",
        ),
    ],
)
def test_stray_quote_is_refused_with_the_line_where_it_opens(tmp_path, lines, message):
    (tmp_path / "items.csv").write_text(swap(lines))
    with pytest.raises(InputError) as error:
        open_source(DataConfig(source="items.csv"), tmp_path).metadata()
    assert str(error.value).startswith(f"{tmp_path}/items.csv: {message}")
    assert "\n" not in str(error.value)


def test_rows_swallowed_in_a_table_without_labels(read):
    content = 'a,b\n1,x\n2,"y\n3,z\n4,w\n5,14"\n6,v\n'
    assert message_of(read, content).startswith(
        "line 3: the quote that opens here closes in line 6"
    )


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        'Main Street 5\n12345 Town, Land\nEarth "3", Sun\n',
        "poem, of\nmany, lines\nwith, commas\nand, so on",
        '""',
        '"',
        "\r\n\r\n",
        ' "quoted" ',
        '12" pipe',
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_texts_stay_as_they_are(read, text, end):
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end)
    writer.writerows([["label", "text"], ["a", "x"], ["b", text], ["a", "y"]])
    result = read(buffer.getvalue(), label="label")
    assert result == {"label": ["a", "b", "a"], "text": ["x", text, "y"]}


@pytest.mark.parametrize("names", [["text", "label"], ["label", "text"]])
@pytest.mark.parametrize("text", ["two\nlines", "three, of\nmany\nlines", "one\n"])
def test_texts_of_several_lines_stand_before_or_after_labels(read, names, text):
    rows = [{"label": name, "text": text} for name in ("a", "b", "a")]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names)
    writer.writeheader()
    writer.writerows(rows)
    assert read(buffer.getvalue(), label="label")["text"] == [text] * 3


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_other_delimiters_are_refused_by_name(read, sign):
    content = f'label{sign}text\na{sign}"x, y"\n'
    assert "and no comma; save the table with commas" in message_of(read, content)


def test_quotes_inside_of_unquoted_fields_are_text(read):
    assert read('a,b\n12" pipe,x "y"\n') == {"a": ['12" pipe'], "b": ['x "y"']}


@pytest.mark.parametrize("shift", range(-3, 4))
def test_quoted_line_break_at_the_edge_of_a_block(read, monkeypatch, shift):
    for edge in (1 << 20, 4096):
        monkeypatch.setattr("remine.data.sources.csv_table.BLOCK", edge)
        head = 'label,text\r\na,"'
        text = "x" * (edge - len(head) + shift) + "\r\nend"
        rows = f'{head}{text}"\r\nb,"y\r\nz"\r\n'
        assert read(rows) == {"label": ["a", "b"], "text": [text, "y\r\nz"]}


def test_fields_larger_than_a_block(read):
    text = "word\n" * (5 << 20)
    result = read(f'label,text\na,"{text}"\nb,short\n')
    assert result["text"][0] == text
    assert result["text"][1] == "short"


def test_rows_of_many_blocks(read, monkeypatch):
    monkeypatch.setattr("remine.data.sources.csv_table.BLOCK", 50)
    texts = [f"{i},\r\n" * (i % 9) + f'"{i}' for i in range(300)]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "id"], *[[text, i] for i, text in enumerate(texts)]])
    assert read(buffer.getvalue(), integers=["id"]) == {"text": texts, "id": list(range(300))}


@pytest.mark.parametrize("seed", range(60))
def test_what_a_csv_writer_wrote_is_read_as_it_was(read, monkeypatch, seed):
    chance = random.Random(seed)
    monkeypatch.setattr("remine.data.sources.csv_table.BLOCK", chance.choice([1, 7, 20, 1000]))
    pieces = ["a", ",", '"', "\n", "\r\n", "\r", " ", "\u00e9", '""']
    texts = ["".join(chance.choices(pieces, k=chance.randrange(1, 9))) for _ in range(9)]
    buffer = io.StringIO(newline="")
    end = chance.choice(["\n", "\r\n", "\r"])
    writer = csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["label", "text"], *[["c1", text] for text in texts]])
    mark = chance.choice(["", "\ufeff"])
    assert read(mark + buffer.getvalue(), label="label")["text"] == texts


def test_text_stays_text(read):
    texts = ["00003", "1.50", "1e5", "NA", "true", "2020-01-01", " x "]
    assert read("text\n" + "\n".join(texts) + "\n") == {"text": texts}
    assert read("text\n" + "\n".join(f'"{text}"' for text in texts)) == {"text": texts}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_mark_and_line_ends(read, end):
    lines = ['"id","text"', "1,a", "", '2,"b"']
    content = b"\xef\xbb\xbf" + end.join(lines).encode()
    assert read(content, integers=["id"]) == {"id": [1, 2], "text": ["a", "b"]}


# Arrow prints what its callbacks raise.
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("id,text\n1,a\n\n2,b,c\n", "line 4: 3 field(s), but the header has 2"),
        ('id,text\n1,"a\nb"\n2\n', "line 4: 1 field(s), but the header has 2"),
        (b"id,text\n1,a\n2,\xff\n", "line 3: not UTF-8"),
        ('id,text\n1,"a\nb"\nx,b\n', "line 4: id is 'x', not a whole number"),
        ("id,text\n1.0,a\n", "line 2: id is '1.0', not a whole number"),
        ("id,text\n1e5,a\n", "line 2: id is '1e5', not a whole number"),
        (f"id,text\n1,a\n{2**63 + 5},b\n", f"line 3: id {2**63 + 5} is not between 0 and 2^63 - 1"),
        (b"id,text\n1,a\n2,\xff,c\n", "line 3: not UTF-8"),
        (b"id,t\xe9xt\n1,a\n", "line 1: a column's name is not UTF-8"),
        ('id,"text\n1,a"\n2,b\n', "line 1: the header spans lines"),
        ("id,text,id\n1,a,2\n", "the header names 'id' more than once"),
    ],
)
def test_refusals_name_the_line(read, content, message):
    assert message_of(read, content, "id", "text", integers=["id"]).startswith(message)


def test_empty_line_in_a_table_of_one_column_is_a_missing_value(read):
    assert read("text\na\n\nb\n") == {"text": ["a", None, "b"]}


def test_rows_have_the_lines_of_an_editor(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbf\nid,text\r\n1,"a\r\nb\nc"\n\n2,b\n3,"d\n"\n4,e')
    table = CsvTable(path, integers=["id"])
    assert table.schema.types == [pa.int64(), pa.string()]
    lines = [table.row_name(row) for row in range(4)]
    assert lines == [f"{path}: line {line}" for line in (3, 7, 8, 10)]
