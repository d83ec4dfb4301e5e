"""Measuring while training: what is measured, that nothing moves, when a round stops or ends."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.types import EASY, HARD, KINDS, SEMI_HARD, Triplets
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import encoder_bytes, optimizer_bytes
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder
from remine.train.loop import Training
from remine.train.monitor.config import HealthConfig
from remine.train.monitor.health import RoundStoppedError
from remine.train.monitor.probe import Probe, sample_rows, sample_triplets
from remine.train.optimization.groups import make_optimizer

N, T = 80, 900
CONFIG = TrainConfig(steps=12, batch=16, save_every=5, learning_rate=0.01)
HEALTH = HealthConfig(every=3, sample=40, triplets=300, min_share=0, min_rank=0, min_spread=0)


class Killed(Exception):  # noqa: N818 - it is what happens, not what went wrong
    pass


def silent(step, loss, active):
    pass


@pytest.fixture
def dataset(tmp_path):
    """Pictures of eight classes, and triplets with the kinds that the untrained encoder sees."""
    rng = np.random.default_rng(0)
    codes = np.arange(N) % 8
    patterns = rng.integers(0, 256, (8, 1, 10, 10))[codes]
    inputs = ((patterns + rng.integers(0, 256, (N, 1, 10, 10))) // 2).astype(np.uint8)
    np.save(tmp_path / "inputs.npy", inputs)
    ids = np.arange(N) * 7 + 2**40
    encoder = build_encoder(EncoderConfig(width=8, dimensions=8), "image", (1, 10, 10), 0)
    with torch.no_grad():
        vectors = encoder.eval()(torch.from_numpy(inputs)).numpy().astype(np.float64)
    anchor = rng.integers(0, N, T)
    positive = (anchor + 8 * rng.integers(1, N // 8, T)) % N
    negative = (anchor + 8 * rng.integers(0, N // 8, T) + rng.integers(1, 8, T)) % N
    d_ap, d_an = (((vectors[anchor] - vectors[o]) ** 2).sum(axis=1) for o in (positive, negative))
    kind = np.where(d_an <= d_ap, HARD, np.where(d_an < d_ap + 0.2, SEMI_HARD, EASY))
    triplets = Triplets(
        anchor_id=ids[anchor],
        positive_id=ids[positive],
        negative_id=ids[negative],
        d_ap=d_ap.astype(np.float32),
        d_an=d_an.astype(np.float32),
        kind=kind.astype(np.int8),
        negative_rank=np.zeros(T, np.int32),
    )
    table = schemas.triplets_table(triplets)
    schemas.write(table, tmp_path / "triplets.parquet", schema="triplets/1", provenance={})
    return tmp_path, ids, triplets


def training(dataset, scratch, *, probe=True, config=CONFIG, health=HEALTH):
    folder, ids, _ = dataset
    encoder = build_encoder(EncoderConfig(width=8, dimensions=8), "image", (1, 10, 10), 0)
    paths, labels = [folder / "triplets.parquet"], (np.arange(N) % 8).astype(np.int64)
    kinds = ("semi_hard", "hard")
    return Training(
        encoder=encoder,
        optimizer=make_optimizer(encoder, config),
        loader=TripletLoader(paths=paths, kinds=kinds, batch=config.batch, seed=5),
        inputs=Inputs([folder / "inputs.npy"]),
        ids=ids,
        scratch=folder / scratch,
        device=torch.device("cpu"),
        probe=Probe(
            config=health,
            rows=sample_rows(labels, health.sample, 5),
            classes=8,
            triplets=sample_triplets(paths, kinds, health.triplets, 5, ids),
        )
        if probe
        else None,
    )


def outcome(round_):
    return encoder_bytes(round_.encoder), optimizer_bytes(round_.optimizer)


def test_measuring_changes_no_bit_of_the_weights(dataset):
    with_, without = training(dataset, "with"), training(dataset, "without", probe=False)
    history, plain = with_.run(CONFIG, silent), without.run(CONFIG, silent)
    assert outcome(with_) == outcome(without)  # weights, batch statistics, optimizer
    assert (history.loss, history.active) == (plain.loss, plain.active)
    assert [r["step"] for r in history.readings] == [0, 3, 6, 9, 12]
    assert plain.readings == []


def test_the_first_reading_is_of_what_was_mined(dataset):
    first, *later_readings = training(dataset, "first").run(CONFIG, silent).readings
    assert (first["stale"], first["drift"], first["overlap"]) == (0, 0, 1)
    assert (first["active"], first["loss"]) == (None, None)
    assert all(r["stale"] > 0 and r["drift"] > 0 and r["overlap"] < 1 for r in later_readings)


def test_a_reading_is_what_the_weights_then_give(dataset):
    folder, _, _ = dataset
    round_ = training(dataset, "last")
    inputs = np.load(folder / "inputs.npy")
    rows, triplets = round_.probe.rows, round_.probe.triplets
    with torch.no_grad():
        before = round_.encoder.eval()(torch.from_numpy(inputs)).numpy()
    history = round_.run(CONFIG, silent)
    with torch.no_grad():
        after = round_.encoder.eval()(torch.from_numpy(inputs)).double().numpy()
    last = history.readings[-1]
    assert last["drift"] == pytest.approx(((after - before)[rows] ** 2).sum(1).mean(), rel=1e-4)
    stale_count = 0
    for i in range(len(triplets)):
        a, p, n = (
            after[getattr(triplets, f"{r}_id")[i]] for r in ("anchor", "positive", "negative")
        )
        d_ap, d_an = ((a - p) ** 2).sum(), ((a - n) ** 2).sum()
        kind = HARD if d_an <= d_ap else SEMI_HARD if d_an < d_ap + 0.2 else EASY
        stale_count += kind != triplets.kind[i]
    assert last["stale"] == stale_count / len(triplets)
    assert last["loss"] == pytest.approx(np.mean(history.loss[9:]))
    assert last["active"] == pytest.approx(np.mean(history.active[9:]))


@pytest.mark.parametrize("last", [2, 6, 7, 11])
def test_a_killed_round_measures_the_same(dataset, last):
    def kill(step, _loss, _active) -> None:
        if step == last:
            raise Killed

    complete = training(dataset, "whole")
    history = complete.run(CONFIG, silent)
    with pytest.raises(Killed):
        training(dataset, "killed").run(CONFIG, kill)
    resumed_round = training(dataset, "killed")
    resumed_history = resumed_round.run(CONFIG, silent)
    assert vars(resumed_history) == vars(history)
    assert outcome(resumed_round) == outcome(complete)
    json.dumps(vars(resumed_history), allow_nan=False)


def test_stale_triplets_end_a_round_at_the_same_step_after_a_kill(dataset):
    slow = replace(CONFIG, learning_rate=0.0003)
    readings = training(dataset, "full", config=slow).run(slow, silent).readings
    limit = readings[1]["stale"]  # not passed by itself
    first, *_, last = [r["step"] for r in readings if r["stale"] > limit]
    assert (first, last) == (6, 12)
    config = replace(slow, refresh_when=limit, refresh_after=1)
    complete = training(dataset, "short", config=config)
    history = complete.run(config, silent)
    assert len(history.loss) == 6
    assert not complete.encoder.training
    later = replace(config, refresh_after=7)
    assert len(training(dataset, "later", config=later).run(later, silent).loss) == 9
    never_config = replace(config, refresh_when=0.0)
    assert len(training(dataset, "never", config=never_config).run(never_config, silent).loss) == 12

    def kill(step, _loss, _active) -> None:
        if step == 6:
            raise Killed

    with pytest.raises(Killed):
        training(dataset, "killed", config=config).run(config, kill)
    resumed_round = training(dataset, "killed", config=config)
    assert vars(resumed_round.run(config, silent)) == vars(history)
    assert outcome(resumed_round) == outcome(complete)


class Falling(torch.nn.Module):
    """An encoder that is real but for a constant that grows until all items lie in one place."""

    def __init__(self, encoder, period) -> None:
        super().__init__()
        self.inner, self.period, self.calls = encoder, period, 0
        self.push = torch.nn.Parameter(torch.eye(8)[0] * 1000, requires_grad=False)

    def features(self, inputs):
        self.calls += self.training
        low, high = self.period
        return self.inner.features(inputs) + self.push * (low <= self.calls <= high)

    def forward(self, inputs):
        return torch.nn.functional.normalize(self.features(inputs))


@pytest.mark.parametrize(
    ("period", "stops"),
    [((5, 99), 9), ((5, 7), None), ((0, 3), None), ((1, 99), 6), ((11, 99), 12)],
)
def test_two_low_readings_in_a_row_or_the_last_one_stop_a_round(dataset, period, stops):
    health = replace(HEALTH, min_spread=0.001)
    round_ = training(dataset, "falls", health=health)
    round_ = replace(round_, encoder=Falling(round_.encoder, period))
    if stops is None:
        assert len(round_.run(CONFIG, silent).loss) == 12
        return
    with pytest.raises(RoundStoppedError, match=f"^step {stops}: the spread of") as error_info:
        round_.run(CONFIG, silent)
    assert len(error_info.value.history["loss"]) == stops
    assert error_info.value.history["readings"][-1]["step"] == stops


def test_weights_that_are_no_numbers_stop_a_round(dataset):
    round_ = training(dataset, "nan")

    def spoil(step, _loss, _active) -> None:
        if step == 2:
            with torch.no_grad():
                next(round_.encoder.parameters()).fill_(float("nan"))

    with pytest.raises(RoundStoppedError, match=r"^step 3: the loss is nan"):
        round_.run(CONFIG, spoil)


def test_the_sample_of_triplets_is_of_the_round_and_of_all_of_it(dataset):
    folder, ids, triplets = dataset
    paths = [folder / "triplets.parquet"]
    rows = {
        name: np.searchsorted(ids, getattr(triplets, name))
        for name in triplets.columns()
        if name.endswith("id")
    }
    all_triplets = set(zip(*rows.values(), triplets.kind.tolist(), strict=True))
    sample = sample_triplets(paths, ("hard",), 100, 1, ids)
    assert len(sample) == 100
    assert set(sample.kind.tolist()) == {KINDS.index("hard")}
    columns = (sample.anchor_id, sample.positive_id, sample.negative_id, sample.kind.tolist())
    assert set(zip(*columns, strict=True)) <= all_triplets
    all_rows = sample_triplets(paths, KINDS, 10_000, 1, ids)
    np.testing.assert_array_equal(all_rows.anchor_id, rows["anchor_id"])
    assert sample_triplets(paths, (), 10, 1, ids) is None
    same_draw = sample_triplets(paths, ("hard",), 100, 1, ids)
    other_draw = sample_triplets(paths, ("hard",), 100, 2, ids)
    np.testing.assert_array_equal(same_draw.anchor_id, sample.anchor_id)
    assert (other_draw.anchor_id != sample.anchor_id).any()


def test_the_sample_of_items_is_of_those_trained_on():
    labels = np.where(np.arange(100) % 3, np.arange(100) % 7, -1)
    rows = sample_rows(labels, 30, 0)
    assert len(set(rows.tolist())) == 30
    assert (labels[rows] >= 0).all()
    assert (np.diff(rows) > 0).all()
    assert sample_rows(labels, 1000, 0).tolist() == np.flatnonzero(labels >= 0).tolist()
