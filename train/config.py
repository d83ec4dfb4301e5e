"""What the user says about the encoder and its training."""

from dataclasses import dataclass, field, replace
from typing import Self

from remine.data.errors import InputError
from remine.data.types import KINDS
from remine.train.losses.config import LOSSES, SYNTHESES, GeneratorsConfig, LossesConfig

OWN = ("conv", "ngram", "linear")
PRETRAINED = ("efficientnet_lite0", "minilm")
ENCODERS = ("auto", *OWN, *PRETRAINED)
HEADS = ("auto", "linear", "mlp")
PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The network from inputs to unit vectors.

    name: from scratch "conv" for pictures, "ngram" for text, "linear" for vectors, and "auto" picks
    by content; pretrained, with the weights of a package, "efficientnet_lite0" for photos (at its
    best with data.image_size = 224) and "minilm" for text; or "module:function", of your own: the
    function takes nothing and returns a torch module, or (module, transform), from a file in this
    config's folder or an installed one. The transform turns a list of texts, of decoded pictures
    (PIL) or of vectors into one array (rows, ...), the module a tensor of such rows into (m, d).
    dimensions: of the embedding; 0 is 64, and for "linear", pretrained and own networks as many as
    they are given.
    width: channels of the first convolution of "conv".
    frozen: of a pretrained or own network train only a head: what the network makes of the items is
    computed once and kept. head: "linear", "mlp", or "auto": linear where there must be one.
    """

    name: str = "auto"
    dimensions: int = 0
    width: int = 32
    frozen: bool = False
    head: str = "auto"

    def __post_init__(self) -> None:
        if self.name not in ENCODERS and not self.custom:
            raise InputError(
                f"encoder.name is {self.name!r}; known: {', '.join(ENCODERS)}, and module:function"
            )
        if self.dimensions and not 2 <= self.dimensions <= 8192:
            raise InputError(f"encoder.dimensions is {self.dimensions}; it must be 0 or 2 to 8192")
        if not 4 <= self.width <= 1024:
            raise InputError(f"encoder.width is {self.width}; it must be 4 to 1024")
        if self.head not in HEADS:
            raise InputError(f"encoder.head is {self.head!r}; known: {', '.join(HEADS)}")
        if not self.backbone and (self.frozen or self.head != "auto"):
            what = "frozen is true" if self.frozen else f"head is {self.head!r}"
            raise InputError(
                f"encoder.{what}, and {self.name!r} starts from scratch and ends in a layer of its"
                f" own: name one of {', '.join(PRETRAINED)}, or module:function"
            )

    @property
    def custom(self) -> bool:
        """Whether the name is that of a function of the user's."""
        module, sign, function = self.name.partition(":")
        return bool(sign) and all(map(str.isidentifier, [*module.split("."), function]))

    @property
    def backbone(self) -> bool:
        """Whether the network comes from elsewhere, and may be frozen and get a head."""
        return self.custom or self.name in PRETRAINED


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One round of training.

    steps: optimizer steps a round. batch: triplets a step, or items of a PK batch. margin: of the
    triplet loss, a squared distance (unsquared where losses.triplet.distance says so), and of the
    "semi_hard" miner. kinds: which mined kinds to train on. learning_rate: Adam's. save_every:
    steps between saves that a killed run resumes from.
    loss: `remine losses` lists them; "pml:Name" is one of pytorch-metric-learning. batches:
    "triplets", the mined ones; "pk", classes of per_class items each; or "confusable", PK batches
    of classes that the index takes for one another, with a share random_classes of them drawn from
    all. miner: how a batch's triplets are chosen; "auto" takes mined triplets as they come, and of
    PK batches all. memory: embeddings of earlier steps as further candidates. synthesis: "none",
    "symmetrical", "hdml" or "daml".
    warmup_rounds: an encoder's first so many rounds train on plain PK batches with warmup_miner,
    before `batches` and `miner` take over. Where those are triplets, a PK batch has three items for
    each, so that as many pass through the encoder.
    refresh_when: end a round early, so that the next one mines again, when more than this share of
    its triplets (of health.triplets sampled ones, every health.every steps) have changed their kind
    since they were mined; 0 never. refresh_after: not before so many steps.
    precision: of the encoder's forward and backward pass, "fp32", "bf16" (autocast; weights and
    losses stay in float32), or "auto": bf16 where the processor or GPU multiplies it in hardware.
    """

    steps: int = 300
    batch: int = 96
    margin: float = 0.2
    kinds: tuple[str, ...] = ("semi_hard",)
    learning_rate: float = 1e-3
    save_every: int = 100
    loss: str = "triplet"
    batches: str = "triplets"
    per_class: int = 4
    random_classes: float = 0.5
    miner: str = "auto"
    memory: int = 0
    synthesis: str = "none"
    precision: str = "fp32"
    warmup_rounds: int = 0
    warmup_miner: str = "semi_hard"
    refresh_when: float = 0.0
    refresh_after: int = 50
    losses: LossesConfig = field(default_factory=LossesConfig)
    generators: GeneratorsConfig = field(default_factory=GeneratorsConfig)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10_000_000),
            ("batch", 2, 65_536),
            ("save_every", 1, 10_000_000),
            ("per_class", 1, 65_536),
            ("memory", 0, 10_000_000),
            ("warmup_rounds", 0, 1000),
            ("refresh_after", 1, 10_000_000),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"train.{name} is {value}; it must be {low} to {high}")
        if not 0 < self.margin <= 4:
            raise InputError(
                f"train.margin is {self.margin}; it is a squared distance, above 0 and up to 4"
            )
        if not 0 < self.learning_rate <= 1:
            raise InputError(f"train.learning_rate is {self.learning_rate}; it must be 0 to 1")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise InputError(f"train.kinds is {list(self.kinds)}; known: {', '.join(KINDS)}")
        if not 0 <= self.random_classes <= 1:
            raise InputError(
                f"train.random_classes is {self.random_classes}; it is a share, 0 to 1"
            )
        if not 0 <= self.refresh_when < 1:
            raise InputError(f"train.refresh_when is {self.refresh_when}; it is a share, 0 to 1")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise InputError(f"train.precision is {self.precision!r}; known: {known}")
        check_together(self)
        if self.warmup_rounds:
            _check_warmup(self)

    @property
    def online(self) -> bool:
        """Whether batches are PK batches rather than mined triplets."""
        return self.batches != "triplets"

    def at(self, trained: int) -> Self:
        """The settings of a round of an encoder that has been trained for `trained` rounds."""
        if trained >= self.warmup_rounds:
            return replace(self, warmup_rounds=0)
        batch = self.batch if self.online else 3 * self.batch // self.per_class * self.per_class
        warm = replace(self, warmup_rounds=0, refresh_when=0.0)
        return replace(warm, batches="pk", batch=batch, miner=self.warmup_miner)

    @property
    def unsquared(self) -> bool:
        """Whether the margin is in unsquared distances."""
        return self.loss == "triplet" and self.losses.triplet.distance == "unsquared"


BATCHES = ("triplets", "pk", "confusable")
WHOLE_BATCH = ("n_pair", "lifted_structure", "angular", "softmax", "l2_softmax")
"""Losses that read a batch as a whole: nothing in it is chosen by a miner."""
SYMMETRICAL = ("triplet", "n_pair", "lifted_structure", "angular")


def check_together(config: TrainConfig) -> None:
    """Refuse settings that contradict one another."""
    external = config.loss.startswith("pml:")
    if not external and config.loss not in LOSSES:
        raise InputError(f"train.loss is {config.loss!r}; known: {', '.join(LOSSES)}, and pml:Name")
    if config.batches not in BATCHES:
        raise InputError(f"train.batches is {config.batches!r}; known: {', '.join(BATCHES)}")
    if config.synthesis not in ("none", *SYNTHESES):
        known = ", ".join(("none", *SYNTHESES))
        raise InputError(f"train.synthesis is {config.synthesis!r}; known: {known}")
    if config.losses.pml and not external:
        raise InputError(
            f"train.losses.pml is set, and train.loss is {config.loss!r}, not pml:Name"
        )
    if config.unsquared and config.margin > 2:
        raise InputError(
            f"train.margin is {config.margin}, and with train.losses.triplet.distance ="
            ' "unsquared" it is an unsquared distance on unit vectors, 0 to 2'
        )
    if config.online:
        _check_batches(config)
        if config.refresh_when:
            raise InputError(
                f"train.refresh_when is {config.refresh_when}, a share of mined triplets, and"
                f' train.batches = "{config.batches}" reads none: leave it out'
            )
    _check_candidates(config)
    if config.synthesis != "none":
        _check_synthesis(config)


def _check_warmup(config: TrainConfig) -> None:
    """Of the rounds before those that the other settings describe."""
    if config.batches == "pk":
        raise InputError(
            f"train.warmup_rounds is {config.warmup_rounds}, and rounds after them train on PK"
            ' batches too: set train.batches = "triplets" or "confusable", or leave it out'
        )
    try:
        config.at(0)
    except InputError as error:
        raise InputError(
            f"in the {config.warmup_rounds} rounds of train.warmup_rounds, with train.miner ="
            f" train.warmup_miner = {config.warmup_miner!r}: {error}"
        ) from None


def _check_batches(config: TrainConfig) -> None:
    """Of PK batches."""
    if config.batch % config.per_class or config.batch < 2 * config.per_class:
        raise InputError(
            f"train.batch is {config.batch} and train.per_class {config.per_class}: a PK batch is"
            " a whole number of classes, two or more, of per_class items each"
        )
    if config.per_class == 1 and config.loss not in ("softmax", "l2_softmax"):
        raise InputError(
            f"train.per_class is 1: with one item a class no item has a positive, and the loss"
            f" {config.loss} learns from pairs; it must be 2 or more"
        )


def _check_candidates(config: TrainConfig) -> None:
    """Of miner and memory."""
    chosen = config.miner != "auto"
    if config.loss in WHOLE_BATCH and (chosen or config.memory):
        what = f"train.miner is {config.miner!r}" if chosen else f"train.memory is {config.memory}"
        raise InputError(
            f"{what}, and the loss {config.loss} takes the batch as it is: leave it out"
        )
    if config.memory and not (chosen or config.online):
        raise InputError(
            f"train.memory is {config.memory}, and mined triplets taken as they come need no"
            ' further candidates: name a train.miner, or set train.batches = "pk"'
        )


def _check_synthesis(config: TrainConfig) -> None:
    given = f"train.synthesis is {config.synthesis!r}"
    if config.memory:
        raise InputError(f"{given}, and does not reach into a memory: set train.memory = 0")
    if config.synthesis == "symmetrical":
        if config.loss not in SYMMETRICAL:
            raise InputError(
                f"{given}: it replaces the negatives of {', '.join(SYMMETRICAL)};"
                f" train.loss is {config.loss!r}"
            )
        if config.miner != "auto":
            raise InputError(
                f"{given}: it takes the hardest of 16 points itself; leave out train.miner"
                f" = {config.miner!r}"
            )
        return
    if config.loss != "triplet":
        raise InputError(f"{given}: it makes negatives of triplets; train.loss is {config.loss!r}")
    if (config.online and config.miner == "auto") or config.miner == "batch_all":
        raise InputError(
            f"{given}: it changes one negative a pair; name a train.miner that chooses one, such as"
            ' "semi_hard"'
        )
