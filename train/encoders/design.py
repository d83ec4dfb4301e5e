"""The design of an encoder: everything that determines its architecture; builds encoders from it.

A design is stored in the checkpoint's card. A pretrained or user network is identified by the hash
of its weights or source, and refused if it has changed since.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from remine.data.config import DataConfig
from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import PICTURES, ImageTransform, Transform, vector_transform
from remine.train.checkpoint import encoder_bytes
from remine.train.encoders.adapter import add_adapter
from remine.train.encoders.config import EncoderConfig, LoraConfig
from remine.train.encoders.custom import as_transform, load_custom, output_dimensions
from remine.train.encoders.efficientnet import load_efficientnet
from remine.train.encoders.encoder import Encoder, GramTransform, build_encoder
from remine.train.encoders.heads import BackboneWithHead, build_head
from remine.train.encoders.pretrained.network import (
    facts,
    load_network,
    token_transform,
    weights_of,
)
from remine.train.encoders.weights_packages import WEIGHTS_PACKAGES

LITE_SIDE = 224
"""Side of the pictures that EfficientNet-Lite0 was trained on."""
NEWER_SETTINGS = ("frozen", "head", "adapter", "pooling", "prompt", "max_tokens", "lora")
"""Settings that older cards lack; newer cards omit them at their defaults, so that both agree."""
OTHER_SETTINGS = ("gradient_checkpointing",)
"""Settings that change how a network computes, and not what."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """An encoder of `config` for items of `content` whose inputs have `shape` and `dtype`.

    backbone: of a pretrained or user network the `dimensions` of its features, and the hash of its
    `source` or of its initial `weights`, which it keeps if it is frozen; else empty.
    """

    config: EncoderConfig
    content: str
    shape: tuple[int, ...]
    dtype: str = ""
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As stored in a card."""
        settings = asdict(self.config)
        defaults = asdict(EncoderConfig())
        settings = {
            k: v
            for k, v in settings.items()
            if k not in OTHER_SETTINGS and (k not in NEWER_SETTINGS or v != defaults[k])
        }
        card = {**settings, "content": self.content, "shape": list(self.shape)}
        if self.backbone:
            card |= {"dtype": self.dtype, "backbone": dict(self.backbone)}
        return card

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The design that `to_json` wrote."""
        settings = dict(value)
        names = ("content", "dtype", "backbone")
        fields_by_name = {name: settings.pop(name) for name in names if name in settings}
        shape = tuple(settings.pop("shape"))
        if "lora" in settings:
            lora = {**settings["lora"], "targets": tuple(settings["lora"]["targets"])}
            settings["lora"] = LoraConfig(**lora)
        return cls(config=EncoderConfig(**settings), shape=shape, **fields_by_name)

    @property
    def identity(self) -> dict[str, Any]:
        """The card without where the model lies: its hash says which one it is."""
        card = self.to_json()
        if self.config.library in ("st", "hf") and self.config.name != "minilm":
            card["name"] = self.config.library
        return card

    @property
    def feature_dimensions(self) -> int:
        """Dimensions of the backbone's features that a frozen encoder's head reads; else 0."""
        return int(self.backbone["dimensions"]) if self.config.frozen else 0


def design(
    config: EncoderConfig, content: str, shape: Sequence[int], dtype: str, base: Path
) -> Design:
    """The design of the current settings.

    Args:
        config: settings of the encoder.
        content: kind of the items.
        shape: of one input.
        dtype: of the inputs.
        base: folder in which a user module is looked up first.

    Raises:
        InputError: the network does not read items of this kind, or a user module is at fault.

    """
    backbone: dict[str, Any] = {}
    if config.is_custom:
        network, source = load_custom(config.name, base).parts
        backbone["dimensions"] = output_dimensions(config.name, network, shape, dtype)
        backbone["source"] = source
        if config.frozen or config.adapter != "none":
            backbone["weights"] = hashlib.sha256(encoder_bytes(network)).hexdigest()
    elif config.library:
        known = facts(config, content, base)
        backbone = {"dimensions": known.dimensions, "weights": known.weights}
    elif config.name in WEIGHTS_PACKAGES:
        package = WEIGHTS_PACKAGES[config.name]
        if content not in package.contents:
            raise InputError(
                f"encoder.name is {config.name!r}, which does not read items of {content}"
            )
        backbone = {"dimensions": package.dimensions, "weights": package.sha256}
    return Design(
        config=config, content=content, shape=tuple(shape), dtype=dtype, backbone=backbone
    )


def build_trainable(design: Design, base: Path, seed: int = 0) -> Encoder:
    """The part that is trained and saved: the encoder, or the head of a frozen one."""
    config = design.config
    if not config.has_backbone:
        return build_encoder(config, design.content, design.shape, seed)
    dimensions = int(design.backbone["dimensions"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(config.head, dimensions, config.dimensions)
    if config.frozen:
        return Encoder(head)
    backbone = build_backbone(design, base, seed)
    if config.adapter == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = add_adapter(backbone, config.lora)
    # A fine-tuned backbone needs no head unless one is configured or dimensions differ.
    if config.head == "auto" and config.dimensions in (0, dimensions):
        return Encoder(backbone)
    return Encoder(BackboneWithHead(backbone, head))


def full_encoder(trainable: Encoder, design: Design, base: Path) -> Encoder:
    """The encoder from inputs to unit vectors, given its trainable part."""
    if not design.config.frozen:
        return trainable
    return Encoder(BackboneWithHead(build_backbone(design, base), trainable.body)).eval()


def build_backbone(design: Design, base: Path, seed: int = 0) -> nn.Module:
    """The pretrained or user network before any training, set to `eval()`.

    A user network that is frozen or has an adapter is always created with seed 0: no checkpoint has
    its weights.

    Raises:
        StoreError: the source or the frozen weights differ from those of the design.

    """
    config = design.config
    keeps_weights = config.frozen or config.adapter != "none"
    if config.library:
        if weights_of(config, base) != design.backbone["weights"]:
            raise StoreError(
                f"encoder.name {config.name!r}: its files are not those of the checkpoint;"
                " `remine run` starts from a fresh encoder"
            )
        return load_network(config, design.content, base)
    if not config.is_custom:
        return load_efficientnet().eval()
    network, source = load_custom(config.name, base, 0 if keeps_weights else seed).parts
    if source != design.backbone["source"]:
        raise StoreError(
            f"encoder.name {config.name!r}: its source is not the one of the checkpoint;"
            " `remine run` starts from a fresh encoder"
        )
    if keeps_weights:
        weights = hashlib.sha256(encoder_bytes(network)).hexdigest()
        if weights != design.backbone["weights"]:
            raise StoreError(
                f"encoder.name {config.name!r}: its weights are not those of the checkpoint: a"
                " frozen network must get the same ones each time"
            )
    return network.eval()


def input_transform(
    config: EncoderConfig, content: str, base: Path, pictures: ImageTransform
) -> Transform:
    """The transform of contents to the encoder's inputs.

    Args:
        config: The encoder, whose own transform is used if it has one.
        content: What the items are: "image", "path", "text" or "vector".
        base: The folder in which a user-defined encoder is looked up.
        pictures: The transform of pictures, for an encoder without one of its own.

    """
    if config.is_custom and (
        custom := as_transform(config.name, content, load_custom(config.name, base))
    ):
        return custom
    if content in PICTURES:
        return pictures
    if content == "vector":
        return vector_transform
    return token_transform(config, base) if config.library else GramTransform()


def picture_transform(
    config: EncoderConfig, content: str, base: Path, data: DataConfig
) -> ImageTransform:
    """The transform of new pictures: the settings', or where they say 0 what the network asks for.

    Args:
        config: The encoder.
        content: What the items are.
        base: The folder in which a model is looked up.
        data: image_size, channels and fit.

    Raises:
        InputError: Pictures are to be fitted, but to no size.

    """
    side, channels, fit = data.image_size, data.channels, data.fit
    if content in PICTURES and config.library:
        known = facts(config, content, base)
        side, channels = side or known.side, channels or 3
        fit = known.fit if fit == "auto" else fit
    elif content in PICTURES and config.name in WEIGHTS_PACKAGES:
        side, channels = side or LITE_SIDE, channels or 3
    if content in PICTURES and fit != "auto" and not side:
        raise InputError(
            f'data.fit is "{fit}", but there is no size to fit to: set data.image_size'
        )
    return ImageTransform(side, channels, "crop" if fit == "auto" else fit)


def transform_key(config: EncoderConfig, base: Path) -> list[str]:
    """What determines the inputs beside the data and its settings: source, tokenizer, prompt."""
    if config.is_custom:
        custom = load_custom(config.name, base)
        return [config.name, custom.source] if custom.transform else []
    if config.library:
        settings = [config.prompt, str(config.max_tokens)]
        return [config.library, weights_of(config, base), *settings]
    # Its pictures have a size and channels of their own where data says 0.
    return [config.name] if config.name in WEIGHTS_PACKAGES else []
