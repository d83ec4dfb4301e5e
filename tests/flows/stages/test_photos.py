"""Grey pictures among coloured ones: three channels, said, and again when colour comes later."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from remine.data.errors import InputError
from remine.data.items.inputs import (
    MIN_ROWS,
    SHARD_BYTES,
    ImageTransform,
    Inputs,
    input_bytes,
    shard_rows,
)
from remine.data.store.records import Artifact
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console
from remine.flows.query.snapshot import Snapshot
from remine.flows.report.item_cards import THUMBNAIL_SIDE, Gallery, picture_url
from remine.flows.stages.prepare import prepare
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.design import Design
from remine.train.encoders.encoder import GramTransform

SIDE = 8


@pytest.fixture
def photos(tmp_path):
    """Ten classes of four pictures; the first one is grey."""
    for number in range(40):
        folder = tmp_path / "photos" / f"class {number // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / f"{number}.png", number, is_grey=number == 0)
    return tmp_path / "photos"


def save(path, number, *, is_grey):
    pixels = np.full((SIDE, SIDE, 3), (number, 200, 0), np.uint8)
    Image.fromarray(pixels[:, :, 0] if is_grey else pixels).save(path)


def prepared(photos, **data):
    """The stored inputs, and the lines about channels."""
    lines: list[str] = []
    settings = {
        "run": {"store": str(photos.parent / "store")},
        "data": {"source": str(photos), **data},
    }
    store, items, inputs = prepare(load_config(settings), Console(quiet=True, on_line=lines.append))
    version = (store, items, inputs)
    block = Inputs(store.paths(inputs))[np.arange(items.rows)]
    return block, [line for line in lines if "channel" in line], version


def test_a_grey_first_picture_does_not_make_all_grey(photos):
    block, lines, _ = prepared(photos)
    assert block.shape == (40, 3, SIDE, SIDE)
    assert block[0, :, 0, 0].tolist() == [0, 0, 0]
    assert block[1, :, 0, 0].tolist() == [1, 200, 0]
    place = photos / "class 0" / "1.png"
    assert lines == [
        f"pictures: 3 channels, for {place} has colour (data.channels = 1 makes all grey)"
    ]


def test_the_setting_decides(photos):
    block, lines, _ = prepared(photos, channels=1)
    assert block.shape == (40, 1, SIDE, SIDE)
    assert not lines


def test_colour_that_comes_later_is_prepared_again(photos):
    for number in range(40):
        save(photos / f"class {number // 4}" / f"{number}.png", number, is_grey=True)
    block, lines, (store, items, inputs) = prepared(photos)
    assert block.shape == (40, 1, SIDE, SIDE)
    assert lines == ["pictures: 1 channel, for none has colour (data.channels = 3 makes three)"]
    publish(store, items, inputs)
    save(photos / "class 3" / "grey.png", 77, is_grey=True)  # no reason to change
    block, lines, (_, items, inputs) = prepared(photos)
    assert (block.shape, lines) == ((41, 1, SIDE, SIDE), [])
    save(photos / "class 3" / "new.png", 99, is_grey=False)
    block, (line,), _ = prepared(photos)
    assert block.shape == (42, 3, SIDE, SIDE)
    assert f"{photos / 'class 3' / 'new.png'} has colour" in line
    assert (block[:40, 0] == block[:40, 1]).all()


def publish(store, items, inputs):
    """A version of these items, with nothing else."""
    from remine.data.store.records import Version

    store.publish(
        Version(
            number=1,
            parent=None,
            cycle=1,
            round=0,
            rounds=1,
            config={},
            artifacts={"items": items, "inputs": inputs},
        )
    )


def test_another_fit_prepares_all_pictures_anew(photos):
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    Image.fromarray(np.tile(ramp, (16, 1))).save(photos / "class 3" / "wide.png")
    row = sorted(photos.rglob("*.png")).index(photos / "class 3" / "wide.png")
    before, _, (store, items, inputs) = prepared(photos, image_size=16)
    publish(store, items, inputs)
    assert inputs.card["fit"] == "crop"
    after, _, (_, _, inputs) = prepared(photos, image_size=16, fit="stretch")
    assert inputs.card["fit"] == "stretch"
    assert before[row, 0, 8, 0] > 70  # the middle of the ramp
    assert after[row, 0, 8, 0] < 10  # all of it
    plan = Design(config=EncoderConfig(), content="path", shape=(3, 16, 16))
    checkpoint = Artifact(kind="checkpoint", files=(), card={"encoder": plan.to_json()})
    version = SimpleNamespace(artifacts={"inputs": inputs, "checkpoint": checkpoint})
    snapshot = SimpleNamespace(version=version, content="path", base=Path())
    queries = vars(Snapshot)["transform"].func(snapshot)
    query = queries([photos / "class 3" / "wide.png"], str)
    np.testing.assert_array_equal(query[0], after[row])


def test_a_fit_without_a_size_is_refused(photos):
    with pytest.raises(InputError, match=r'data\.fit is "pad", but .* set data\.image_size'):
        prepared(photos, fit="pad")


def test_a_page_shows_thumbnails(photos):
    """A page has hundreds of cards, whose pictures at full size weighed 34 MB."""
    draw = np.random.default_rng(0)
    place = photos / "class 3" / "large.png"
    ramp = np.linspace(0, 200, 224)[:, None, None] + draw.normal(0, 12, (224, 224, 3))
    Image.fromarray(ramp.clip(0, 255).astype(np.uint8)).save(place)
    _, _, (store, items, inputs) = prepared(photos, image_size=224)
    publish(store, items, inputs)
    gallery = Gallery(store, store.current())
    row = sorted(photos.rglob("*.png")).index(place)
    card = gallery.card(row)
    assert card.picture.startswith("data:image/jpeg;base64,")
    assert len(card.picture) < 12_000  # of 224 x 224 x 3 bytes
    content = base64.b64decode(card.picture.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        assert image.convert("L").getpixel((50, 5)) < image.convert("L").getpixel((50, 95)) - 100


def test_a_drawing_stays_a_small_png():
    assert picture_url(Image.new("L", (32, 32))).startswith("data:image/png;base64,")


def test_a_change_of_one_photo_writes_one_small_shard(photos, monkeypatch):
    size = 3 * SIDE * SIDE
    monkeypatch.setattr("remine.data.items.inputs.SHARD_BYTES", 10 * size)
    monkeypatch.setattr("remine.data.items.inputs.MIN_ROWS", 2)
    _, _, (store, items, inputs) = prepared(photos)
    assert [file.rows for file in inputs.files] == [10] * 4
    publish(store, items, inputs)
    (photos / "class 3" / "14.png").unlink()
    _, _, (_, _, grown) = prepared(photos)
    assert [file.rows for file in grown.files] == [10, 9, 10, 10]
    new_files = {file.sha256 for file in grown.files} - {file.sha256 for file in inputs.files}
    assert len(new_files) == 1


def test_rows_of_a_shard():
    assert shard_rows(1 << 20, 8192) == MIN_ROWS
    assert shard_rows(1 << 20, 5) == 5
    assert shard_rows(3 * 224 * 224, 8192) == SHARD_BYTES // (3 * 224 * 224)
    assert shard_rows(0, 8192) == shard_rows(1024, 8192) == 8192


def test_bytes_of_an_input():
    pictures = ImageTransform(side=224, channels=3)
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("black", "red")]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    assert input_bytes(pictures, [content.getvalue()]) == 3 * 224 * 224
    assert input_bytes(pictures, [b"no picture"]) == 0
    assert pictures.omissions.rows == 0  # counted once, when it is stored
    assert input_bytes(GramTransform(), ["a text"]) == 1024
