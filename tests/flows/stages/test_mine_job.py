"""The mining stage in whole cycles: hub cap, gallery in parts, lists, barred pairs, processes."""

from collections.abc import Callable

import numpy as np
import pytest

from remine.data import schemas
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.data.types import SPLITS, Triplets
from remine.flows.api.mine_file import count_pairs
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.beam import beam_execute
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.stages.split import read_split
from remine.mining.miner import mine_problem
from remine.mining.problem import Problem, by_label

ONE_ROUND = ("run.rounds=1",)


def cycle(config_file, *overrides: str, execute=run_plain) -> tuple[Store, Version]:
    config = load_config(config_file, [*ONE_ROUND, *overrides])
    with prepared(config, execute, Console(quiet=True)) as (run, items, inputs):
        return Store(config.store), run_cycle(run, items, inputs)


def mined(store: Store, version: Version) -> Triplets:
    paths = store.paths(version.artifacts["triplets/round=0"])
    return schemas.triplets_from(schemas.read(paths, schema="triplets/1"))


def posed(store: Store) -> Problem:
    """What round 0 mined."""
    first = next(v for v in store.versions() if v.round == 0)
    artifacts = first.artifacts["embeddings"], first.artifacts["items"]
    return by_label(read_split(store, *artifacts, SPLITS.index("train")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, small_config: str) -> tuple[Store, Version]:
    path = tmp_path_factory.mktemp("plain") / "remine.toml"
    path.write_text(small_config)
    return cycle(path)


def test_the_stage_mines_what_one_call_does(plain, as_bytes):
    store, version = plain
    artifact = version.artifacts["triplets/round=0"]
    assert len(artifact.files) > 2
    settings = {**artifact.card["settings"], "same_as": ""}
    config = load_config(None).mining
    assert settings.pop("unit_anchors") == 200
    complete = mine_problem(posed(store), config, settings.pop("seed"))
    assert as_bytes(mined(store, version)) == as_bytes(complete.triplets)
    for name in ("answered", "none_exists", "not_found", "kinds"):
        assert artifact.card[name] == dict(vars(complete.stats)[name])


def test_a_gallery_in_parts_gives_the_same_bits(config_file, plain, as_bytes):
    store, version = cycle(config_file, "mining.memory_gb=0.00002")
    artifact = version.artifacts["triplets/round=0"]
    assert artifact.card["shards"] > 2
    assert "cut in shards" in artifact.card["reason"]
    assert as_bytes(mined(store, version)) == as_bytes(mined(*plain))
    assert not list((store.root / "tmp").iterdir())
    for name in ("answered", "none_exists", "not_found", "pairs"):
        assert artifact.card[name] == plain[1].artifacts["triplets/round=0"].card[name]


@pytest.mark.parametrize("parts", [(), ("mining.memory_gb=0.00002",)])
def test_no_item_serves_more_often_than_the_cap(config_file, plain, as_set, parts):
    store, version = cycle(config_file, "mining.hub_cap=3", *parts)
    triplets, everything = mined(store, version), mined(*plain)
    _, counts = np.unique(triplets.negative_id, return_counts=True)
    before = np.unique(everything.negative_id, return_counts=True)[1]
    assert counts.max() == 3 < before.max()
    assert as_set(triplets) <= as_set(everything)
    # Each item serves as often as it may: the cap takes nothing from those below it.
    assert len(triplets) == np.minimum(before, 3).sum()
    card = version.artifacts["triplets/round=0"].card
    assert card["capped"] == len(everything) - len(triplets)
    assert version.artifacts["triplets/round=0"].rows == len(triplets)


def test_the_cap_does_not_depend_on_the_units(config_file, tmp_path, as_bytes):
    one = mined(*cycle(config_file, "mining.hub_cap=3"))
    two = mined(
        *cycle(
            config_file, "mining.hub_cap=3", "mining.unit_anchors=99",
            f'run.store="{tmp_path / "other"}"',
        )
    )  # fmt: skip
    assert as_bytes(one) == as_bytes(two)


def test_pairs_of_the_same_thing_are_never_negatives(config_file, plain):
    everything = mined(*plain)
    pairs = np.unique(np.stack([everything.anchor_id, everything.negative_id], axis=1), axis=0)[::7]
    lines = "\n".join(f"{a},{b}" for a, b in pairs.tolist())
    (config_file.parent / "same.csv").write_text(f"a,b\n{lines}\n")
    triplets = mined(*cycle(config_file, "mining.same_as=same.csv"))
    result = set(zip(triplets.anchor_id.tolist(), triplets.negative_id.tolist(), strict=True))
    bars = {(a, b) for a, b in pairs.tolist()} | {(b, a) for a, b in pairs.tolist()}
    assert len(result) > 100
    assert not result & bars


def test_an_index_with_lists_is_prepared_once_and_opened_by_the_workers(config_file, plain, as_set):
    store, version = cycle(config_file, 'mining.engine="faiss:IVF4,Flat"')
    card = version.artifacts["triplets/round=0"].card
    assert card["engine"] == "faiss"
    assert card["recall"]["negatives"] >= 0.998
    triplets = mined(store, version)
    assert len(as_set(triplets) & as_set(mined(*plain))) >= 0.98 * len(triplets)


def test_two_processes_leave_the_same_bits(config_file, plain, as_bytes):
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    execute: Callable = beam_execute("BundleBasedDirectRunner", flags)
    store, version = cycle(config_file, execute=execute)
    assert as_bytes(mined(store, version)) == as_bytes(mined(*plain))

    assert version.digest == plain[1].digest


@pytest.mark.parametrize("memory", [8, 0.00002])
def test_a_plan_counts_the_pairs_and_the_guard_holds_in_parts(config_file, as_bytes, memory):
    guard = "mining.positive_duplicate=0.01"
    store, version = cycle(config_file, guard, f"mining.memory_gb={memory}")
    card = version.artifacts["triplets/round=0"].card
    config = load_config(config_file, [guard])
    assert count_pairs(config, None).pairs == card["pairs"]
    assert (card["shards"] > 1) == (memory < 1)
    assert card["positive_copies"] == 0
    expected = mine_problem(posed(store), config.mining, seed=card["settings"]["seed"])
    assert as_bytes(mined(store, version)) == as_bytes(expected.triplets)
