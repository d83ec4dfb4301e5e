"""Health of a cycle: what it leaves, what it shows, and what a real collapse does."""

import json
from typing import Any

import pandas as pd
import pytest
import torch

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import call_plain, prepared, run_cycle
from remine.flows.cycle.stopped_rounds import stop_of
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.report.cycle_page import write_report
from remine.flows.report.rounds_table import round_rows, round_table
from remine.flows.stages.split import read_split
from remine.index.overlap import neighbour_overlap
from remine.train.monitor.health import RoundStoppedError

PK = ("train.batches=pk", "train.miner=semi_hard")
# Offline hardest and a rate far too high: all falls into one place, here in round 1.
HARDEST = (
    "train.steps=40",
    "train.batch=32",
    'train.kinds=["hard"]',
    'mining.negatives=["hard"]',
    "health.every=5",
)
COLLAPSE = (*HARDEST, "train.learning_rate=0.3", "health.min_share=0.2", "run.rounds=3")
AT_ONCE = (
    *HARDEST,
    "train.learning_rate=1",
    "mining.positives=hardest",
    "health.min_share=0.3",
)
GENTLE = ("train.steps=6", "train.learning_rate=0.001")


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks, and a collapse that does not come and go with the machine's load."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cycle(config_file, *overrides: str, call=call_plain):
    config = load_config(config_file, overrides)
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        return Store(config.store), run_cycle(run, items, inputs, call)


def test_a_round_leaves_its_measurements(config_file):
    store, version = cycle(config_file, "health.every=2")
    frame = pd.read_parquet(store.root / "latest" / "training" / "round=1" / "health.parquet")
    assert frame["step"].tolist() == [0, 2, 4, 6]
    assert frame["stale"][0] == 0  # not a triplet has changed before the first step
    assert frame["stale"].between(0, 1).all()
    assert frame["drift"][0] == 0
    assert (frame["drift"][1:] > 0).all()
    assert frame.loc[1:, ["active", "loss"]].notna().all(axis=None)
    card = version.artifacts["training/round=1"].card
    assert card["health"]["last"]["stale"] == frame["stale"][3]
    rows = round_rows(version)
    assert [row.get("stale") is not None for row in rows] == [True, True, False]
    assert [row.get("overlap") is not None for row in rows] == [False, True, True]
    headers = [str(column.header) for column in round_table(version).columns]
    assert {"stale %", "overlap %"} <= set(headers)
    assert "steps" not in headers
    page = write_report(store, version).read_text()
    assert "Staleness and health" in page
    assert page.count("Change since the triplets were mined") == 1


def test_the_overlap_is_of_the_two_indexes(config_file):
    store, version = cycle(config_file)
    card = version.artifacts["health/round=2"].card
    older = next(v for v in store.versions() if v.round == 1)
    pair = [v.artifacts["embeddings"] for v in (older, version)]
    assert [card["before"], card["after"]] == [one.digest for one in pair]
    from remine.data import schemas

    share, _ = neighbour_overlap(*(schemas.read_embeddings(store.paths(one)) for one in pair))
    assert card["overlap"] == pytest.approx(share, abs=0.1)
    assert read_split(store, pair[0], version.artifacts["items"], 0)


def test_pk_rounds_have_no_stale_triplets(config_file):
    store, version = cycle(config_file, *PK)
    frame = pd.read_parquet(store.root / "latest" / "training" / "round=0" / "health.parquet")
    assert frame["stale"].isna().all()
    assert frame["effective_rank"].gt(1).all()
    headers = [str(column.header) for column in round_table(version).columns]
    assert "stale %" not in headers
    assert "Staleness and health" in write_report(store, version).read_text()


def test_nothing_need_be_measured(config_file):
    store, version = cycle(config_file, "health.every=0")
    names = [file.name for file in version.artifacts["checkpoint"].files]
    assert "health.parquet" not in names
    assert "Staleness and health" not in write_report(store, version).read_text()
    second = config_file.parent / "other"
    measured = cycle(config_file, f"run.store={second}")[1]
    pair = [v.artifacts["checkpoint"].files[0] for v in (version, measured)]
    assert pair[0] == pair[1]  # the weights, bit for bit


