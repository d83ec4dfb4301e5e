"""Texts as rows of token numbers, and the network over such rows.

A row holds the number of each token plus `offset`, then zeros up to the longest text. No text ends
with a 0, so that its length is known without a mask, whatever number a tokenizer pads with. Stored
shards and batches are cut to their longest text; nothing is lost by it.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import Omissions
from remine.data.types import Int32

OFFSET = 1
"""Added to token numbers, so that none is 0."""
CHUNK = 32
"""Texts computed at a time on a CPU, sorted by length."""

Tokenize = Callable[[Sequence[str]], tuple[list[list[int]], int]]
"""From texts to the numbers of their tokens, and how many texts were cut."""


class TokenTransform:
    """Texts to (rows, limit) int32; counts the texts that are cut.

    Attributes:
        pads: True: zeros at the ends of rows are padding, and need not be stored.
        omissions: How many texts were cut, and at which length.

    """

    pads = True

    def __init__(self, load: Callable[[], Tokenize], limit: int, offset: int = OFFSET) -> None:
        """`load` is called with the first text; `limit`: tokens of the longest row."""
        self._load, self.limit, self.offset = load, limit, offset
        self._tokenize: Tokenize | None = None
        self.omissions = Omissions()

    def __call__(self, contents: Sequence[str], location: Callable[[int], str]) -> Int32:
        """Token numbers of the texts.

        Args:
            contents: Texts.
            location: From the number of a text to the file and row for an error message.

        Raises:
            InputError: A text is empty, or the tokenizer is not installed.

        """
        for row, text in enumerate(contents):
            if not text.strip():
                raise InputError(f"{location(row)}: the text is empty")
        self._tokenize = self._tokenize or self._load()
        rows, cut_count = self._tokenize(contents)
        tokens = np.zeros((len(contents), self.limit), np.int32)
        for row, numbers in enumerate(rows):
            tokens[row, : len(numbers)] = np.asarray(numbers, np.int32) + self.offset
        note = f"texts: cut to their first {self.limit:,} tokens"
        self.omissions.add(len(contents), [note] * cut_count)
        return tokens


def count_cut(
    texts: Sequence[str], rows: Sequence[Sequence[int]], limit: int, length: Callable[[str], int]
) -> int:
    """How many texts have more than `limit` tokens; `length` counts all tokens of one text."""
    full_rows = [text for text, row in zip(texts, rows, strict=True) if len(row) >= limit]
    return sum(length(text) > limit for text in full_rows)


class TokenNetwork(nn.Module):
    """A network over tokens that takes rows of `TokenTransform`.

    On a CPU, texts of similar length are computed together, so that padding costs little; a GPU is
    better used by one large batch, padding included.
    """

    def __init__(self, network: nn.Module, offset: int = OFFSET) -> None:
        """`network` maps token numbers (m, l) and their mask (m, l), both int64, to (m, d)."""
        super().__init__()
        self.network = network
        self.offset = offset

    def forward(self, tokens: Tensor) -> Tensor:
        """(m, l) int32 rows to (m, d)."""
        lengths = self.row_lengths(tokens)
        size = len(tokens) if tokens.is_cuda else CHUNK
        if len(tokens) <= size:
            return self._chunk(tokens, lengths)
        order = torch.argsort(lengths, stable=True)
        parts = [self._chunk(tokens[rows], lengths[rows]) for rows in torch.split(order, size)]
        return torch.cat(parts)[torch.argsort(order)]

    def _chunk(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        longest = int(lengths.max())
        mask = torch.arange(longest, device=tokens.device) < lengths[:, None]
        numbers = (tokens[:, :longest].long() - self.offset).clamp_min(0)
        return cast("Tensor", self.network(numbers, mask.long()))

    @staticmethod
    def row_lengths(tokens: Tensor) -> Tensor:
        """Number of tokens (m,) int64 of each row (m, l); at least 1, also of a row of zeros."""
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        return (places * (tokens != 0)).amax(dim=1).clamp_min(1)


def without_dropout(network: Any) -> None:
    """Turn off dropout and stochastic depth everywhere in a network.

    With them a step would depend on how many steps the process made before, and a resumed round
    would not give the same weights. Libraries keep the rates as modules, or as numbers of a module.
    """
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001 - all kinds of it
            module.p = 0.0
