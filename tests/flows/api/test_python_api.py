"""`import remine`: what notebooks use, on a small store of pictures that are not square."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import remine
from remine.data.errors import InputError

TABLES = {
    "run": {"store": "store", "rounds": 1, "publish": "last"},
    "data": {"source": "pictures"},
    "encoder": {"width": 4, "dimensions": 8},
    "train": {"steps": 2, "batch": 8},
    "health": {"every": 0},
}
CLASSES, EACH, SIZE = 20, 6, (24, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of 24 x 16 pixels, a folder a class."""
    folder = tmp_path_factory.mktemp("api")
    draw = np.random.default_rng(0)
    for code in range(CLASSES):
        base = draw.integers(0, 256, (SIZE[1], SIZE[0]))
        (folder / "pictures" / f"class {code:02d}").mkdir(parents=True)
        for number in range(EACH):
            pixels = np.clip(base + draw.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(
                folder / "pictures" / f"class {code:02d}" / f"{number}.png"
            )
    return folder


@pytest.fixture(scope="module")
def version(folder) -> remine.StoreVersion:
    """The last version of a cycle that was run from Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        return remine.run(TABLES, ["train.steps=3"], quiet=True)


def test_a_cycle_from_a_dictionary(version, folder):
    assert version.number == 2
    assert version.version.config["train"]["steps"] == 3
    assert remine.open(folder / "store").number == 2
    assert remine.open(str(folder / "store"), version=1).number == 1
    assert version.history()["number"].to_pylist() == [2, 1]
    assert version.rounds()["round"].to_pylist() == [0, 1]
    assert "version 2" in repr(version)


def test_embeddings_are_those_of_the_encoder(version, folder):
    """The round trip: files through the encoder give the stored vectors."""
    embeddings, encoder = version.embeddings(), version.encoder()
    files = sorted((folder / "pictures").glob("*/*.png"))
    vectors = encoder.encode(files, batch=7)
    np.testing.assert_allclose(vectors, embeddings.vectors, atol=1e-5)
    assert embeddings.labels.tolist() == [file.parent.name for file in files]
    assert set(embeddings.splits) <= {"train", "val", "test"}
    # As bytes and as Pillow images, and as a torch module.
    mixture = [files[0].read_bytes(), Image.open(files[1]), str(files[2])]
    np.testing.assert_allclose(encoder.encode(mixture), embeddings.vectors[:3], atol=1e-5)
    assert isinstance(encoder, torch.nn.Module)
    assert encoder.transform(files[:2]).shape == (2, 1, SIZE[1], SIZE[0])
    with torch.no_grad():
        repetition = encoder(encoder.transform(files[:2]).to(next(encoder.parameters()).device))
    np.testing.assert_allclose(repetition.cpu().numpy(), embeddings.vectors[:2], atol=1e-5)


def test_search_by_every_kind_of_query(version, folder):
    embeddings = version.embeddings()
    distances = 2 - 2 * embeddings.vectors @ embeddings.vectors.T
    for query in (5, 77):
        order = np.argsort(distances[query], kind="stable")
        nearest = [row for row in order if row != query][:4]
        answers = version.search(id=query, k=4)
        assert answers["id"].to_pylist() == embeddings.ids[nearest].tolist()
        assert answers["rank"].to_pylist() == [1, 2, 3, 4]
        np.testing.assert_allclose(
            answers["distance"].to_numpy(), distances[query, nearest], atol=1e-5
        )
    file = sorted((folder / "pictures").glob("*/*.png"))[5]
    for image in (file, str(file), file.read_bytes(), Image.open(file)):
        assert version.search(image=image, k=1)["id"].to_pylist() == [5]
    several = version.search(vector=3 * embeddings.vectors[[5, 77]], k=1)
    assert several["id"].to_pylist() == [5, 77]
    assert several["query"].to_pylist() == [0, 1]
    only = version.search(id=[5], k=3, labels=["class 03"])
    assert set(only["label"].to_pylist()) == {"class 03"}


def test_triplets_are_those_of_the_parquet_files(version, folder):
    triplets = version.triplets()
    store_rows = pq.read_table(folder / "store" / "latest" / "triplets")
    assert triplets.num_rows == store_rows.num_rows > 0
    assert triplets.to_pandas()["anchor_id"].is_monotonic_increasing
    hard, remainder = (
        version.triplets(round=0, kind="hard"),
        version.triplets(kind=["semi_hard", "easy"]),
    )
    assert set(hard["kind"].to_pylist()) == {"hard"}
    assert hard.num_rows + remainder.num_rows == triplets.num_rows


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda v: v.search(), "exactly one of id, image, text, vector"),
        (lambda v: v.search(id=1, text="a"), r"exactly one of .* \(got 2\)"),
        (lambda v: v.search(id=10**6), "no item 1000000"),
        (lambda v: v.search(text="a"), "the items are pictures, not texts"),
        (lambda v: v.search(vector=[1.0, 2.0]), "the index holds vectors of 8"),
        (lambda v: v.search(vector=[0.0] * 8), "vector 0: .* all zeros"),
        (lambda v: v.search(image=b"none"), "image 0: not a readable picture"),
        (lambda v: v.search(id=1, labels=["nobody"]), "no label 'nobody'"),
        (lambda v: v.triplets(round=7), "round"),
        (lambda v: v.triplets(kind="harder"), "no kind 'harder'"),
        (lambda v: v.search(id=3.7), "id is 3.7; give whole numbers"),
        (lambda v: v.search(id="a"), "no item 'a' in the index: its ids are integers"),
        (lambda v: v.search(id=[1, "a"]), "id is .*; give whole numbers"),
        (lambda v: v.search(vector="a"), "vector is 'a'; give numbers"),
        (lambda v: v.encoder().encode("a.png"), "give a list"),
        (lambda v: v.encoder().encode([]), "no contents"),
        (lambda v: v.encoder().encode([b"x"]), "content 0: not a readable picture"),
    ],
)
def test_bad_questions_are_refused_in_one_line(version, ask, message):
    with pytest.raises(InputError, match=message) as refusal:
        ask(version)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("version")
def test_bad_stores_and_settings_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no store at"):
        remine.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="version 9"):
        remine.open(folder / "store", version=9)
    with pytest.raises(InputError, match="version a whole number"):
        remine.open(folder / "store", version="1")
    with pytest.raises(InputError, match="give a list of texts"):
        remine.run(TABLES, "train.steps=3")
    with pytest.raises(InputError, match="unknown key"):
        remine.run({"run": {"stores": "x"}})
    with pytest.raises(InputError, match="does not exist"):
        remine.run(tmp_path / "nothing.toml")


def test_a_run_inside_an_event_loop_and_only_if_needed(version, folder, recwarn):
    """As a notebook does it: a loop is running, and nothing is left unawaited."""
    tables = TABLES | {"run": TABLES["run"] | {"store": folder / "loop"}}

    async def run_twice() -> list[int]:
        first = remine.run(tables, quiet=True)
        return [first.number, remine.run(tables, if_needed=True, quiet=True).number]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        before = dict(os.environ)
        assert asyncio.run(run_twice()) == [2, 2]
        # The server that it ran on is gone: no child process may look for it.
        assert dict(os.environ) == before
    assert version.number == 2
    assert not [w for w in recwarn if "never awaited" in str(w.message)]


def test_a_star_import_leaves_the_built_in_open():
    names = {}
    exec("from remine import *", names)
    assert "open" not in names
    assert names["mine"] is remine.mine


def test_importing_remine_loads_nothing_heavy():
    program = (
        "import sys, remine; dir(remine); remine.MiningConfig\n"
        "heavy = ('torch', 'prefect', 'faiss', 'apache_beam', 'numba')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'serve'"):
        remine.serve  # noqa: B018
