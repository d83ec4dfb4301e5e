"""Pictures that say they are huge, unpack to much or never end, wherever pictures are taken in.

Each is refused in one line, soon, and leaves nothing.
"""

import io
import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.serving.app import make_app
from robustness.fuzz import bomb

PATIENCE = 20
LABELS = "abcdefghij" * 4


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 90).save(buffer, "PNG")
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    complete = name + body
    return struct.pack(">I", len(body)) + complete + struct.pack(">I", zlib.crc32(complete))


def text_bomb() -> bytes:
    """A sound small picture with a note that unpacks to 20 MB."""
    note = chunk(b"zTXt", b"note\0\0" + zlib.compress(b"x" * 20_000_000))
    sound = picture()
    return sound[:33] + note + sound[33:]  # after the header


CONTENTS = {"pixels": bomb(60_000), "a note": text_bomb(), "cut short": bomb(3_000)}


WORDS = {
    "pixels": "60000x60000 pixels are too many",
    "a note": "not a readable picture",
    "cut short": "not a readable picture",
    "a pipe": "is not a file",
    "endless": "is not a file",
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def content(name: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(CONTENTS[name])


BAD = {**{name: content(name) for name in CONTENTS}, "a pipe": pipe, "endless": endless}
each_bad = pytest.mark.parametrize("name", BAD)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Ends a wait that would never end."""

    def late(*_: object) -> None:
        pytest.fail(f"still at work after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refusal(*arguments: object) -> str:
    """The line in which the command line refuses."""
    process = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(process.exception, InputError), (process.output, process.exception)
    assert "\n" not in str(process.exception)
    return str(process.exception)


def run_on(source: Path) -> str:
    """How `remine run` refuses `source`; nothing is left of it."""
    store = source.parent / "store"
    settings = (f'run.store="{store}"', f'data.source="{source}"', "data.image_size=16")
    line = refusal("run", *(part for one in settings for part in ("--set", one)))
    assert not store.exists()
    assert not list(source.parent.glob(".remine-*"))
    return line


@each_bad
def test_a_run_on_a_folder_names_the_picture(tmp_path, name):
    for number, label in enumerate(LABELS):
        (tmp_path / "items" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "items" / label / f"{number}.png").write_bytes(picture())
    bad = tmp_path / "items" / "b" / "11.png"
    bad.unlink()
    BAD[name](bad)
    line = run_on(tmp_path / "items")
    assert str(bad) in line
    assert WORDS[name] in line


@each_bad
def test_a_run_on_a_table_of_paths_names_the_row(tmp_path, name):
    for number in range(len(LABELS)):
        (tmp_path / f"{number}.png").write_bytes(picture())
    (tmp_path / "7.png").unlink()
    BAD[name](tmp_path / "7.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(len(LABELS))]
    pq.write_table(pa.table({"path": paths, "label": list(LABELS)}), tmp_path / "items.parquet")
    line = run_on(tmp_path / "items.parquet")
    assert "items.parquet: row 7: " in line
    assert WORDS[name] in line


@pytest.mark.parametrize("name", CONTENTS)
def test_a_run_on_a_table_of_pictures_names_the_row(tmp_path, name):
    pictures = [picture() for _ in LABELS]
    pictures[7] = CONTENTS[name]
    table = pa.table({"image": pictures, "label": list(LABELS)})
    pq.write_table(table, tmp_path / "items.parquet")
    assert f"items.parquet: row 7: {WORDS[name]}" in run_on(tmp_path / "items.parquet")


@each_bad
def test_a_search_refuses_it(cycle_store, tmp_path, name):
    BAD[name](tmp_path / "asked.png")
    line = refusal("search", "--image", tmp_path / "asked.png", "--store", cycle_store)
    assert line.startswith(f"--image {tmp_path / 'asked.png'}: ")
    assert WORDS[name] in line


def times(store: Path) -> dict[Path, int]:
    """When each file was written, but for who reads."""
    files = [path for path in store.rglob("*") if path.is_file() and "readers" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_server_refuses_it_and_goes_on(cycle_store, name):
    before = times(cycle_store)
    with TestClient(make_app(Store(cycle_store))) as client:
        answer = client.post("/search/image", files={"file": ("a.png", CONTENTS[name])})
        assert answer.status_code == 422, answer.text
        messages = "at most 16000000" if name == "pixels" else WORDS[name]
        assert messages in answer.json()["detail"]
        assert client.get("/search", params={"id": 3, "k": 1}).status_code == 200
    assert times(cycle_store) == before
