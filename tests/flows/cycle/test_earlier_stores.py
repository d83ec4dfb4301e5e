"""A store that remine 0.1 made, before everything moved below the namespace `remine`.

store_0_1.tar.xz: one finished cycle of one round on 72 vectors in 12 classes, its config, and what
`remine search --id 3 -k 5 --json` of that version answered.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import remine
from remine.data.errors import InputError
from remine.data.store.integrity import verify
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.cycle.refresh import CYCLE, INDEX, decide
from remine.flows.cycle.status import lines, status
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.report.cycle_page import write_report


@pytest.fixture
def folder(tmp_path) -> Path:
    with tarfile.open(Path(__file__).with_name("store_0_1.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def run(folder: Path):
    config = load_config(folder / "remine.toml")
    with prepared(config, run_plain, Console(quiet=True)) as (cycle, items, inputs):
        return run_cycle(cycle, items, inputs)


def test_it_opens_and_answers_as_it_did(folder):
    version = remine.open(folder / "store")
    answers = version.search(id=3, k=5)
    (expected,) = json.loads((folder / "search_3.json").read_text())
    assert answers["id"].to_pylist() == [one["id"] for one in expected]
    distances = [one["distance"] for one in expected]
    np.testing.assert_allclose(answers["distance"].to_numpy(), distances, atol=1e-6)
    assert version.triplets().num_rows == 117
    assert len(version.history()) == 2
    vectors = np.load(folder / "vectors.npy")
    embeddings = version.encoder().encode(list(vectors))
    np.testing.assert_allclose(embeddings, version.embeddings().vectors, atol=1e-5)


def test_it_is_sound_and_has_its_page(folder):
    version = remine.open(folder / "store")
    report = verify(version.store, lambda _done, _total: None)
    assert not report.faults
    page = write_report(version.store, version.version)
    assert "R@1" in page.read_text()
    text = "\n".join(lines(status(load_config(folder / "remine.toml"))))
    assert "version 2, cycle 1, round 1 of 1, 72 items" in text


def test_the_next_cycle_goes_on_from_its_checkpoint(folder):
    old = remine.open(folder / "store").version
    new = run(folder)
    assert (new.number, new.cycle, new.round) == (4, 2, 1)
    # The encoder is the old one; the code that embeds is another.
    first = remine.open(folder / "store", version=3).version
    assert first.artifacts["checkpoint"] == old.artifacts["checkpoint"]
    # 0.1 had one val class here, by which nothing can be chosen: now each class gives up items.
    change = first.artifacts["items"].card["change"]
    assert (change["new"], change["changed"], change["deleted"]) == (0, 14, 0)
    assert first.artifacts["items"].card["splits"]["val"] == {"items": 20, "classes": 8}
    assert first.artifacts["inputs"].files == old.artifacts["inputs"].files
    assert new.artifacts["checkpoint"].card["steps"] == 8
    store_rows = pq.read_table(folder / "store" / "latest" / "triplets")
    assert store_rows.num_rows == remine.open(folder / "store").triplets().num_rows > 0


def test_a_store_copied_by_following_links_is_refused_before_anything_runs(folder):
    run(folder)
    copy = folder / "copy"
    shutil.copytree(folder / "store", copy, symlinks=False)
    config = load_config(folder / "remine.toml", [f'run.store="{copy}"'])
    before = sorted(copy.rglob("*"))
    with (
        pytest.raises(InputError, match="latest is a folder and not a link"),
        prepared(config, run_plain, Console(quiet=True)),
    ):
        pass
    log = copy / "log.jsonl"
    assert sorted(copy.rglob("*")) == before
    assert "latest is a folder" in log.read_text().splitlines()[-1]
    # What the message says repairs it.
    shutil.rmtree(copy / "latest")
    shutil.rmtree(copy / "served")
    shutil.rmtree(copy / "views")
    with prepared(config, run_plain, Console(quiet=True)) as (cycle, items, inputs):
        assert run_cycle(cycle, items, inputs).number == 6


def test_it_is_looked_at_before_a_run_is_decided(folder):
    """Its page is not in the archive; with it, the new val items are the only change."""
    config = load_config(folder / "remine.toml", ["refresh.train_share=0.5"])
    assert decide(config).action == CYCLE
    version = remine.open(folder / "store")
    write_report(version.store, version.version)
    decision = decide(config)
    assert decision.action == INDEX
    assert decision.change.to_json() == {"new": 0, "changed": 14, "deleted": 0, "same": 58}
