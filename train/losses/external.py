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

    The library's units and reductions apply, and its distance normalises by default. A loss that
    samples uses torch's global generator, which the objective seeds at every step.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], dimensions: int, classes: int
    ) -> None:
        """The loss `name` with `options`.

        The number of classes and dimensions is passed where its constructor requires it.

        Raises:
            InputError: the loss or the package does not exist, or the options do not fit.

        """
        super().__init__()
        loss_class = _loss_class(name)
        parameters = inspect.signature(loss_class.__init__).parameters
        sizes = {"num_classes": classes, "embedding_size": dimensions}
        required_sizes = {
            k: size for k, size in sizes.items() if k in parameters and _is_required(parameters[k])
        }
        try:
            self.inner = loss_class(**{**required_sizes, **options})
        except (TypeError, ValueError) as error:
            first_line = str(error).splitlines()[0]
            raise InputError(f"train.loss is 'pml:{name}': {first_line}") from None

    def forward(self, batch: Batch) -> LossValue:
        """Loss of the batch; active is always 1, since terms differ from loss to loss."""
        extra = {} if batch.triplets is None else {"indices_tuple": tuple(batch.triplets)}
        embeddings, labels = batch.pool[: len(batch.embeddings)], batch.required_labels
        if batch.memory_embeddings is not None:
            extra |= self._reference(batch)
        loss: Tensor = self.inner(embeddings, labels, **extra)
        return LossValue(loss, torch.ones_like(loss.detach()))

    def _reference(self, batch: Batch) -> dict[str, Any]:
        """Arguments for a batch with a memory: the pool, and its pairs if there are no triplets.

        The pairs are passed because the library would pair an item with itself in the pool.
        """
        reference: dict[str, Any] = {"ref_emb": batch.pool, "ref_labels": batch.pool_labels}
        if batch.triplets is None:
            positives, negatives = batch.positive.nonzero().T, batch.negative.nonzero().T
            reference["indices_tuple"] = (*positives, *negatives)
        return reference


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """["pos_margin=0.1"] to {"pos_margin": 0.1}; values as in TOML."""
    options = {}
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            options[name.strip()] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            sign = ""  # reported below, with the other kinds of malformed options
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
    loss_names = [n for n in dir(losses) if n.endswith("Loss") and n[0].isupper()]
    if name not in loss_names:
        raise InputError(f"train.loss is 'pml:{name}'; known: {', '.join(loss_names)}")
    return getattr(losses, name)


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty
