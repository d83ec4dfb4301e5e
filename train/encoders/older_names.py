"""Names of tensors in checkpoints of earlier versions, and those of today.

Until version 0.1 remine had a MiniLM of its own, whose tensors had other names. Their order was
that of transformers, so that the state of an optimizer, which is by number, stays valid.
"""

import re

from torch import Tensor

MARK = re.compile(r"^body\.(backbone\.)?(word|layers\.0\.query)\.weight$")
"""A name that only the earlier MiniLM has."""
LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "joined": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm2": "output.LayerNorm",
}
EMBEDDING_NAMES = {
    "word": "word_embeddings",
    "position": "position_embeddings",
    "token_type": "token_type_embeddings",
    "norm": "LayerNorm",
}


def current_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names of today."""
    if not any(MARK.match(name) for name in state):
        return state
    return {_current_name(name): tensor for name, tensor in state.items()}


def _current_name(name: str) -> str:
    prefix, rest = ("body.backbone.", name.removeprefix("body.backbone."))
    if rest == name:
        prefix, rest = "body.", name.removeprefix("body.")
    parts = rest.split(".")
    target = f"{prefix}network.transformer."
    if parts[0] in EMBEDDING_NAMES:
        return f"{target}embeddings.{EMBEDDING_NAMES[parts[0]]}.{parts[1]}"
    if parts[0] == "layers":
        return f"{target}encoder.layer.{parts[1]}.{LAYER_NAMES[parts[2]]}.{parts[3]}"
    return name
