"""Any loss of pytorch-metric-learning by its name."""

import importlib
import inspect
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.train.losses.batch import Batch, LossValue

PREFIX = "pml:"


class ExternalLoss(nn.Module):
    """A pytorch-metric-learning loss, called with embeddings, labels and our triplets.

    Its own units and reductions hold, and its distance normalises by default. Where it samples it
    draws from torch's global generator: the objective seeds that step by step.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], dimensions: int, classes: int
    ) -> None:
        """The loss `name`; the number of classes and dimensions is given where it asks."""
        super().__init__()
        kind = _loss_class(name)
        asked = inspect.signature(kind.__init__).parameters
        given = {"num_classes": classes, "embedding_size": dimensions}
        needed = {k: v for k, v in given.items() if k in asked and _required(asked[k])}
        try:
            self.inner = kind(**{**needed, **options})
        except (TypeError, ValueError) as error:
            raise InputError(f"train.loss is 'pml:{name}': {_line(error)}") from None

    def forward(self, batch: Batch) -> LossValue:
        """Active is 1: what a term is differs from loss to loss."""
        extra = {} if batch.triplets is None else {"indices_tuple": tuple(batch.triplets)}
        own, labels = batch.pool[: len(batch.embeddings)], batch.known_labels
        if batch.older is not None:
            extra |= self._reference(batch)
        loss: Tensor = self.inner(own, labels, **extra)
        return LossValue(loss, torch.ones_like(loss.detach()))

    def _reference(self, batch: Batch) -> dict[str, Any]:
        """All pairs of the batch with batch and memory, self excluded by number, if none given."""
        pool: dict[str, Any] = {"ref_emb": batch.pool, "ref_labels": batch.pool_labels}
        if batch.triplets is None:
            near, far = batch.positive.nonzero().T, batch.negative.nonzero().T
            pool["indices_tuple"] = (near[0], near[1], far[0], far[1])
        return pool


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """["pos_margin=0.1"] to {"pos_margin": 0.1}; values as in TOML."""
    options = {}
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            options[name.strip()] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            sign = ""
        if not sign or not name.strip().isidentifier():
            raise InputError(f"train.losses.pml holds {text!r}; write name=value, as in TOML")
    return options


def _loss_class(name: str) -> Any:
    try:
        losses = importlib.import_module("pytorch_metric_learning.losses")
    except ModuleNotFoundError:
        raise InputError(
            f"train.loss is 'pml:{name}', and pytorch-metric-learning is not installed:"
            " pip install -c constraints.txt pytorch-metric-learning"
        ) from None
    known = [n for n in dir(losses) if n.endswith("Loss") and n[0].isupper()]
    if name not in known:
        raise InputError(f"train.loss is 'pml:{name}'; known: {', '.join(known)}")
    return getattr(losses, name)


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
