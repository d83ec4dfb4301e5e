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
        ({"loss": "tripet"}, "train.loss is 'tripet'; it must be one of contrastive, triplet"),
        ({"batches": "kp"}, "train.batches is 'kp'; it must be one of triplets, pk"),
        ({"synthesis": "gan"}, "train.synthesis is 'gan'; it must be one of none, symmetrical"),
        ({**PK, "per_class": 1}, "with one item per class no item has a positive"),
        ({**PK, "loss": "n_pair", "per_class": 1}, "which the loss n_pair needs"),
        ({**PK, "batch": 95}, "a PK batch consists of two or more classes"),
        ({**PK, "batch": 4}, "of per_class items each; make batch a multiple"),
        (
            {"margin": 3.0, "losses": UNSQUARED},
            "it must be at most 2 (unsquared Euclidean distance",
        ),
        ({"margin": 5.0}, "train.margin is 5.0; it must be above 0 and at most 4"),
        (
            {"loss": "n_pair", "miner": "batch_hard"},
            "the loss n_pair uses the whole batch: remove it",
        ),
        ({**PK, "loss": "softmax", "memory": 9}, "the loss softmax uses the whole batch"),
        ({"memory": 9}, "mined triplets used as they are need no further candidates"),
        ({"memory": -1}, "train.memory is -1"),
        (
            {**PK, "synthesis": "symmetrical", "memory": 9},
            "cannot use a memory: set train.memory = 0",
        ),
        (
            {"synthesis": "symmetrical", "loss": "margin"},
            "which works with the losses triplet, n_pair",
        ),
        (
            {"synthesis": "symmetrical", "miner": "random"},
            "which selects the hardest of 16 points itself",
        ),
        (
            {"synthesis": "hdml", "loss": "n_pair"},
            "which needs train.loss = \"triplet\"; it is 'n_pair'",
        ),
        ({**PK, "synthesis": "daml"}, "set a train.miner that selects one"),
        ({"synthesis": "daml", "miner": "batch_all"}, "set a train.miner that selects one"),
        ({"losses": LossesConfig(pml=("a=1",))}, "train.losses.pml is set, but train.loss is"),
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
        (
            ContrastiveConfig,
            {"margin": 2.5},
            "it must be above 0 and at most 2 (unsquared Euclidean distance)",
        ),
        (LiftedConfig, {"margin": 3.0}, "it must be above 0 and at most 2 (unsquared"),
        (TripletConfig, {"distance": "cubed"}, "it must be one of squared, unsquared"),
        (TripletConfig, {"form": "softer"}, "it must be one of hinge, soft"),
        (NPairConfig, {"l2": -1.0}, "it must be 0 or more"),
        (NPairConfig, {"l2": float("nan")}, "it must be 0 or more"),
        (AngularConfig, {"degrees": 90.0}, "it must be above 0 and below 90"),
        (MarginConfig, {"alpha": 0.3, "beta": 0.2}, "must be above 0 and beta + alpha at most 2"),
        (MarginConfig, {"alpha": 0.3, "beta": 1.9}, "the largest distance of unit vectors"),
        (L2SoftmaxConfig, {"probability": 1.0}, "it must be above 0 and below 1"),
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
