"""Encoders of transformers: hf:PATH, an AutoModel over texts or pictures with its pooling."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from remine.train.encoders.pretrained.model_files import one_line_errors, quiet_transformers
from remine.train.encoders.pretrained.pictures import PictureRecipe
from remine.train.encoders.pretrained.tokens import Tokenize, count_cut, without_dropout


def is_picture_model(folder: Path) -> bool:
    """Whether a model's folder says how to prepare pictures, and not how to make tokens."""
    return (folder / "preprocessor_config.json").is_file() and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")
    )


def auto_model(name: str, folder: Path) -> Any:
    """Load the AutoModel of a folder, in float32.

    Raises:
        InputError: transformers is not installed, or it cannot load the folder.

    """
    transformers = quiet_transformers(name)
    with one_line_errors(name):
        model = transformers.AutoModel.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32
        )
    without_dropout(model)
    return model.eval()


class TextPooling(nn.Module):
    """A transformer over tokens, and the mean of its last layer or its first token."""

    def __init__(self, transformer: Any, pooling: str) -> None:
        """`pooling`: "auto" and "mean", or "cls"."""
        super().__init__()
        if isinstance(getattr(transformer, "pooler", None), nn.Module):
            transformer.pooler = None  # not read, and so never trained
        self.transformer = transformer
        self.pooling = "cls" if pooling == "cls" else "mean"

    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        """Token numbers (m, l) and mask (m, l) to (m, d)."""
        output = self.transformer(input_ids=numbers, attention_mask=mask)
        states: Tensor = output.last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        weights = mask[:, :, None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


class PicturePooling(nn.Module):
    """A transformer or conv net over pictures, and its own pooling, the mean or the first token."""

    def __init__(self, transformer: Any, pooling: str) -> None:
        """`pooling`: "auto", "mean" or "cls"."""
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, pixels: Tensor) -> Tensor:
        """(m, 3, height, width) float32 to (m, d)."""
        output = self.transformer(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        if self.pooling == "auto" and pooled is not None:
            return cast("Tensor", pooled.flatten(1))
        states: Tensor = output.last_hidden_state
        if states.ndim == 4:  # (m, d, height, width) of a conv net
            states = states.flatten(2).transpose(1, 2)
        return states[:, 0] if self.pooling == "cls" else states.mean(dim=1)


def load_texts(name: str, folder: Path, pooling: str) -> nn.Module:
    """The network over tokens, without dropout."""
    return TextPooling(auto_model(name, folder), pooling)


def load_pictures(name: str, folder: Path, pooling: str) -> nn.Module:
    """The network over pictures; of a model of pictures and texts the tower of pictures."""
    model = auto_model(name, folder)
    return PicturePooling(getattr(model, "vision_model", model), pooling)


def tokenizer_of(name: str, folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        InputError: It does not load.

    """
    transformers = quiet_transformers(name)
    with one_line_errors(name, "whose tokenizer"):
        return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def load_tokenize(name: str, folder: Path, prompt: str, limit: int) -> Callable[[], Tokenize]:
    """A function that loads the tokenizer."""

    def load() -> Tokenize:
        tokenizer = tokenizer_of(name, folder)

        def numbers_of(texts: Sequence[str], **options: Any) -> list[list[int]]:
            contents = [prompt + text for text in texts]
            return cast("list[list[int]]", tokenizer(contents, **options)["input_ids"])

        def tokenize(texts: Sequence[str]) -> tuple[list[list[int]], int]:
            rows = numbers_of(texts, truncation=True, max_length=limit)
            return rows, count_cut(
                texts,
                rows,
                limit,
                lambda text: len(numbers_of([text], truncation=False, verbose=False)[0]),
            )

        return tokenize

    return load


def limit_of(name: str, folder: Path) -> int:
    """The longest text in tokens that a model reads: of its tokenizer and of its positions."""
    config = json.loads((folder / "config.json").read_text())
    positions = config.get("max_position_embeddings") or 512
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # their positions begin at 2
    return int(min(tokenizer_of(name, folder).model_max_length, positions))


def picture_recipe(folder: Path) -> PictureRecipe:
    """The size, fit and normalisation that a model's preprocessor_config.json asks for."""
    config = json.loads((folder / "preprocessor_config.json").read_text())
    size = config.get("crop_size") if config.get("do_center_crop") else None
    size = size or config.get("size") or 224
    # Without a crop, and with a width and a height, both sides are scaled.
    is_cropped = config.get("do_center_crop") or "shortest_edge" in str(config.get("size"))
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or 224
    rescale = (
        float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    )
    normalises = config.get("do_normalize", True)
    mean = config.get("image_mean") if normalises else None
    deviation = config.get("image_std") if normalises else None
    return PictureRecipe(
        side=int(size),
        mean=tuple(m / rescale for m in mean or (0.0, 0.0, 0.0)),
        deviation=tuple(s / rescale for s in deviation or (1.0, 1.0, 1.0)),
        fit="crop" if is_cropped else "stretch",
    )
