"""Encoders of timm, torchvision and open_clip, where they are installed."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from torch import Tensor, nn

from remine.data.config import Fit
from remine.data.errors import InputError
from remine.train.checkpoint import encoder_bytes
from remine.train.encoders.pretrained.model_files import imported, one_line_errors
from remine.train.encoders.pretrained.pictures import PictureRecipe
from remine.train.encoders.pretrained.tokens import Tokenize, without_dropout

FITS: dict[str, Fit] = {
    "center": "crop",
    "squash": "stretch",
    "border": "pad",
    "shortest": "crop",
    "longest": "pad",
}
"""What timm (crop_mode) and open_clip (resize_mode) call it."""


def load(name: str, library: str, model: str) -> tuple[nn.Module, PictureRecipe]:
    """The network without its classifier, without dropout, and how it wants its pictures.

    Args:
        name: The encoder's name, for messages.
        library: "timm", "torchvision" or "open_clip".
        model: The model's name in the library.

    Raises:
        InputError: The library is not installed, or it does not have the model or its weights.

    """
    loaders = {"timm": _timm, "torchvision": _torchvision, "open_clip": _open_clip}
    with one_line_errors(name):
        network, recipe = loaders[library](name, model)
    without_dropout(network)
    return network.eval(), recipe


@lru_cache(maxsize=8)
def weights_hash(name: str, library: str, model: str) -> str:
    """SHA-256 of the weights; a library's cache has no folder of a model's own to hash."""
    return hashlib.sha256(encoder_bytes(load(name, library, model)[0])).hexdigest()


def _timm(name: str, model: str) -> tuple[nn.Module, PictureRecipe]:
    timm: Any = imported("timm", name, "timm")
    data: Any = imported("timm.data", name, "timm")
    network = timm.create_model(model, pretrained=True, num_classes=0)
    config = data.resolve_model_data_config(network)
    fit = FITS.get(config.get("crop_mode", "center"), "crop")
    return network, _recipe(config["input_size"][-1], config["mean"], config["std"], fit)


def _torchvision(name: str, model: str) -> tuple[nn.Module, PictureRecipe]:
    models: Any = imported("torchvision.models", name, "torchvision")
    weights = models.get_model_weights(model).DEFAULT
    network = models.get_model(model, weights=weights)
    transforms = weights.transforms()
    size = transforms.crop_size
    side = size[0] if isinstance(size, Sequence) else size
    return _without_classifier(network), _recipe(side, transforms.mean, transforms.std)


def _without_classifier(network: nn.Module) -> nn.Module:
    """The network with the identity in place of its last linear layer, which names classes."""
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    parent, _, child = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network


class ClipTower(nn.Module):
    """One tower of open_clip's models: pictures, or texts as padded rows of tokens."""

    def __init__(self, model: Any, *, is_text: bool) -> None:
        """The tower of texts takes (numbers, mask), that of pictures pixels."""
        super().__init__()
        self.model = model
        self.is_text = is_text

    def forward(self, *inputs: Tensor) -> Tensor:
        """To (m, d)."""
        if self.is_text:
            width = int(self.model.context_length)
            numbers = nn.functional.pad(inputs[0], (0, width - inputs[0].shape[1]))
            return cast("Tensor", self.model.encode_text(numbers))
        return cast("Tensor", self.model.encode_image(inputs[0]))


def _open_clip(name: str, model: str) -> tuple[nn.Module, PictureRecipe]:
    clip, network = _clip_model(name, model)
    config = clip.get_model_preprocess_cfg(network)
    size = config["size"]
    side = size[0] if isinstance(size, Sequence) else size
    fit = FITS.get(config.get("resize_mode", "shortest"), "crop")
    return ClipTower(network, is_text=False), _recipe(side, config["mean"], config["std"], fit)


def _clip_model(name: str, model: str) -> tuple[Any, Any]:
    clip: Any = imported("open_clip", name, "open_clip_torch")
    architecture, _, weights = model.partition("/")
    if not weights:
        raise InputError(f"encoder.name is {name!r}; name its weights: open_clip:NAME/WEIGHTS")
    return clip, clip.create_model(architecture, pretrained=weights)


def load_clip_texts(name: str, model: str) -> nn.Module:
    """open_clip's network over tokens."""
    with one_line_errors(name):
        _, network = _clip_model(name, model)
    without_dropout(network)
    return ClipTower(network.eval(), is_text=True)


def load_clip_tokenize(name: str, model: str) -> Callable[[], Tokenize]:
    """A function that loads open_clip's tokenizer, which cuts texts itself and says nothing."""

    def load_tokenizer() -> Tokenize:
        clip: Any = imported("open_clip", name, "open_clip_torch")
        tokenizer = clip.get_tokenizer(model.partition("/")[0])

        def tokenize(texts: Sequence[str]) -> tuple[list[list[int]], int]:
            rows = []
            for numbers in tokenizer(list(texts)).tolist():
                end = max((i for i, number in enumerate(numbers) if number), default=0)
                rows.append(numbers[: end + 1])
            width = len(tokenizer(["a"])[0])
            return rows, sum(len(row) >= width for row in rows)

        return tokenize

    return load_tokenizer


def clip_limit(name: str, model: str) -> int:
    """The longest text in tokens."""
    clip: Any = imported("open_clip", name, "open_clip_torch")
    return len(clip.get_tokenizer(model.partition("/")[0])(["a"])[0])


def _recipe(
    side: int, mean: Sequence[float], deviation: Sequence[float], fit: Fit = "crop"
) -> PictureRecipe:
    return PictureRecipe(
        side=int(side),
        mean=tuple(255 * m for m in mean),
        deviation=tuple(255 * s for s in deviation),
        fit=fit,
    )
