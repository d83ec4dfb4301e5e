"""Items that cannot be read: all are listed, or set aside and counted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from remine.data.errors import InputError
from remine.data.items.bad_items import LISTED, BadItems
from remine.data.items.inputs import Inputs, vector_transform
from remine.data.schemas import ITEMS, read
from remine.data.store.records import Version
from remine.flows.config.settings import load_config
from remine.flows.cycle.status import lines as status_lines
from remine.flows.cycle.status import status
from remine.flows.jobs.console import Console
from remine.flows.stages.prepare import prepare


@pytest.fixture
def photos(tmp_path):
    """Ten classes of four pictures, whose shade is their number."""
    for number in range(40):
        path = place(tmp_path, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    return tmp_path


def place(folder, number):
    return folder / "photos" / f"class {number // 4}" / f"{number:02d}.png"


def settings(folder, source="photos", **data):
    return load_config(
        {"run": {"store": str(folder / "store")}, "data": {"source": str(folder / source), **data}}
    )


def prepared(config):
    """The stored rows with their inputs, and what was said."""
    said: list[str] = []
    store, items, inputs = prepare(config, Console(quiet=True, on_line=said.append))
    rows = read(store.paths(items)[:-1], schema=ITEMS).to_pylist()
    block = Inputs(store.paths(inputs))[np.arange(len(rows))]
    number = store.current().number + 1 if store.current() else 1
    parent = store.current().digest if number > 1 else None
    artifacts = {"items": items, "inputs": inputs}
    numbers = {"cycle": number, "round": 0, "rounds": 0}
    version = Version(number=number, parent=parent, config={}, artifacts=artifacts, **numbers)
    store.publish(version)
    return rows, block, [line for line in said if "bad" in line]


def test_all_bad_pictures_are_listed(photos):
    bad = [place(photos, number) for number in (3, 17, *range(30, 36))]
    for path in bad:
        path.write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        prepared(settings(photos))
    message = str(error.value)
    assert message.startswith(f"8 of 40 items are bad: {bad[0]}: not a readable picture")
    assert [str(path) in message for path in bad] == [True] * LISTED + [False] * (8 - LISTED)
    assert message.endswith('; and 3 more (mend them, or set data.bad = "skip")')
    assert "\n" not in message
    assert not (photos / "store").exists()


def test_they_are_set_aside_and_counted(photos, monkeypatch):
    place(photos, 0).write_bytes(b"")
    place(photos, 17).write_bytes(b"no picture")
    config = settings(photos, bad="skip")
    rows, block, said = prepared(config)
    numbers = [number for number in range(40) if number not in (0, 17)]
    assert [row["path"][-6:-4] for row in rows] == [f"{number:02d}" for number in numbers]
    assert block[:, 0, 0, 0].tolist() == numbers
    assert len(said) == 1
    assert said[0].startswith(f"set aside: 2 of 40 items are bad: {place(photos, 0)}: ")
    assert prepared(config)[2] == said  # said again when the stored items are recalled
    monkeypatch.setattr("remine.flows.cycle.status._memory", lambda *_: None)  # without an index
    assert said[0] in "\n".join(status_lines(status(config)))


def test_a_mended_item_is_a_new_one(photos):
    place(photos, 17).write_bytes(b"no picture")
    config = settings(photos, bad="skip")
    before, _, _ = prepared(config)
    Image.new("L", (8, 8), 17).save(place(photos, 17))
    place(photos, 30).write_bytes(b"none")  # and one that was good is bad now
    rows, block, said = prepared(config)
    ids = {row["path"]: row["id"] for row in before}
    assert all(ids.get(row["path"], 39) == row["id"] for row in rows)
    assert [row["path"][-6:-4] for row in rows if row["id"] == 39] == ["17"]
    assert len(rows) == 39
    assert sorted(block[:, 0, 0, 0].tolist()) == [n for n in range(40) if n != 30]
    assert f"1 of 40 items are bad: {place(photos, 30)}" in said[0]


def test_rows_of_tables(tmp_path):
    labels = [f"class {row // 4}" for row in range(40)]
    texts = [" " if row in (5, 6) else f"text {row}" for row in range(40)]
    ids = list(range(100, 60, -1))
    pq.write_table(pa.table({"id": ids, "label": labels, "text": texts}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"^2 of 40 items .*row 6: the text is empty; .*row 5: "):
        prepared(settings(tmp_path, "x.parquet"))
    rows, _, _ = prepared(settings(tmp_path, "x.parquet", bad="skip"))
    assert [(row["id"], row["text"]) for row in rows] == [
        (100 - row, f"text {row}") for row in range(39, -1, -1) if row not in (5, 6)
    ]


def test_inputs_of_the_readable_items_and_one_reason():
    transform = BadItems(vector_transform)
    vectors = np.ones((4, 3), np.float32)
    vectors[2] = 0
    block = transform(vectors, "row {}".format)
    assert block.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]]
    fault = "row 2: the vector is all zeros: it has no direction"
    assert transform.reasons == {"row 2": fault}
    assert str(transform.refusal(4)) == fault
    with pytest.raises(InputError, match="row 0: the vector is all zeros"):
        BadItems(vector_transform)(np.zeros((2, 3), np.float32), "row {}".format)
