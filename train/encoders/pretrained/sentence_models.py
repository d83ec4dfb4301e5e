"""Encoders of sentence-transformers: st:PATH, with a model's own pooling, prompts and tokenizer."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.train.encoders.pretrained.model_files import (
    imported,
    one_line_errors,
    quiet_transformers,
)
from remine.train.encoders.pretrained.tokens import Tokenize, count_cut, without_dropout

INSTALL = "sentence-transformers"


class SentenceNetwork(nn.Module):
    """The modules of a sentence-transformers model, under names that do not depend on its version.

    Attributes:
        transformer: The model of transformers.
        rest: What follows: pooling, dense layers, normalisation.
        limit: Tokens of the longest text.

    """

    def __init__(self, model: Any, prompt_length: int) -> None:
        """`prompt_length`: tokens of the prompt, which some models leave out of their pooling."""
        super().__init__()
        self.limit = int(model.max_seq_length or 512)
        self.transformer: nn.Module = model[0].auto_model
        self.rest = nn.ModuleList(list(model)[1:])
        # In a tuple it is no child, so that no weight has two names.
        self._input_module = (model[0],)
        self._prompt_length = prompt_length

    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        """Token numbers (m, l) and mask (m, l) to (m, d)."""
        features: dict[str, Any] = {"input_ids": numbers, "attention_mask": mask}
        if self._prompt_length:
            features["prompt_length"] = self._prompt_length
        features = self._input_module[0](features)
        for module in self.rest:
            features = module(features)
        return cast("Tensor", features["sentence_embedding"])


def sentence_model(name: str, folder: Path, device: str = "cpu") -> Any:
    """Load the SentenceTransformer of a folder, in float32.

    Raises:
        InputError: sentence-transformers is not installed, or it cannot load the folder, or the
            model does not begin with a transformer over texts.

    """
    quiet_transformers(name)
    library = imported("sentence_transformers", name, INSTALL)
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    with one_line_errors(name):
        model = library.SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )
    if not isinstance(getattr(model[0], "auto_model", None), nn.Module):
        raise InputError(
            f"encoder.name is {name!r}, which begins with {type(model[0]).__name__}; remine reads"
            " models that begin with a Transformer"
        )
    return model.eval()


def load_network(name: str, folder: Path, prompt: str) -> SentenceNetwork:
    """The network, without dropout and without what it does not use."""
    model = sentence_model(name, folder)
    _drop_pooler(model[0].auto_model)
    without_dropout(model)
    text = prompt_text(model, prompt)
    features = model.preprocess(["a"], prompt=text) if text else {}
    return SentenceNetwork(model, int(features.get("prompt_length") or 0))


def _drop_pooler(transformer: Any) -> None:
    """Remove the pooler: sentence-transformers pools tokens itself and never trains it."""
    if isinstance(getattr(transformer, "pooler", None), nn.Module):
        transformer.pooler = None


def prompt_text(model: Any, prompt: str) -> str | None:
    """The text of encoder.prompt: one of the model's by name, or itself; else its default."""
    if prompt:
        return str(model.prompts.get(prompt, prompt))
    return model.prompts.get(model.default_prompt_name) or None


def load_tokenize(name: str, folder: Path, prompt: str, limit: int) -> Callable[[], Tokenize]:
    """A function that loads the model's own way to make tokens of texts."""

    def load() -> Tokenize:
        model = sentence_model(name, folder)
        model.max_seq_length = limit
        model[0].auto_model.to("meta")  # only the tokenizer is used
        text = prompt_text(model, prompt)

        def length(content: str) -> int:
            numbers = model.tokenizer((text or "") + content, truncation=False, verbose=False)
            return len(numbers["input_ids"])

        def tokenize(texts: Sequence[str]) -> tuple[list[list[int]], int]:
            features = model.preprocess(list(texts), prompt=text)
            pairs = zip(features["input_ids"], features["attention_mask"], strict=True)
            rows = [numbers[mask.bool()].tolist() for numbers, mask in pairs]
            return rows, count_cut(texts, rows, limit, length)

        return tokenize

    return load
