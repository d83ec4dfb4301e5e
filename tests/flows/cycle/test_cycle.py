"""A whole cycle as plain functions: right triplets, and the same ones after a kill anywhere."""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remine.data import schemas
from remine.data.errors import StoreBusyError
from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.types import HARD, SEMI_HARD, SPLITS
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import call_plain, finished_without_page, prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.report.cycle_page import write_report
from remine.flows.stages import prepare
from remine.flows.stages.split import read_split


class StruckError(Exception):
    """Stands for a kill."""


def cycle(config_file: Path, call: Any = call_plain, *overrides: str) -> Version:
    config = load_config(config_file, overrides)
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        return run_cycle(run, items, inputs, call)


def mined(version: Version) -> list[Artifact]:
    return [a for name, a in sorted(version.artifacts.items()) if name.startswith("triplets/")]


@pytest.fixture(scope="module")
def reference_run(
    tmp_path_factory: pytest.TempPathFactory, small_config: str
) -> tuple[Store, Version]:
    path = tmp_path_factory.mktemp("undisturbed") / "remine.toml"
    path.write_text(small_config)
    version = cycle(path)
    return Store(path.parent / "store"), version


def test_every_round_is_published(reference_run):
    store, version = reference_run
    rounds = [(v.cycle, v.round, v.finished) for v in store.versions()]
    assert rounds == [(1, 2, True), (1, 1, False), (1, 0, False)]
    assert store.current().digest == version.digest
    assert version.artifacts["index"].card["checkpoint"] == version.artifacts["checkpoint"].digest
    checkpoints = {v.artifacts["checkpoint"].digest for v in store.versions()}
    assert len(checkpoints) == 3


def test_triplets_are_right_by_brute_force(reference_run):
    store, version = reference_run
    first = next(v for v in store.versions() if v.round == 0)
    gallery = read_split(
        store, first.artifacts["embeddings"], first.artifacts["items"], SPLITS.index("train")
    )
    paths = store.paths(mined(version)[0])
    triplets = schemas.triplets_from(schemas.read(paths, schema="triplets/1"))
    wide = gallery.vectors.astype(np.float64)
    distances = np.stack([((wide - v) ** 2).sum(axis=1) for v in wide])
    a, p, n = (
        np.searchsorted(gallery.ids, ids)
        for ids in (triplets.anchor_id, triplets.positive_id, triplets.negative_id)
    )
    codes = gallery.label_codes
    assert ((codes[a] == codes[p]) & (a != p) & (codes[a] != codes[n])).all()
    np.testing.assert_allclose(triplets.d_ap, distances[a, p], atol=1e-5)
    np.testing.assert_allclose(triplets.d_an, distances[a, n], atol=1e-5)
    hard, semi = triplets.kind == HARD, triplets.kind == SEMI_HARD
    assert (hard | semi).all()
    assert (triplets.d_an[hard] <= triplets.d_ap[hard]).all()
    assert (triplets.d_an[semi] > triplets.d_ap[semi]).all()
    assert (triplets.d_an[semi] < triplets.d_ap[semi] + np.float32(0.2)).all()
    # Nothing lies nearer than a hard negative, nothing between a semi-hard one and the positive.
    rounded = distances.astype(np.float32)
    for row in range(len(triplets)):
        negatives = rounded[a[row]][codes != codes[a[row]]]
        floor = -1 if hard[row] else triplets.d_ap[row]
        assert negatives[negatives > floor].min() == triplets.d_an[row]
        assert (negatives < triplets.d_an[row]).sum() == triplets.negative_rank[row]


def test_counts_add_up(reference_run):
    _, version = reference_run
    for artifact in mined(version):
        card = artifact.card
        assert artifact.rows == sum(card["answered"].values())
        for kind, count in card["answered"].items():
            assert count + card["none_exists"][kind] == card["pairs"]


def test_a_second_run_is_the_next_cycle_from_the_last_checkpoint(config_file):
    first = cycle(config_file)
    second = cycle(config_file)
    assert (second.cycle, second.round) == (2, 2)
    store = Store(config_file.parent / "store")
    start = next(v for v in store.versions() if (v.cycle, v.round) == (2, 0))
    assert start.artifacts["checkpoint"] == first.artifacts["checkpoint"]
    assert start.artifacts["embeddings"] == first.artifacts["embeddings"]


def test_a_kill_before_the_page_leaves_the_page_to_the_next_run(config_file):
    version = cycle(config_file, call_plain, "run.rounds=1")
    store = Store(config_file.parent / "store")
    shutil.rmtree(store.root / "views" / "00000002")  # a kill before the view was laid out
    with prepared(load_config(config_file), run_plain, Console(quiet=True)) as (run, items, _):
        assert finished_without_page(run, items) is None  # two rounds: the next cycle is wanted
    config = load_config(config_file, ["run.rounds=1"])
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, _):
        other_items = replace(items, card={**items.card, "content": "text"})
        assert finished_without_page(run, other_items) is None
        assert finished_without_page(run, items).digest == version.digest
        write_report(store, version)
        assert finished_without_page(run, items) is None
    assert (store.root / "latest" / "report.html").exists()


def test_any_version_has_a_page(reference_run):
    store, _ = reference_run
    shutil.rmtree(store.root / "views" / "00000001")
    assert write_report(store, store.version(1)).exists()
    assert (store.root / "latest").resolve().name == "00000003"


