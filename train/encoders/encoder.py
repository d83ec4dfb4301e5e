"""The encoder module, and networks trained from scratch for pictures, text and vectors.

Each reads the stored inputs as they are, for example uint8 pixels. Building one depends on its seed
only and does not change the state of the global generator.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.data.errors import InputError
from remine.data.items.inputs import Omissions
from remine.data.items.tensors import Tensors
from remine.data.types import Int32
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.heads import LinearBody

BUCKETS = 1 << 15
"""Rows of the table of gram vectors; row 0 is padding."""
GRAMS = 256
"""Grams read of a text."""
CUT_TEXT = f"texts: cut to their first {GRAMS} grams (all words, then the trigrams of each)"
NAME_BY_CONTENT = {"image": "conv", "path": "conv", "text": "ngram", "vector": "linear"}


class Encoder(nn.Module):
    """A body that returns d numbers, projected onto the unit sphere."""

    def __init__(self, body: nn.Module) -> None:
        """`body` maps (m, ...) inputs to (m, d)."""
        super().__init__()
        self.body = body

    def forward(self, inputs: Tensors) -> Tensor:
        """(m, ...) inputs, or several by name, to (m, d) float32 unit vectors."""
        embedding: Tensor = functional.normalize(self.features(inputs))
        return embedding

    def features(self, inputs: Tensors) -> Tensor:
        """(m, ...) inputs to (m, d) float32 before normalisation, which some losses use."""
        features: Tensor = self.body(inputs).float()
        return features


def build_encoder(
    config: EncoderConfig, content: str, shape: Sequence[int], seed: int = 0
) -> Encoder:
    """Build an encoder with random weights.

    Args:
        config: names the network; "auto" picks it by `content`.
        content: kind of the items: "image", "path", "text" or "vector".
        shape: of one input.
        seed: of the weights.

    Raises:
        InputError: the network does not read items of this kind.

    """
    name = NAME_BY_CONTENT[content] if config.name == "auto" else config.name
    if name != NAME_BY_CONTENT[content]:
        raise InputError(f"encoder.name is {name!r}, which does not read items of {content}")
    builders: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: ConvBody(shape, config.width, config.dimensions or 64),
        "ngram": lambda: NgramBody(config.dimensions or 64),
        "linear": lambda: LinearBody(shape[0], config.dimensions or shape[0]),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(builders[name]())


class ConvBody(nn.Module):
    """Convolutions that halve the side and double the width until 4 x 4 cells remain.

    Tensors are channels-last: on CPUs nearly twice as fast as the default layout.
    """

    def __init__(self, shape: Sequence[int], width: int, dimensions: int) -> None:
        """`shape`: (channels, height, width) of the pictures; `width`: of the first convolution."""
        super().__init__()
        channels, side = shape[0], max(shape[1:])
        blocks: list[nn.Module] = [_convolution(channels, width, stride=2)]
        side = (side + 1) // 2
        while side > 4:
            wider = min(2 * width, 256)
            blocks += [_convolution(width, wider), nn.MaxPool2d(2, ceil_mode=True)]
            # ceil_mode pools an odd border row by itself instead of dropping it.
            width, side = wider, (side + 1) // 2
        blocks += [_convolution(width, width), nn.AdaptiveAvgPool2d(4), nn.Flatten()]
        blocks += [nn.Linear(16 * width, dimensions)]
        self.layers = nn.Sequential(*blocks)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> Tensor:
        """(m, channels, height, width) uint8 to (m, d)."""
        pixels = pictures.contiguous(memory_format=torch.channels_last).float()
        features: Tensor = self.layers(pixels / 127.5 - 1)
        return features


class NgramBody(nn.Module):
    """Mean of the vectors of hashed words and character trigrams (as fastText), then two layers."""

    def __init__(self, dimensions: int) -> None:
        """`dimensions`: of the embedding."""
        super().__init__()
        self.grams = nn.EmbeddingBag(BUCKETS, 128, mode="mean", padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, dimensions))

    def forward(self, grams: Tensor) -> Tensor:
        """(m, GRAMS) int32 gram numbers, padded with 0, to (m, d)."""
        features: Tensor = self.layers(self.grams(grams))
        return features


class GramTransform:
    """Hashes words and character trigrams of texts by CRC-32 to numbers 1 to BUCKETS - 1."""

    def __init__(self) -> None:
        """With no text counted."""
        self.omissions = Omissions()

    def __call__(self, contents: Sequence[str], location: Callable[[int], str]) -> Int32:
        """Gram numbers of the texts.

        Args:
            contents: texts.
            location: from the number of a text to the file and row for an error message.

        Returns:
            (rows, GRAMS) int32, padded with 0; grams beyond GRAMS are dropped, which is counted.

        Raises:
            InputError: a text is empty.

        """
        out = np.zeros((len(contents), GRAMS), np.int32)
        notes: list[str] = []
        for row, text in enumerate(contents):
            grams = _grams(text)
            if not grams:
                raise InputError(f"{location(row)}: the text is empty")
            if len(grams) > GRAMS:
                notes.append(CUT_TEXT)
            numbers = [1 + zlib.crc32(gram.encode()) % (BUCKETS - 1) for gram in grams[:GRAMS]]
            out[row, : len(numbers)] = numbers
        self.omissions.add(len(contents), notes)
        return out


def _grams(text: str) -> list[str]:
    """The words of a text, then the trigrams of each."""
    # The marks distinguish prefixes and suffixes from trigrams inside a word, as in fastText.
    words = [f"<{word}>" for word in text.lower().split()]
    return words + [w[i : i + 3] for w in words for i in range(len(w) - 2)]


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
