"""The encoder of a version with its transform, ready for new data."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.inputs import PICTURES, Omissions, Transform, transform_counted
from remine.data.items.tensors import Tensors, as_tensors
from remine.data.types import Float32
from remine.index.embed import embed_rows

Content = str | bytes | Path | Image.Image | np.ndarray
"""A text; a picture as encoded bytes, a path (text, too) or a Pillow image; or a vector (d,)."""


class ReadyEncoder(nn.Module):
    """An encoder that takes what the items were made of.

    Attributes:
        network: The torch module, from a batch of inputs (m, ...) to unit vectors (m, d).

    """

    def __init__(self, network: nn.Module, transform: Transform, content: str) -> None:
        """Put a network and the transform of its inputs together; in evaluation mode.

        content: what it takes: "image", "path", "text" or "vector".
        """
        super().__init__()
        self.network = network
        self._transform = transform
        self._content = content
        self.eval()

    def transform(self, contents: Sequence[Content]) -> Tensors:
        """Turn contents into a batch of inputs (m, ...) for the network, on the CPU.

        A network that reads several arrays gets them by name.

        Raises:
            InputError: A content cannot be read; its position is named.

        """
        return as_tensors(self._transform_block(contents, 0)[0])

    def forward(self, inputs: Tensors) -> Tensor:
        """Unit vectors (m, d) of a batch of inputs."""
        vectors: Tensor = self.network(inputs)
        return vectors

    def encode(self, contents: Sequence[Content], batch: int = 256) -> Float32:
        """Embed contents.

        Args:
            contents: Texts, pictures or vectors: what the store's items are.
            batch: How many pass through the network together at most.

        Returns:
            Unit vectors (m, d), float32, in the order of the contents.

        Warns:
            UserWarning: Contents were cut, as texts that are longer than the encoder reads.

        Raises:
            InputError: A content cannot be read, or its embedding is not finite.

        """
        if isinstance(contents, str | bytes) or not len(contents):
            raise InputError("no contents to encode: give a list of them")
        parameter = next(self.network.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        parts, omissions = [], []
        for start in range(0, len(contents), batch):
            inputs, omission = self._transform_block(contents[start : start + batch], start)
            omissions.append(omission)
            try:
                parts.append(embed_rows(self.network, inputs, range(len(inputs)), batch, device))
            except InputError as error:
                raise InputError(f"contents from {start} on: {error}") from None
        vectors: Float32 = np.concatenate(parts)
        for line in Omissions.total(omissions).lines():
            warnings.warn(line, stacklevel=2)
        return vectors

    def _transform_block(
        self, contents: Sequence[Content], start: int
    ) -> tuple[np.ndarray, Omissions]:
        """The inputs of contents from number `start` on, and what was not read of them."""
        parts: list[Any] = [encoded(content, self._content) for content in contents]
        return transform_counted(self._transform, parts, lambda row: f"content {start + row}")


def encoded(content: Content, kind: str) -> Any:
    """A content as transforms take it: pictures as bytes or paths, anything else as it is."""
    if kind in PICTURES and isinstance(content, str):
        return Path(content)
    if not isinstance(content, Image.Image):
        return content
    body = io.BytesIO()
    content.save(body, "PNG")
    return body.getvalue()
