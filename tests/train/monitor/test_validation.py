"""Validation in a round: what is measured, which weights stay, when the round ends."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remine.train.checkpoint import encoder_bytes
from remine.train.history import IDLE_STEPS, History
from remine.train.monitor.health import RoundStoppedError, embed_for_evaluation
from remine.train.monitor.validation import Validation, class_sample

SCORES = [0.5, 0.4, 0.7, 0.6, 0.7, 0.1, 0.2, 0.3]
"""Of the start and of steps 2, 4, ...: the best is after step 4, its equal comes later."""


@pytest.fixture(scope="module")
def rounds():
    place = Path(__file__).parents[1] / "rounds.py"
    spec = importlib.util.spec_from_file_location("rounds", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["triplets", "memory"])
def case(rounds, request, tmp_path):
    """A round of 14 steps, validated every second one with the scores above, by weights."""
    rounds.lay_down(tmp_path, "image")
    config = replace(rounds.CONFIGS[request.param], steps=14, save_every=3, patience=0)
    by_weights: dict[bytes, float] = {}
    plain = rounds.training(tmp_path, "plain", "image", config)

    def note(step, _loss, _active) -> None:
        if step % 2 == 0:
            vectors = embed_for_evaluation(plain.encoder, torch.from_numpy(plain.inputs[rows]))
            by_weights[vectors.tobytes()] = SCORES[step // 2]

    rows = np.arange(0, rounds.N, 3)
    start = embed_for_evaluation(plain.encoder, torch.from_numpy(plain.inputs[rows]))
    by_weights[start.tobytes()] = SCORES[0]
    plain.run(config, note)
    validation = Validation(rows=rows, every=2, score=lambda v: by_weights[v.tobytes()])

    def make(scratch):
        round_ = rounds.training(tmp_path, scratch, "image", config)
        return replace(round_, validation=validation)

    return make, config


def silent(step, loss, active):
    pass


def test_the_round_ends_with_its_best_weights(case):
    make, config = case
    round_, short = make("whole"), make("short")
    history = round_.run(config, silent)
    assert history.val == [(2 * i, score) for i, score in enumerate(SCORES)]
    assert (history.best_step, history.stopped, len(history.loss)) == (4, None, 14)
    # Validating moved nothing: a round of four steps ends with the same weights and state.
    replace(short, validation=None).run(replace(config, steps=4), silent)
    assert encoder_bytes(round_.encoder) == encoder_bytes(short.encoder)
    assert round_.learner.to_bytes() == short.learner.to_bytes()


@pytest.mark.parametrize(("patience", "steps"), [(0, 14), (1, 2), (2, 8), (3, 10), (9, 14)])
def test_a_round_ends_when_validation_does_not_improve(case, patience, steps):
    make, config = case
    history = make("whole").run(replace(config, patience=patience), silent)
    assert len(history.loss) == steps
    assert history.stopped == ("val" if steps < 14 else None)


@pytest.mark.parametrize("last", [2, 5, 7, 13])
def test_a_killed_round_ends_with_the_same_weights(case, rounds, last):
    def kill(step, _loss, _active) -> None:
        if step == last:
            raise rounds.Killed

    make, config = case
    complete, resumed_round = make("whole"), make("killed")
    history = complete.run(config, silent)
    with pytest.raises(rounds.Killed):
        make("killed").run(config, kill)
    assert vars(resumed_round.run(config, silent)) == vars(history)
    assert encoder_bytes(resumed_round.encoder) == encoder_bytes(complete.encoder)
    assert resumed_round.learner.to_bytes() == complete.learner.to_bytes()


def test_embeddings_that_are_no_numbers_stop_the_round(case):
    make, _ = case
    round_ = make("bad")
    with torch.no_grad():
        next(round_.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(RoundStoppedError, match="not finite"):
        round_.validation.measure(round_.encoder, round_.inputs, round_.device)


def test_a_round_with_nothing_left_to_learn_ends():
    history = History(active=[0.5, *[0.0] * (IDLE_STEPS - 1)])
    assert not history.is_idle(0.01)
    assert history.is_idle(0.02)
    history.active.append(0.0)
    assert history.is_idle(0.0)
    assert not History(active=[0.0] * (IDLE_STEPS - 1)).is_idle(0.5)


def test_an_idle_round_is_cut_short(rounds, tmp_path):
    rounds.lay_down(tmp_path, "vector")
    config = replace(rounds.CONFIGS["triplets"], steps=60, margin=1e-7, idle_share=1.0)
    history = rounds.training(tmp_path, "idle", "vector", config).run(config, silent)
    assert (history.stopped, len(history.loss)) == ("idle", IDLE_STEPS)
    never = replace(config, idle_share=0.0)
    assert rounds.training(tmp_path, "never", "vector", never).run(never, silent).stopped is None


def test_the_sample_is_of_many_classes():
    labels = np.repeat(np.arange(6), [1, 40, 3, 50, 40, 30])
    labels[-30:] = -1  # of another split
    for seed in range(20):
        rows = class_sample(labels, 40, seed)
        classes, counts = np.unique(labels[rows], return_counts=True)
        assert dict(zip(classes.tolist(), counts.tolist(), strict=True)) == {
            1: 10,
            2: 3,
            3: 10,
            4: 10,
        }
        assert (np.diff(rows) > 0).all()
    assert len(class_sample(labels, 1000, 0)) == 133  # all but the class without a pair
    few = labels[class_sample(labels, 9, 0)]
    assert len(few) in (7, 8)  # two classes of four, or of the three that there are
    assert len(class_sample(labels, 2, 0)) == 2
    assert len(class_sample(np.array([0, 1, -1]), 5, 0)) == 0
    assert len({class_sample(labels, 9, seed).tobytes() for seed in range(9)}) > 1
