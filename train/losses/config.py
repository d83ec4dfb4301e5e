"""What the user says about losses and synthesis; margins are in the unit that each one names."""

from dataclasses import dataclass, field

from remine.data.errors import InputError

SQUARED = "a squared distance on unit vectors, 0 to 4"
UNSQUARED = "an unsquared distance on unit vectors, 0 to 2"


def check_range(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Refuse a value outside (low, high]."""
    if not low < value <= high:
        what = f"it is {unit}" if unit else f"it must be above {low} and up to {high}"
        raise InputError(f"train.{name} is {value}; {what}")


def check_weight(name: str, value: float) -> None:
    """Refuse a weight below 0."""
    if not 0 <= value < float("inf"):
        raise InputError(f"train.{name} is {value}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Pairs: pull one class together, push others past a margin.

    margin: an unsquared distance.
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        check_range("losses.contrastive.margin", self.margin, 0, 2, UNSQUARED)


@dataclass(frozen=True, kw_only=True)
class TripletConfig:
    """Positive nearer than negative, by train.margin or softly.

    distance: "squared" or "unsquared", the unit of train.margin, too. form: "hinge" or "soft",
    which has no margin but a scale.
    """

    distance: str = "squared"
    form: str = "hinge"
    scale: float = 10.0

    def __post_init__(self) -> None:
        if self.distance not in ("squared", "unsquared"):
            raise InputError(
                f"train.losses.triplet.distance is {self.distance!r}; known: squared, unsquared"
            )
        if self.form not in ("hinge", "soft"):
            raise InputError(f"train.losses.triplet.form is {self.form!r}; known: hinge, soft")
        check_range("losses.triplet.scale", self.scale, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class NPairConfig:
    """A pair against one item of every other class, by product of features.

    l2: weight of the features' squared lengths.
    """

    l2: float = 0.002

    def __post_init__(self) -> None:
        check_weight("losses.n_pair.l2", self.l2)


@dataclass(frozen=True, kw_only=True)
class LiftedConfig:
    """Every positive pair against all negatives of both its ends.

    margin: an unsquared distance.
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        check_range("losses.lifted_structure.margin", self.margin, 0, 2, UNSQUARED)


@dataclass(frozen=True, kw_only=True)
class AngularConfig:
    """The angle at the negative of the triangle with a pair.

    degrees: its upper bound. n_pair: add the N-pair loss, and then take this one `weight` times.
    """

    degrees: float = 45.0
    n_pair: bool = False
    weight: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.degrees < 90:
            raise InputError(
                f"train.losses.angular.degrees is {self.degrees}; it must be above 0 and below 90"
            )
        check_weight("losses.angular.weight", self.weight)


@dataclass(frozen=True, kw_only=True)
class MarginConfig:
    """Pairs on either side of a learned boundary beta, alpha away from it.

    alpha, beta: unsquared distances. per_class, per_item: learn an offset for each. nu: weight of
    beta in the loss. learning_rate: of the boundaries.
    """

    alpha: float = 0.2
    beta: float = 1.2
    nu: float = 0.0
    per_class: bool = False
    per_item: bool = False
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            check_range(f"losses.margin.{name}", getattr(self, name), 0, 2, UNSQUARED)
        if self.alpha >= self.beta or self.alpha + self.beta > 2:
            raise InputError(
                f"train.losses.margin: beta {self.beta} - alpha {self.alpha} must be above 0 and"
                f" beta + alpha at most 2, since both are {UNSQUARED}"
            )
        check_weight("losses.margin.nu", self.nu)
        check_range("losses.margin.learning_rate", self.learning_rate, 0, 10)


@dataclass(frozen=True, kw_only=True)
class SoftmaxConfig:
    """Classify into the training classes.

    learning_rate: of the classifier.
    """

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        check_range("losses.softmax.learning_rate", self.learning_rate, 0, 1)


@dataclass(frozen=True, kw_only=True)
class L2SoftmaxConfig:
    """Classify features scaled to one length.

    alpha: that length; refused below what `probability` needs with so many classes.
    learning_rate: of the classifier.
    """

    alpha: float = 16.0
    probability: float = 0.9
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        check_range("losses.l2_softmax.alpha", self.alpha, 0, 1000)
        if not 0 < self.probability < 1:
            raise InputError(
                f"train.losses.l2_softmax.probability is {self.probability}; it must be 0 to 1"
            )
        check_range("losses.l2_softmax.learning_rate", self.learning_rate, 0, 1)


@dataclass(frozen=True, kw_only=True)
class LossesConfig:
    """Settings of each loss; only those of train.loss are used.

    pml: options of a pytorch-metric-learning loss, each "name=value".
    """

    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    triplet: TripletConfig = field(default_factory=TripletConfig)
    n_pair: NPairConfig = field(default_factory=NPairConfig)
    lifted_structure: LiftedConfig = field(default_factory=LiftedConfig)
    angular: AngularConfig = field(default_factory=AngularConfig)
    margin: MarginConfig = field(default_factory=MarginConfig)
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)
    l2_softmax: L2SoftmaxConfig = field(default_factory=L2SoftmaxConfig)
    pml: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SymmetricalConfig:
    """Reflect either point of a pair about the other; the hardest of all 16 is the negative.

    alpha, beta: 2 and 1 keep lengths and distances; others were worse in the paper.
    """

    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_range("generators.symmetrical.alpha", self.alpha, 0, 10)
        check_range("generators.symmetrical.beta", self.beta, 0, 10)


