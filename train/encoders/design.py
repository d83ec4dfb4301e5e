"""All that an encoder's architecture follows from, and the encoder that follows from it.

A design lies in the checkpoint's card. It names a network that comes from elsewhere by the hash of
its weights or its source, and a network that changed since is refused.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import Transform
from remine.train.checkpoint import encoder_bytes
from remine.train.config import EncoderConfig
from remine.train.encoders.custom import as_transform, checked_dimensions, load_custom
from remine.train.encoders.efficientnet import load_efficientnet
from remine.train.encoders.encoder import Encoder, build_encoder
from remine.train.encoders.heads import Headed, build_head
from remine.train.encoders.minilm import TOKENIZER_SHA256, TokenTransform, load_minilm
from remine.train.encoders.packaged import PACKAGED

LOADERS = {"efficientnet_lite0": load_efficientnet, "minilm": load_minilm}
LATER = ("frozen", "head")
"""Settings that older checkpoints do not name; at their defaults newer ones do not either."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """An encoder of `config` for items of `content` whose inputs have `shape` and `dtype`.

    backbone: where the network comes from elsewhere, the `dimensions` that it gives, and the hash
    of its `source` or of its `weights` (those that it starts from, or keeps if it is frozen).
    """

    config: EncoderConfig
    content: str
    shape: tuple[int, ...]
    dtype: str = ""
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it lies in a card."""
        settings = asdict(self.config)
        defaults = {f.name: f.default for f in fields(self.config)}
        settings = {k: v for k, v in settings.items() if k not in LATER or v != defaults[k]}
        whole = {**settings, "content": self.content, "shape": list(self.shape)}
        if self.backbone:
            whole |= {"dtype": self.dtype, "backbone": dict(self.backbone)}
        return whole

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The design that `to_json` wrote."""
        rest = dict(value)
        named = {k: rest.pop(k) for k in ("content", "dtype", "backbone") if k in rest}
        shape = tuple(rest.pop("shape"))
        return cls(config=EncoderConfig(**rest), shape=shape, **named)

    @property
    def given(self) -> int:
        """Of a frozen encoder: the dimensions of the features that its head reads; else 0."""
        return int(self.backbone["dimensions"]) if self.config.frozen else 0


def design(
    config: EncoderConfig, content: str, shape: Sequence[int], dtype: str, base: Path
) -> Design:
    """The design that these settings come to today; own modules are looked for in `base`."""
    backbone: dict[str, Any] = {}
    if config.custom:
        network, source = load_custom(config.name, base).parts
        backbone["dimensions"] = checked_dimensions(config.name, network, shape, dtype)
        backbone["source"] = source
        if config.frozen:
            backbone["weights"] = hashlib.sha256(encoder_bytes(network)).hexdigest()
    elif config.name in PACKAGED:
        packaged = PACKAGED[config.name]
        if content not in packaged.contents:
            raise InputError(
                f"encoder.name is {config.name!r}, which does not read items of {content}"
            )
        backbone = {"dimensions": packaged.dimensions, "weights": packaged.sha256}
    return Design(
        config=config, content=content, shape=tuple(shape), dtype=dtype, backbone=backbone
    )


def build_trained(design: Design, base: Path, seed: int = 0) -> Encoder:
    """What is trained and saved: the whole encoder, or of a frozen one the head on its features."""
    config = design.config
    if not config.backbone:
        return build_encoder(config, design.content, design.shape, seed)
    dimensions = int(design.backbone["dimensions"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(config.head, dimensions, config.dimensions)
    if config.frozen:
        return Encoder(head)
    backbone = build_backbone(design, base, seed)
    if config.head == "auto" and config.dimensions in (0, dimensions):
        return Encoder(backbone)
    return Encoder(Headed(backbone, head))


def whole(trained: Encoder, design: Design, base: Path) -> Encoder:
    """The encoder from inputs to unit vectors, of which `trained` is what was trained."""
    if not design.config.frozen:
        return trained
    return Encoder(Headed(build_backbone(design, base), trained.body)).eval()


def build_backbone(design: Design, base: Path, seed: int = 0) -> nn.Module:
    """The network that comes from elsewhere, as it is before any training, set for use.

    A frozen one of the user's is always made under seed 0: its weights lie in no checkpoint.
    """
    config = design.config
    if not config.custom:
        return LOADERS[config.name]().eval()
    network, source = load_custom(config.name, base, 0 if config.frozen else seed).parts
    if source != design.backbone["source"]:
        raise StoreError(
            f"encoder.name {config.name!r}: its source is not the one of the checkpoint;"
            " `remine run` starts from a fresh encoder"
        )
    if config.frozen:
        weights = hashlib.sha256(encoder_bytes(network)).hexdigest()
        if weights != design.backbone["weights"]:
            raise StoreError(
                f"encoder.name {config.name!r}: its weights are not those of the checkpoint: a"
                " frozen network must get the same ones each time"
            )
    return network.eval()


def transform_of(config: EncoderConfig, content: str, base: Path) -> Transform | None:
    """The encoder's own transform of contents to inputs; None where the content's own will do."""
    if config.custom:
        return as_transform(config.name, content, load_custom(config.name, base))
    return TokenTransform() if config.name == "minilm" and content == "text" else None


def transform_key(config: EncoderConfig, base: Path) -> list[str]:
    """What decides the inputs beside the data: the hash of a transform's source or tokens."""
    if config.custom:
        custom = load_custom(config.name, base)
        return [config.name, custom.source] if custom.transform else []
    return [TOKENIZER_SHA256] if config.name == "minilm" else []
