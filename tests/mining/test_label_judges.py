"""Which embeddings judge labels, on made-up starts and outcomes of training."""

import numpy as np
import pytest

from remine.data.types import Embeddings, unit
from remine.mining.label_judges import LEAST, choose_judge
from remine.mining.suspects import centroid_distances

CLASSES, SIZE, D = 30, 20, 32
SAME = (0.6, 0.65)
"""MAP@R before and after training that moved little."""


@pytest.fixture
def world():
    """True classes, given labels of which 5 % are wrong, and which items are trained on."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(CLASSES), SIZE)
    in_train = true < 20
    labels = true.copy()
    for row in rng.choice(len(true), len(true) // 20, replace=False):
        side = np.arange(20) if in_train[row] else np.arange(20, CLASSES)
        labels[row] = rng.choice(side[side != true[row]])
    axes = rng.standard_normal((CLASSES, D))
    return rng, axes, true, labels, in_train


def distances(vectors, labels):
    vectors = unit(np.asarray(vectors, np.float32))
    ids = np.arange(len(labels))
    codes = labels.astype(np.int32)
    return centroid_distances(Embeddings(ids=ids, label_codes=codes, vectors=vectors))


def test_the_start_judges_where_training_learnt_wrong_labels(world):
    rng, axes, true, labels, in_train = world
    noise = 1.2 * rng.standard_normal((len(true), D))
    start = distances(axes[true] + noise, labels)
    learnt = np.where(in_train[:, None], axes[labels] + 0.3 * noise, axes[true] + 0.9 * noise)
    choice = choose_judge(start, distances(learnt, labels), in_train, SAME)
    assert choice.name == "start"
    assert choice.retained < 0.3
    assert choice.retained_others > 0.8
    assert choice.reason.startswith("training has learnt wrong labels: of the items suspected")


def test_the_trained_judges_where_it_did_not(world):
    rng, axes, true, labels, in_train = world
    noise = 1.2 * rng.standard_normal((len(true), D))
    start = distances(axes[true] + noise, labels)
    choice = choose_judge(start, distances(axes[true] + 0.9 * noise, labels), in_train, SAME)
    assert choice.name == "trained"
    assert choice.reason.startswith("training has not learnt wrong labels")


def test_the_trained_judges_where_the_start_tells_nothing(world):
    rng, axes, true, labels, in_train = world
    noise = rng.standard_normal((len(true), D))
    learnt = np.where(in_train[:, None], axes[labels] + 0.3 * noise, axes[true] + 0.5 * noise)
    pair = distances(axes[true] + noise, labels), distances(learnt, labels)
    assert choose_judge(*pair, in_train, SAME).name == "start"
    choice = choose_judge(*pair, in_train, (0.1, 0.5))
    assert not choice.start_tells_classes
    assert choice.name == "trained"
    assert "MAP@R of the items not trained on was 10.0 %, now 50.0 %" in choice.reason
    assert choose_judge(*pair, in_train, (0.1, 0.45)).name == "start"


def test_the_start_judges_where_too_few_suspects_say_anything(world):
    _, axes, true, _, in_train = world
    start = distances(axes[true], true)  # no label is wrong, and no item is suspect
    choice = choose_judge(start, start, in_train, SAME)
    assert choice.suspects < LEAST
    assert choice.name == "start"
    assert choice.reason.startswith("too few suspects")


def test_items_that_are_alone_in_their_class_are_no_suspects(world):
    _, axes, true, labels, in_train = world
    lone = labels.copy()
    lone[~in_train] = np.arange(1000, 1000 + (~in_train).sum())
    alone = distances(axes[true], lone)
    choice = choose_judge(alone, alone, in_train, SAME)
    assert (choice.suspects, choice.retained_others) == (0, 0)
    assert choice.name == "start"
