"""Which embeddings judge labels, on made-up starts and outcomes of training."""

import numpy as np
import pytest

from remine.data.types import Embeddings, unit
from remine.mining.label_judges import LEAST, choose_judge
from remine.mining.suspects import centroid_distances

CLASSES, SIZE, D = 30, 20, 32


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
    choice = choose_judge(start, distances(learnt, labels), in_train)
    assert choice.name == "start"
    assert choice.retained < 0.3
    assert choice.retained_others > 0.8
    assert choice.reason.startswith("training has learnt wrong labels: of the suspects before")


def test_the_trained_judges_where_it_did_not(world):
    rng, axes, true, labels, in_train = world
    noise = 1.2 * rng.standard_normal((len(true), D))
    start = distances(axes[true] + noise, labels)
    choice = choose_judge(start, distances(axes[true] + 0.9 * noise, labels), in_train)
    assert choice.name == "trained"
    assert choice.reason.startswith("training has not learnt wrong labels")


def test_the_trained_judges_where_the_start_tells_nothing(world):
    rng, axes, true, labels, in_train = world
    noise = rng.standard_normal((len(true), D))
    learnt = np.where(in_train[:, None], axes[labels] + 0.3 * noise, axes[true] + 0.5 * noise)
    choice = choose_judge(distances(noise, labels), distances(learnt, labels), in_train)
    assert not choice.start_tells_classes
    assert choice.name == "trained"
    assert "items not trained on were nearer to another class, now " in choice.reason


def test_the_start_judges_where_too_few_suspects_say_anything(world):
    _, axes, true, _, in_train = world
    start = distances(axes[true], true)  # no label is wrong, and no item is suspect
    choice = choose_judge(start, start, in_train)
    assert choice.suspects < LEAST
    assert choice.name == "start"
    assert choice.reason.startswith("too few suspects")


def test_items_that_are_alone_in_their_class_do_not_count(world):
    rng, axes, true, labels, in_train = world
    start = distances(axes[true] + rng.standard_normal((len(true), D)), labels)
    lone = labels.copy()
    lone[~in_train] = np.arange(1000, 1000 + (~in_train).sum())
    alone = distances(axes[true], lone)
    choice = choose_judge(alone, alone, in_train)
    assert choice.start_misfits == choice.trained_misfits == 0
    assert choice.name == "start"
    assert 0 < choose_judge(start, start, in_train).start_misfits < 1
