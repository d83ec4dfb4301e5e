"""What the user says about the encoder and its training."""

from dataclasses import dataclass

from data.errors import InputError

ENCODERS = ("auto", "conv", "ngram", "linear")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The network from inputs to unit vectors.

    name: "conv" for pictures, "ngram" for text, "linear" for vectors, "auto" picks by content.
    dimensions: of the embedding; 0 is 64, and for "linear" as many as the vectors have.
    width: channels of the first convolution.
    """

    name: str = "auto"
    dimensions: int = 0
    width: int = 32

    def __post_init__(self) -> None:
        if self.name not in ENCODERS:
            raise InputError(f"encoder.name is {self.name!r}; known: {', '.join(ENCODERS)}")
        if self.dimensions and not 2 <= self.dimensions <= 8192:
            raise InputError(f"encoder.dimensions is {self.dimensions}; it must be 0 or 2 to 8192")
        if not 4 <= self.width <= 1024:
            raise InputError(f"encoder.width is {self.width}; it must be 4 to 1024")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One round of training on mined triplets.

    steps: optimizer steps a round. batch: triplets a step. margin: of the triplet loss, a squared
    distance. kinds: which mined kinds to train on. learning_rate: Adam's. save_every: steps
    between saves that a killed run resumes from.
    """

    steps: int = 300
    batch: int = 96
    margin: float = 0.2
    kinds: tuple[str, ...] = ("semi_hard",)
    learning_rate: float = 1e-3
    save_every: int = 100

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10_000_000),
            ("batch", 2, 65_536),
            ("save_every", 1, 10_000_000),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"train.{name} is {value}; it must be {low} to {high}")
        if not 0 < self.margin <= 4:
            raise InputError(
                f"train.margin is {self.margin}; it is a squared distance, above 0 and up to 4"
            )
        if not 0 < self.learning_rate <= 1:
            raise InputError(f"train.learning_rate is {self.learning_rate}; it must be 0 to 1")
        if not self.kinds or not set(self.kinds) <= {"hard", "semi_hard"}:
            raise InputError(f"train.kinds is {list(self.kinds)}; known: hard, semi_hard")