def test_stale_triplets_end_rounds_early(config_file):
    early = ("train.steps=40", "train.refresh_when=0.1", "train.refresh_after=4", "health.every=2")
    store, version = cycle(config_file, *early)
    cards = [version.artifacts[f"training/round={n}"].card for n in range(2)]
    assert all(4 <= card["round_steps"] < 40 for card in cards)
    assert all(card["health"]["last"]["stale"] > 0.1 for card in cards)
    assert version.artifacts["checkpoint"].card["steps"] == sum(c["round_steps"] for c in cards)
    first, second = (version.artifacts[f"triplets/round={n}"] for n in range(2))
    assert first.card["embeddings"] != second.card["embeddings"]
    write_report(store, version)


def test_a_collapse_stops_the_cycle_and_other_settings_go_on(config_file):
    with pytest.raises(RoundStoppedError, match=r"^round \d was stopped at step") as error:
        cycle(config_file, *COLLAPSE)
    message = str(error.value)
    assert "\n" not in message
    assert "the spread of the embedding went from" in message
    hints = 'mining.negatives = ["semi_hard"] with train.kinds = ["semi_hard"] or a smaller'
    assert f"; {hints} train.learning_rate than 0.3 would help; " in message
    store = Store(config_file.parent / "store")
    last = store.current()
    assert (last.cycle, last.finished) == (1, False)
    assert last.round  # so that a trained checkpoint is kept
    assert "The next round was stopped" in write_report(store, last).read_text()
    assert not list((store.root / "work").iterdir())

    # The same settings come to the same end, without training.
    ran = []

    def watched(stage: Any, *args: Any) -> Any:
        ran.append(stage.__name__)
        return stage(*args)

    before = {path.name for path in (store.root / "objects").iterdir()}
    with pytest.raises(RoundStoppedError) as repetition:
        cycle(config_file, *COLLAPSE, call=watched)
    assert str(repetition.value) == message
    assert {path.name for path in (store.root / "objects").iterdir()} == before
    assert ran.count("train") == last.round + 1

    # Other settings: the next cycle, from the last good checkpoint.
    _, version = cycle(config_file, *GENTLE)
    assert (version.cycle, version.round) == (2, 2)
    start = next(v for v in store.versions() if (v.cycle, v.round) == (2, 0))
    assert start.artifacts["checkpoint"] == last.artifacts["checkpoint"]
    assert version.artifacts["checkpoint"].card["steps"] == 40 * last.round + 2 * 6
    assert stop_of(store, version) is None
    _, third = cycle(config_file, *GENTLE)
    assert third.cycle == 3


def test_a_kill_in_the_cycle_after_a_collapse_resumes_it(config_file):
    def struck(stage: Any, *args: Any) -> Any:
        if stage.__name__ == "train":
            raise KeyboardInterrupt
        return stage(*args)

    with pytest.raises(RoundStoppedError):
        cycle(config_file, *AT_ONCE)
    with pytest.raises(KeyboardInterrupt):
        cycle(config_file, *GENTLE, call=struck)
    _, version = cycle(config_file, *GENTLE)
    assert (version.cycle, version.round) == (2, 2)
    store = Store(config_file.parent / "store")
    assert [(v.cycle, v.round) for v in store.versions()][::-1] == [
        (1, 0),
        (2, 0),
        (2, 1),
        (2, 2),
    ]


def test_the_command_says_why_in_one_line(config_file, remine):
    overrides = [part for one in AT_ONCE for part in ("--set", one)]
    ended = remine("run", "-c", config_file, *overrides, cwd=config_file.parent)
    assert ended.returncode == 1
    messages = [line for line in ended.stderr.splitlines() if line.startswith("remine: ")]
    assert len(messages) == 1
    assert messages[0].startswith("remine: round 0 was stopped at step")
    assert "Traceback" not in ended.stderr
    page = config_file.parent / "store" / "latest" / "report.html"
    assert "The next round was stopped" in page.read_text()
    log = (config_file.parent / "store" / "log.jsonl").read_text().splitlines()
    assert "stopped" in {json.loads(line)["event"] for line in log}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.refresh_when=0.5", "health.every=0"), "with health.every = 0 nothing is measured"),
        ((*PK, "train.refresh_when=0.5"), '"pk" uses none'),
        (
            ("train.refresh_when=1.5",),
            "train.refresh_when is 1.5; it must be at least 0 and below 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(config_file, overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(config_file, overrides)
