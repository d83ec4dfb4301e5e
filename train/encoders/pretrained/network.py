"""Pretrained networks by the library that loads them, and what remine must know of each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from remine.data.config import Fit
from remine.data.errors import InputError
from remine.data.items.inputs import PICTURES
from remine.train.encoders.config import EncoderConfig, library_name
from remine.train.encoders.pretrained import (
    picture_libraries,
    sentence_models,
    transformer_models,
)
from remine.train.encoders.pretrained.model_files import files_hash, model_folder
from remine.train.encoders.pretrained.pictures import PictureNetwork
from remine.train.encoders.pretrained.tokens import (
    OFFSET,
    Tokenize,
    TokenNetwork,
    TokenTransform,
)
from remine.train.encoders.weights_packages import WEIGHTS_PACKAGES


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a pretrained network once it has been loaded.

    dimensions: of its features. weights: hash of the files or weights that identify it. side: in
    pixels of the pictures it asks for, 0 for texts. fit: how they are made square. limit: tokens of
    the longest text, 0 for pictures.
    """

    dimensions: int
    weights: str
    side: int = 0
    limit: int = 0
    fit: Fit = "crop"


def facts(config: EncoderConfig, content: str, base: Path) -> Facts:
    """What is known of the network that the settings name.

    Raises:
        InputError: It cannot be had, or does not read items of this kind.

    """
    check_content(config, content, base)
    weights = weights_of(config, base)
    key = (config.name, config.pooling, config.prompt, config.max_tokens)
    return _facts(key, content in PICTURES, base, weights)


@lru_cache(maxsize=16)
def _facts(key: tuple[str, str, str, int], is_picture: bool, base: Path, weights: str) -> Facts:  # noqa: FBT001
    name, pooling, prompt, max_tokens = key
    config = EncoderConfig(name=name, pooling=pooling, prompt=prompt, max_tokens=max_tokens)  # type: ignore[arg-type]
    content = "image" if is_picture else "text"
    network, limit = _load(config, content, base)
    recipe = network.recipe if isinstance(network, PictureNetwork) else None
    side = recipe.side if recipe else 0
    shape, dtype = ((1, 3, side, side), torch.uint8) if is_picture else ((1, 8), torch.int32)
    with torch.inference_mode():
        dimensions = network.eval()(torch.ones(shape, dtype=dtype)).shape[1]
    if max_tokens > limit > 0:
        raise InputError(
            f"encoder.max_tokens is {max_tokens}; {name} reads at most {limit} tokens of a text"
        )
    fit: Fit = recipe.fit if recipe else "crop"
    limit = max_tokens or limit
    return Facts(dimensions=dimensions, weights=weights, side=side, limit=limit, fit=fit)


def check_content(config: EncoderConfig, content: str, base: Path) -> None:
    """Refuse a network that does not read items of this kind."""
    if content not in _contents(config, base):
        raise InputError(f"encoder.name is {config.name!r}, which does not read items of {content}")


def _contents(config: EncoderConfig, base: Path) -> tuple[str, ...]:
    """The kinds of items that the network reads."""
    if config.library == "st":
        return ("text",)
    if config.library != "hf":
        return (*PICTURES, "text") if config.library == "open_clip" else PICTURES
    folder = model_folder(config.name, base)
    if transformer_models.is_picture_model(folder):
        return PICTURES
    has_pictures = (folder / "preprocessor_config.json").is_file()
    return (*PICTURES, "text") if has_pictures else ("text",)


def weights_of(config: EncoderConfig, base: Path) -> str:
    """The hash that identifies the network."""
    if config.name in WEIGHTS_PACKAGES:
        model_folder(config.name, base)  # checks the package's weights
        return WEIGHTS_PACKAGES[config.name].sha256
    library, model = library_name(config.name)
    if library in ("st", "hf"):
        return files_hash(model_folder(config.name, base))
    return picture_libraries.weights_hash(config.name, library, model)


def load_network(config: EncoderConfig, content: str, base: Path) -> nn.Module:
    """The network before any training, in evaluation mode: from stored inputs to features."""
    return _load(config, content, base)[0].eval()


def _load(config: EncoderConfig, content: str, base: Path) -> tuple[nn.Module, int]:
    """The network, and the limit of its texts, 0 for pictures."""
    name = config.name
    library, model = ("st", "") if name == "minilm" else library_name(name)
    if library == "st":
        folder = model_folder(name, base)
        sentences = sentence_models.load_network(name, folder, config.prompt)
        return TokenNetwork(sentences, _offset(name)), sentences.limit
    if library == "hf":
        folder = model_folder(name, base)
        if content not in PICTURES:
            texts = transformer_models.load_texts(name, folder, config.pooling)
            return TokenNetwork(texts), transformer_models.limit_of(name, folder)
        recipe = transformer_models.picture_recipe(folder)
        pictures = transformer_models.load_pictures(name, folder, config.pooling)
        return PictureNetwork(pictures, recipe), 0
    if content == "text":
        tower = picture_libraries.load_clip_texts(name, model)
        return TokenNetwork(tower), picture_libraries.clip_limit(name, model)
    network, recipe = picture_libraries.load(name, library, model)
    return PictureNetwork(network, recipe), 0


def token_transform(config: EncoderConfig, base: Path) -> TokenTransform:
    """The transform of texts to the network's tokens."""
    limit = facts(config, "text", base).limit
    return TokenTransform(_tokenize(config, base, limit), limit, _offset(config.name))


def _tokenize(config: EncoderConfig, base: Path, limit: int) -> Callable[[], Tokenize]:
    name = config.name
    if config.library == "open_clip":
        return picture_libraries.load_clip_tokenize(name, library_name(name)[1])
    folder = model_folder(name, base)
    if config.library == "st":
        return sentence_models.load_tokenize(name, folder, config.prompt, limit)
    return transformer_models.load_tokenize(name, folder, config.prompt, limit)


def _offset(name: str) -> int:
    """What is added to token numbers; stores of earlier versions hold MiniLM's as they are."""
    return 0 if name == "minilm" else OFFSET