@dataclass(frozen=True, kw_only=True)
class HdmlConfig:
    """Pull each negative towards the anchor as training goes on; a generator keeps its class.

    hardness: a negative stays where it is while the recent metric loss is far above this, and is
    as near as the positive once it is far below (the paper: 90, for its larger loss). balance:
    synthetics count for little while the generator's loss is above this (the paper: 1e4, for
    its larger loss). label_weight: of the class in the generator's loss. hidden: width of the
    generator. learning_rate: of the generator.
    """

    hardness: float = 0.1
    balance: float = 1.0
    label_weight: float = 0.5
    hidden: int = 128
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_range("generators.hdml.hardness", self.hardness, 0, 1e6)
        check_range("generators.hdml.balance", self.balance, 0, 1e6)
        check_weight("generators.hdml.label_weight", self.label_weight)
        check_range("generators.hdml.hidden", self.hidden, 0, 65_536)
        check_range("generators.hdml.learning_rate", self.learning_rate, 0, 1)


@dataclass(frozen=True, kw_only=True)
class DamlConfig:
    """Train a generator to make hard negatives of easy ones, and the encoder on both.

    near_negative: weight of staying near the original. adversarial: weight of lying within
    train.margin of the positive. synthetic: weight of the metric loss on what it makes. hidden:
    width of the generator. learning_rate: of the generator.
    """

    near_negative: float = 1.0
    adversarial: float = 1.0
    synthetic: float = 0.1
    hidden: int = 128
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("near_negative", "adversarial", "synthetic"):
            check_weight(f"generators.daml.{name}", getattr(self, name))
        check_range("generators.daml.hidden", self.hidden, 0, 65_536)
        check_range("generators.daml.learning_rate", self.learning_rate, 0, 1)


@dataclass(frozen=True, kw_only=True)
class GeneratorsConfig:
    """Settings of each synthesis; only those of train.synthesis are used."""

    symmetrical: SymmetricalConfig = field(default_factory=SymmetricalConfig)
    hdml: HdmlConfig = field(default_factory=HdmlConfig)
    daml: DamlConfig = field(default_factory=DamlConfig)


LOSSES = tuple(name for name in LossesConfig.__dataclass_fields__ if name != "pml")
SYNTHESES = tuple(GeneratorsConfig.__dataclass_fields__)