def test_a_published_round_that_was_not_laid_out_is_when_its_cycle_goes_on(config_file):
    def struck(stage: Any, *args: Any) -> Artifact:
        if stage.__name__ == "train":
            raise StruckError
        return stage(*args)

    with pytest.raises(StruckError):
        cycle(config_file, struck)
    views = config_file.parent / "store" / "views"
    shutil.rmtree(views / "00000001")
    cycle(config_file)
    assert (views / "00000001").exists()
    assert (views.parent / "latest").resolve().name == "00000003"


def test_another_encoder_starts_afresh(config_file):
    cycle(config_file, call_plain, "run.rounds=1")
    second = cycle(config_file, call_plain, "run.rounds=1", "encoder.dimensions=8")
    assert second.artifacts["checkpoint"].card["steps"] == 6


@pytest.mark.parametrize("strike", [0, 3, 4, 7, 9, 12])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_strike_at_any_stage_changes_nothing(config_file, reference_run, strike, when):
    calls = 0

    def struck(stage: Any, *args: Any) -> Artifact:
        nonlocal calls
        calls += 1
        if when == "before" and calls == strike + 1:
            raise StruckError
        artifact = stage(*args)
        if when == "after" and calls == strike + 1:
            raise StruckError
        return artifact

    with pytest.raises(StruckError):
        cycle(config_file, struck)
    assert cycle(config_file).digest == reference_run[1].digest


ALONE = """
import sys
from pathlib import Path
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.job import run_plain
with prepared(load_config(Path(sys.argv[1])), run_plain, Console(quiet=True)) as run:
    run_cycle(*run)
"""


@pytest.mark.parametrize("seconds", [0.05, 0.4, 0.9])
def test_kill_nine_and_again_gives_the_same_bits(config_file, reference_run, seconds):
    process = subprocess.Popen([sys.executable, "-c", ALONE, str(config_file)])
    log = config_file.parent / "store" / "log.jsonl"
    while not log.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    # It was killed, or was faster than that; a program that fails would leave nothing to resume.
    assert process.wait() in (-signal.SIGKILL, 0)
    assert log.exists()
    version = cycle(config_file)
    assert version.digest == reference_run[1].digest
    store = Store(config_file.parent / "store")
    assert not list((store.root / "tmp").iterdir())
    for artifact in version.artifacts.values():
        store.paths(artifact)


KILLED_WHEN_MADE = """
import os
from remine.data.items import shards
shards.StagedItems.commit = lambda *_: os._exit(9)
"""


def test_a_kill_when_the_store_is_just_made_leaves_nothing_beside_it(config_file):
    """The shards were laid down beside it, where no later run lays any."""
    folder = config_file.parent
    code = [sys.executable, "-c", KILLED_WHEN_MADE + ALONE, str(config_file)]
    assert subprocess.run(code, check=False).returncode == 9
    assert list(folder.glob(".remine-*/*.npy"))
    assert (folder / "store" / "FORMAT").exists()
    assert cycle(config_file).finished
    assert not list(folder.glob(".remine-*"))


def test_two_cycles_at_once_are_refused(config_file):
    config = load_config(config_file)
    with prepared(config, run_plain, Console(quiet=True)):
        holder = subprocess.run(
            [sys.executable, "-c", ALONE, str(config_file)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert holder.returncode == 1
    assert "one cycle at a time" in holder.stderr.splitlines()[-1]


def test_a_first_cycle_that_another_overtook_says_so(config_file, monkeypatch):
    """In a folder that is there already both lay down their shards in its tmp."""
    root = config_file.parent / "store"
    root.mkdir()
    real = prepare.stage_items

    with ExitStack() as second:

        def overtaken(*args: Any) -> Any:
            second.enter_context(Store(root, create=True).lock())
            return real(*args)

        monkeypatch.setattr(prepare, "stage_items", overtaken)
        with pytest.raises(StoreBusyError, match="was created by another cycle at the same time"):
            cycle(config_file)
    monkeypatch.undo()
    assert cycle(config_file).finished


def test_a_file_that_is_missing_is_told_as_such(config_file, monkeypatch):
    """No other cycle is there, so none overtook."""
    (config_file.parent / "store").mkdir()

    def cleaned(*_: Any) -> Any:
        Store(config_file.parent / "store", create=True)
        raise FileNotFoundError("somebody cleaned tmp")

    monkeypatch.setattr(prepare, "stage_items", cleaned)
    with pytest.raises(FileNotFoundError, match="cleaned"):
        cycle(config_file)


def test_the_view_reads_with_pandas_and_duckdb(reference_run):
    import duckdb
    import pandas as pd

    store, version = reference_run
    folder = store.root / "latest" / "triplets"
    frame = pd.read_parquet(folder)
    total = sum(artifact.rows for artifact in mined(version))
    assert len(frame) == total
    assert set(frame["round"].astype(int)) == {0, 1}
    result = duckdb.sql(f"SELECT count(*) FROM '{folder}/*/*.parquet'").fetchall()
    assert result == [(total,)]


def test_items_name_their_labels(reference_run):
    store, version = reference_run
    result = read_catalogue(store, version.artifacts["items"])
    table = schemas.read(
        store.paths(version.artifacts["items"])[:-1], schema="items/1", columns=["label"]
    )
    assert [result.labels[code] for code in result.label_codes] == table["label"].to_pylist()
