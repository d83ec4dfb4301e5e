"""Configuration of losses and of the synthesis of negatives."""

from dataclasses import field
from typing import Annotated, Literal, get_args

from pydantic import Field

from remine.data.config_table import UnsquaredDistance, Weight, config_table
from remine.data.errors import InputError

Loss = Literal[
    "contrastive",
    "triplet",
    "n_pair",
    "lifted_structure",
    "angular",
    "margin",
    "softmax",
    "l2_softmax",
]
Synthesis = Literal["none", "symmetrical", "hdml", "daml"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
SYNTHESES: tuple[Synthesis, ...] = get_args(Synthesis)[1:]

LearningRate = Annotated[float, Field(gt=0, le=1)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Factor = Annotated[float, Field(gt=0, le=10)]


@config_table("train.losses.contrastive")
class ContrastiveConfig:
    """Pairs: pull items of one class together, push others apart up to a margin."""

    margin: UnsquaredDistance = 1.0
    """Distance beyond which items of two classes are no longer pushed apart."""


@config_table("train.losses.triplet")
class TripletConfig:
    """The positive must be nearer than the negative, by train.margin or by a soft margin."""

    distance: Literal["squared", "unsquared"] = "squared"
    """Euclidean distance in the loss, and the unit of train.margin."""
    form: Literal["hinge", "soft"] = "hinge"
    """Shape of the loss; d_ap and d_an are the distances to the positive and to the negative.
    hinge: max(0, d_ap - d_an + train.margin)
    soft: softplus(scale * (d_ap - d_an)), without a margin
    """
    scale: Annotated[float, Field(gt=0, le=1000)] = 10.0
    """Steepness of the soft form."""


@config_table("train.losses.n_pair")
class NPairConfig:
    """A pair against one item of every other class in the batch, by dot product of features."""

    l2: Weight = 0.002
    """Weight of the features' squared lengths, which are kept small."""


@config_table("train.losses.lifted_structure")
class LiftedConfig:
    """Every positive pair of the batch against all negatives of both its items."""

    margin: UnsquaredDistance = 1.0
    """Margin of the negatives."""


@config_table("train.losses.angular")
class AngularConfig:
    """Bounds the angle at the negative in the triangle that it forms with a positive pair."""

    degrees: Annotated[float, Field(gt=0, lt=90)] = 45.0
    """Upper bound of the angle, in degrees."""
    n_pair: bool = False
    """Use N-pair loss + weight * angular loss."""
    weight: Weight = 2.0
    """Weight of the angular loss when n_pair is true."""


@config_table("train.losses.margin")
class MarginConfig:
    """Pairs lie on either side of a learned boundary beta, at least alpha away from it."""

    alpha: UnsquaredDistance = 0.2
    """Distance from the boundary. beta - alpha must be above 0 and beta + alpha at most 2."""
    beta: UnsquaredDistance = 1.2
    """Initial boundary."""
    nu: Weight = 0.0
    """Weight of the boundaries' size in the loss."""
    per_class: bool = False
    """Learn an offset of the boundary for each class."""
    per_item: bool = False
    """Learn an offset of the boundary for each item."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Learning rate of the boundaries."""

    def __post_init__(self) -> None:
        if self.alpha >= self.beta or self.alpha + self.beta > 2:
            raise InputError(
                f"train.losses.margin.alpha is {self.alpha} and beta {self.beta}; beta - alpha must"
                " be above 0 and beta + alpha at most 2, the largest distance of unit vectors"
            )


@config_table("train.losses.softmax")
class SoftmaxConfig:
    """Classify items into the training classes."""

    learning_rate: LearningRate = 0.01
    """Learning rate of the classifier."""


@config_table("train.losses.l2_softmax")
class L2SoftmaxConfig:
    """Classify items into the training classes, with features scaled to one length."""

    alpha: Annotated[float, Field(gt=0, le=1000)] = 16.0
    """Length of the features. With many classes a short length cannot reach `probability` and is
    refused.
    """
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Probability of the right class that alpha must allow."""
    learning_rate: LearningRate = 0.01
    """Learning rate of the classifier."""


@config_table("train.losses")
class LossesConfig:
    """Settings of the losses; only the table of train.loss is used."""

    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    triplet: TripletConfig = field(default_factory=TripletConfig)
    n_pair: NPairConfig = field(default_factory=NPairConfig)
    lifted_structure: LiftedConfig = field(default_factory=LiftedConfig)
    angular: AngularConfig = field(default_factory=AngularConfig)
    margin: MarginConfig = field(default_factory=MarginConfig)
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)
    l2_softmax: L2SoftmaxConfig = field(default_factory=L2SoftmaxConfig)
    pml: tuple[str, ...] = ()
    """Options of a loss of pytorch-metric-learning ("pml:Name"), each as "name=value"."""


@config_table("train.generators.symmetrical")
class SymmetricalConfig:
    """Reflects each item of a pair about the other; the negative is the hardest of 16 pairs.

    A reflection is P' = beta (alpha (P . u) u - P), with u the unit vector along the other item.
    """

    alpha: Factor = 2.0
    """2 is a reflection that keeps lengths and distances; other values were worse in the paper."""
    beta: Factor = 1.0
    """1 is a reflection that keeps lengths and distances; other values were worse in the paper."""


@config_table("train.generators.hdml")
class HdmlConfig:
    """Pulls negatives towards the anchor as training goes on; a generator keeps their class."""

    hardness: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """A negative stays in place while the recent metric loss is far above this value, and moves to
    the positive's distance once the loss is far below. The paper's 90 is for a larger loss.
    """
    balance: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Synthetic negatives have little weight while the generator's loss is above this value. The
    paper's 1e4 is for a larger loss.
    """
    label_weight: Weight = 0.5
    """Weight of the classification loss in the generator's loss."""
    hidden: Width = 128
    """Width of the generator's hidden layer."""
    learning_rate: LearningRate = 1e-3
    """Learning rate of the generator."""


@config_table("train.generators.daml")
class DamlConfig:
    """Trains a generator to make hard negatives of easy ones, and the encoder on both."""

    near_negative: Weight = 1.0
    """Weight of the distance from the original negative, in the generator's loss."""
    adversarial: Weight = 1.0
    """Weight of lying within train.margin beyond the positive, in the generator's loss."""
    synthetic: Weight = 0.1
    """Weight of the metric loss on synthetic negatives."""
    hidden: Width = 128
    """Width of the generator's hidden layer."""
    learning_rate: LearningRate = 1e-3
    """Learning rate of the generator."""


@config_table("train.generators")
class GeneratorsConfig:
    """Settings of the syntheses; only the table of train.synthesis is used."""

    symmetrical: SymmetricalConfig = field(default_factory=SymmetricalConfig)
    hdml: HdmlConfig = field(default_factory=HdmlConfig)
    daml: DamlConfig = field(default_factory=DamlConfig)
