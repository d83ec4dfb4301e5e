"""Settings that contradict one another are refused with the reason; the rest are taken."""

import pytest

from remine.data.errors import InputError
from remine.train.config import TrainConfig
from remine.train.losses.config import (
    AngularConfig,
    ContrastiveConfig,
    HdmlConfig,
    L2SoftmaxConfig,
    LiftedConfig,
    LossesConfig,
    MarginConfig,
    NPairConfig,
    SymmetricalConfig,
    TripletConfig,
)

PK = {"batches": "pk"}
UNSQUARED = LossesConfig(triplet=TripletConfig(distance="unsquared"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "tripet"}, "train.loss is 'tripet'; known: contrastive, triplet, n_pair"),
        ({"batches": "kp"}, "train.batches is 'kp'; known: triplets, pk"),
        ({"synthesis": "gan"}, "train.synthesis is 'gan'; known: none, symmetrical, hdml, daml"),
        ({**PK, "per_class": 1}, "with one item a class no item has a positive"),
        ({**PK, "loss": "n_pair", "per_class": 1}, "the loss n_pair learns from pairs"),
        ({**PK, "batch": 95}, "a PK batch is a whole number of classes"),
        ({**PK, "batch": 4}, "two or more, of per_class items each"),
        ({"margin": 3.0, "losses": UNSQUARED}, "an unsquared distance on unit vectors, 0 to 2"),
        ({"margin": 5.0}, "train.margin is 5.0; it is a squared distance"),
        ({"loss": "n_pair", "miner": "batch_hard"}, "the loss n_pair takes the batch as it is"),
        ({**PK, "loss": "softmax", "memory": 9}, "the loss softmax takes the batch as it is"),
        ({"memory": 9}, "mined triplets taken as they come need no further candidates"),
        ({"memory": -1}, "train.memory is -1"),
        ({**PK, "synthesis": "symmetrical", "memory": 9}, "does not reach into a memory"),
        ({"synthesis": "symmetrical", "loss": "margin"}, "it replaces the negatives of triplet"),
        ({"synthesis": "symmetrical", "miner": "random"}, "it takes the hardest of 16 points"),
        ({"synthesis": "hdml", "loss": "n_pair"}, "it makes negatives of triplets"),
        ({**PK, "synthesis": "daml"}, "name a train.miner that chooses one"),
        ({"synthesis": "daml", "miner": "batch_all"}, "name a train.miner that chooses one"),
        ({"losses": LossesConfig(pml=("a=1",))}, "train.losses.pml is set, and train.loss is"),
    ],
)
def test_contradictions(settings, message):
    with pytest.raises(InputError) as refusal:
        TrainConfig(**settings)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (ContrastiveConfig, {"margin": 2.5}, "it is an unsquared distance on unit vectors, 0 to 2"),
        (LiftedConfig, {"margin": 3.0}, "it is an unsquared distance"),
        (TripletConfig, {"distance": "cubed"}, "known: squared, unsquared"),
        (TripletConfig, {"form": "softer"}, "known: hinge, soft"),
        (NPairConfig, {"l2": -1.0}, "it must be 0 or more"),
        (NPairConfig, {"l2": float("nan")}, "it must be 0 or more"),
        (AngularConfig, {"degrees": 90.0}, "it must be above 0 and below 90"),
        (MarginConfig, {"alpha": 0.3, "beta": 0.2}, "must be above 0 and beta + alpha at most 2"),
        (MarginConfig, {"alpha": 0.3, "beta": 1.9}, "since both are an unsquared distance"),
        (L2SoftmaxConfig, {"probability": 1.0}, "it must be 0 to 1"),
        (SymmetricalConfig, {"alpha": 0.0}, "train.generators.symmetrical.alpha"),
        (HdmlConfig, {"hidden": 0}, "train.generators.hdml.hidden"),
    ],
)
def test_each_loss_checks_its_own_units(make, settings, message):
    with pytest.raises(InputError) as refusal:
        make(**settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**PK, "miner": "batch_hard", "losses": UNSQUARED, "margin": 2.0},
        {**PK, "loss": "softmax", "per_class": 1},
        {"loss": "pml:ArcFaceLoss", "losses": LossesConfig(pml=("margin=28.6",))},
        {"miner": "semi_hard", "memory": 1000},
        {"synthesis": "hdml"},
        {**PK, "synthesis": "daml", "miner": "semi_hard"},
        {"synthesis": "symmetrical", "loss": "lifted_structure", **PK},
    ],
)
def test_the_rest_is_taken(settings):
    TrainConfig(**settings)
