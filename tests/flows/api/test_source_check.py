"""`remine check`: a source in one screen, and nothing written."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from remine.data.errors import InputError
from remine.flows.api.source_check import MAX_FAULTS, check_source
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain


@pytest.fixture
def photos(tmp_path):
    """Ten classes: one of one picture, one of nine; two equal pictures under two labels."""
    draw = np.random.default_rng(0)
    for code in range(10):
        folder = tmp_path / "photos" / f"class {code}"
        folder.mkdir(parents=True)
        for number in range({0: 1, 1: 9}.get(code, 4)):
            pixels = draw.integers(0, 256, (10 + code % 2, 12), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    copy = (tmp_path / "photos" / "class 2" / "0.png").read_bytes()
    (tmp_path / "photos" / "class 3" / "0.png").write_bytes(copy)
    return tmp_path / "photos"


def lines(source, **data) -> list[str]:
    return check_source(load_config({"data": {"source": str(source), **data}})).lines


def test_one_screen_says_what_there_is(photos):
    text = "\n".join(lines(photos))
    assert "42 items of 10 classes, path, numbered in their order" in text
    assert "by a hash of the label; test classes are unseen" in text
    assert "1 to 9 items each, median 4" in text
    assert "42 pictures of mode L" in text
    assert "2 sizes, 12 to 12 wide, 10 to 11 high pixels; most are 12x11 (24)" in text
    assert "1 items repeat the content of another, 1 of them under another label" in text
    assert "1 classes have one item" in text
    assert text.endswith("bad        none")
    assert not list(photos.parent.glob("runs*"))


def test_test_items_of_one_class_are_unusual_and_said_before_a_run(tmp_path):
    rows = [f"{i},c{i % 4},{'test' if i % 4 == 3 else 'train'},text {i}" for i in range(24)]
    (tmp_path / "items.csv").write_text("\n".join(["id,label,split,text", *rows]))
    note = "test: all 6 items are of one class, so that retrieval among them is always 100 %"
    assert f"unusual    {note}" in "\n".join(lines(tmp_path / "items.csv"))
    for gallery, is_said in (("split", True), ("train", False)):
        settings = {"data": {"source": str(tmp_path / "items.csv")}}
        settings["run"] = {"store": str(tmp_path / gallery), "gallery": gallery}
        said: list[str] = []
        console = Console(quiet=True)
        console.on_line = said.append
        with prepared(load_config(settings), run_plain, console):
            assert (note in "\n".join(said)) == is_said
    (tmp_path / "items.csv").write_text("\n".join(["id,label,split,text", *rows, "99,d,test,d"]))
    assert "of one class, so" not in "\n".join(lines(tmp_path / "items.csv"))


def test_grey_among_colour_and_copies_across_splits_are_unusual(photos):
    assert "grey pictures" not in "\n".join(lines(photos))
    Image.new("RGB", (12, 10), "red").save(photos / "class 9" / "red.png")
    assert "unusual    42 grey pictures among coloured ones" in "\n".join(lines(photos))
    for split in ("train", "test"):
        for code in range(3):
            folder = photos.parent / "split" / split / f"{code}"
            folder.mkdir(parents=True)
            for number in range(2):
                is_copy = code == number == 0
                shade = 200 if is_copy else 50 * (split == "test") + 2 * code + number
                Image.new("L", (8, 8), shade).save(folder / f"{number}.png")
    text = "\n".join(lines(photos.parent / "split"))
    assert "1 test items have the content of an item in train" in text


def test_all_bad_items_are_counted_and_the_first_are_named(photos):
    for number in range(MAX_FAULTS + 2):
        (photos / "class 9" / f"bad{number:02d}.png").write_bytes(b"none")
    report = check_source(load_config({"data": {"source": str(photos)}}))
    assert report.n_faults == MAX_FAULTS + 2
    assert "bad00.png" in "\n".join(report.lines)
    assert report.lines[-1].endswith("and 2 more")


def test_what_is_left_out_is_counted(photos):
    assert "left out" not in "\n".join(lines(photos))
    (photos / "class 8" / "1.HEIC").write_bytes(b"none")
    frames = [Image.new("L", (12, 10), shade) for shade in (0, 255)]
    frames[0].save(photos / "class 9" / "film.gif", save_all=True, append_images=frames[1:])
    rows = [line for line in lines(photos) if line.startswith(("reading", "left out"))]
    assert rows == [
        f"reading    {photos}: 1 passed over: 1 .heic",
        "reading    .heic files would be read after: pip install pillow-heif",
        "left out   1 of 43 pictures: several frames or pages, of which only the first is read",
    ]


def test_texts_and_splits_of_the_data(tmp_path):
    rows = [
        f"{split},label {c},{'word ' * (c + 1)}x{n}"
        for split in ("train", "test")
        for c in range(12)
        for n in range(3)
    ]
    path = tmp_path / "texts.csv"
    path.write_text("split,label,text\n" + "\n".join(rows) + "\n")
    text = "\n".join(lines(path))
    assert "as the data names them; 12 test classes are also trained on" in text
    assert "texts of up to 8 words" in text
    assert "texts of up to 32 words" in text
    assert "no item is in the split val" in text


def test_a_large_class_is_told(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 4)).astype("f4"))
    labels = ["big"] * 24 + [f"c{n // 4}" for n in range(16)]
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n")
    text = "\n".join(lines(tmp_path / "v.npy", labels=str(tmp_path / "labels.txt")))
    assert "class 'big' holds 60% of the items" in text
    assert "40 vectors of 4 dimensions" in text


def test_the_command_ends_with_two_if_something_is_bad(photos):
    good = CliRunner().invoke(app, ["check", str(photos)])
    assert (good.exit_code, "42 items" in good.stdout) == (0, True)
    (photos / "class 9" / "bad.png").write_bytes(b"none")
    bad = CliRunner().invoke(app, ["check", str(photos)])
    assert (bad.exit_code, "not a readable picture" in bad.stdout) == (2, True)


def test_a_source_that_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        lines(tmp_path / "nothing")


def test_it_says_what_was_passed_over(tmp_path):
    rows = [(f"label {c}", f"text {c} {n}") for c in range(12) for n in range(3)]
    labels, texts = zip(*rows, strict=True)
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"label": labels, "text": texts}), tmp_path / "set/a.parquet")
    (tmp_path / "set/b.csv").touch()
    assert f"reading    {tmp_path}/set: passed over 1 .csv" in lines(tmp_path / "set")


def test_merged_spellings_of_labels_are_counted(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 4)).astype("f4"))
    labels = [f"c{n // 4}" + " " * (n % 2 and n < 8) for n in range(40)]
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n")
    text = "\n".join(lines(tmp_path / "v.npy", labels=str(tmp_path / "labels.txt")))
    assert "labels: 2 spelling(s) differ from others in white space or Unicode form only" in text
