"""Configuration of training."""

from dataclasses import field, replace
from typing import Annotated, Literal, Self

from pydantic import Field

from remine.data.config_table import Notation, Share, Unit, config_table
from remine.data.types import Kind
from remine.train.config_checks import check_combinations, check_warmup
from remine.train.losses.config import GeneratorsConfig, Loss, LossesConfig, Synthesis

Batches = Literal["triplets", "pk", "confusable"]
Miner = Literal["auto", "batch_all", "batch_hard", "semi_hard", "distance_weighted", "random"]

Schedule = Literal["auto", "constant", "linear", "cosine"]
BatchStatistics = Literal["auto", "batch", "kept"]

Auto = Literal["auto"]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]


@config_table("train")
class TrainConfig:
    """One round of training.

    A step is one update of the weights. A PK batch has P classes with K = per_class items each.
    """

    steps: Steps | Auto = "auto"
    """# Length of a round

    Steps per round.
    """
    epochs: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """Passes through the round's training data in place of `steps`: all mined triplets, or as many
    items as there are to train on for PK batches; 0 for `steps`.
    """
    batch: Annotated[int, Field(ge=1, le=65_536)] = 96
    """Triplets per step, or items per step for PK batches."""
    micro_batch: Annotated[int, Field(ge=0, le=200_000)] = 0
    """Items that go through the encoder at a time, which bounds the memory of a step and does not
    change its loss: the gradients of the embeddings are computed first, and passed through the
    encoder part by part, at the cost of a second forward pass. 0 for what `memory_limit` allows.
    """
    memory_limit: Annotated[float, Field(gt=0, le=10_000), Unit("GB")] | Auto = "auto"
    """Memory for what the encoder keeps of a step for the backward pass. "auto" is 1 GB, or half of
    a GPU's memory.
    """
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Arithmetic of the encoder's forward and backward pass; weights and losses stay in float32.
    fp32: float32
    bf16: bfloat16 (autocast)
    auto: bf16 if the processor or GPU multiplies it in hardware, else fp32
    """
    save_every: Steps = 100
    """Steps between checkpoints from which a killed run resumes."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    """# Optimizer: AdamW. "auto" is chosen by the kind of encoder and said when training starts

    Highest learning rate of a round.
    """
    schedule: Schedule = "auto"
    """How the rate goes on after the warm-up, over the steps of a round.
    auto: by the kind of encoder
    constant: as it is
    linear: falls to 0 in a straight line
    cosine: falls to 0 along half a cosine
    """
    warmup: Annotated[float, Field(ge=0, le=1_000_000)] | Auto = "auto"
    """Steps in which the rate of a round rises to its height; below 1, a share of the round."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    """Decay of the weights per step, times the rate; none of biases, norms and other vectors."""
    clip_norm: Annotated[float, Field(ge=0, le=1e6)] | Auto = "auto"
    """Largest length of the encoder's gradient, which is scaled down to it; 0 for any."""
    head_factor: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Of a pretrained or your own network with a head: the head's rate, as a multiple."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of a pretrained or your own network: the rate of a layer as a multiple of that of the layer
    above it.
    """
    unfreeze_after: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Of a pretrained or your own network with a head: train the head alone in the first steps of
    the first rounds, this many in all.
    """
    batch_statistics: BatchStatistics = "auto"
    """What normalises the layers of a network with batch norm while it trains.
    auto: kept for the pretrained networks that remine knows, else batch
    batch: mean and variance of each batch, which also update those of the network
    kept: those of the network, which stay
    """

    loss: Loss | Annotated[str, Field(pattern="^pml:"), Notation("pml:Name")] = "triplet"
    """# Loss

    What is minimised; `remine losses` describes each loss and its settings. "pml:Name" is a loss
    of pytorch-metric-learning.
    """
    margin: Annotated[float, Field(gt=0, le=4), Unit("squared Euclidean distance")] = 0.2
    """Margin of the triplet loss and of the miner "semi_hard". It is an unsquared distance, at most
    2, if train.losses.triplet.distance is "unsquared".
    """
    synthesis: Synthesis = "none"
    """Synthetic hard negatives; `remine losses` describes each synthesis and its settings."""

    batches: Batches = "triplets"
    """# Batches

    What a batch consists of.
    triplets: mined over the whole dataset, used as they are or mined again inside the batch
    pk: PK batches: per_class items of each of some random classes
    confusable: PK batches of classes whose centroids are neighbours, and some random classes
    """
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("semi_hard",)
    """For "triplets": which kinds of the mined triplets to train on."""
    per_class: Annotated[int, Field(ge=1, le=65_536)] = 4
    """For PK batches: items per class. `batch` must be a multiple of it."""
    random_classes: Share = 0.5
    """For "confusable": share of the classes of a batch that are random."""
    miner: Miner = "auto"
    """How triplets are selected inside a batch.
    auto: mined triplets as they are; every valid triplet or pair of a PK batch
    batch_all: every valid triplet or pair; a triplet loss takes the mean over active ones
    batch_hard: per anchor the farthest positive and the nearest negative
    semi_hard: per pair the nearest negative beyond the positive and within the margin
    distance_weighted: per pair a random negative by inverse density of its distance
    random: per pair a random negative
    """
    memory: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Embeddings of earlier steps that are further candidates for the miner; 0 for none."""

    warmup_rounds: Annotated[int, Field(ge=0, le=1000)] = 0
    """# Rounds: warm-up, and an early end

    Train the first rounds of an encoder on PK batches with `warmup_miner`. Where later batches
    are triplets, such a batch has three items per triplet, so that a step costs the same.
    """
    warmup_miner: Miner = "semi_hard"
    """The miner of warm-up rounds, as for `miner`."""
    refresh_when: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """End a round early, so that the next one mines again, when more than this share of sampled
    triplets have changed their kind since they were mined; 0 never. See [health] for the sample.
    """
    refresh_after: Steps = 50
    """Steps before which a round does not end early."""

    idle_share: Share = 0.01
    """End a round early when over 25 steps no more than this share of mined triplets was active, or
    none at all of others: nothing is left to learn, and the next round mines again. 0 never.
    """

    val_every: Annotated[int, Field(ge=0, le=10_000_000)] | Auto = "auto"
    """# Validation in a round

    Steps between two measurements of MAP@R on the split val; 0 for none. A round ends with the
    weights of its best measurement, which may be those that it began with. "auto" is a tenth of a
    round for pretrained networks, and 0 for others.
    """
    val_items: Annotated[int, Field(ge=2, le=1_000_000)] = 500
    """Items that are measured at most, of as many classes as possible, drawn by run.seed."""
    patience: Annotated[int, Field(ge=0, le=100_000)] = 4
    """End a round early after this many measurements in a row without a better one; 0 never."""

    losses: LossesConfig = field(default_factory=LossesConfig)
    generators: GeneratorsConfig = field(default_factory=GeneratorsConfig)

    def __post_init__(self) -> None:
        check_combinations(self)
        if self.warmup_rounds:
            check_warmup(self)

    @property
    def uses_pk_batches(self) -> bool:
        """Whether batches are PK batches rather than mined triplets."""
        return self.batches != "triplets"

    @property
    def has_unsquared_margin(self) -> bool:
        """Whether the margin is an unsquared distance."""
        return self.loss == "triplet" and self.losses.triplet.distance == "unsquared"

    def after_rounds(self, rounds_trained: int) -> Self:
        """The settings of the next round of an encoder with `rounds_trained` rounds behind it."""
        if rounds_trained >= self.warmup_rounds:
            return replace(self, warmup_rounds=0)
        batch = self.batch
        if not self.uses_pk_batches:  # three items per triplet, so that a step costs the same
            batch = 3 * batch // self.per_class * self.per_class
        warm = replace(self, warmup_rounds=0, refresh_when=0.0)
        return replace(warm, batches="pk", batch=batch, miner=self.warmup_miner)
