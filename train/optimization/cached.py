"""A batch through the encoder in parts, with the loss of the whole batch.

Losses inside a batch compare items of different parts, so the gradients of parts cannot simply be
added up. Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited
setup", section 3: embed all parts without a graph, take the loss and its gradient with respect to
the embeddings, then embed each part again and pass its share of that gradient through it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from remine.data.items.tensors import Tensors, first_tensor, split_rows
from remine.train.processes import SingleProcess

Precision = AbstractContextManager[None]
"""The arithmetic of a forward pass; a context that may be entered again and again."""
Seed = Callable[[int], int]
"""From the number of a part to the seed of its random numbers, such as those of dropout."""


class WholeBatch:
    """Rows of a batch that go through the encoder in one piece.

    features: (m, d).
    """

    def __init__(
        self, process: SingleProcess, inputs: Tensors, seed: Seed, precision: Precision
    ) -> None:
        """Embed `inputs` (m, ...)."""
        with seeded(seed(0), first_tensor(inputs).device), precision:
            self.features = process.forward(inputs)

    def backward(self) -> None:
        """Pass the gradient of the features on to the weights: autograd has done so."""


class BatchInParts(WholeBatch):
    """Rows of a batch of which one part at a time is kept for the backward pass.

    features: (m, d), as of one pass but for the order of float sums, without a graph below them.
    """

    def __init__(
        self,
        process: SingleProcess,
        inputs: Tensors,
        seed: Seed,
        precision: Precision,
        count: int,
    ) -> None:
        """Embed `inputs` (m, ...) in `count` parts, whose sizes differ by at most 1."""
        self._process, self._seed, self._precision = process, seed, precision
        self._parts = split_rows(inputs, count)
        with torch.no_grad():
            features = [self._embed(number) for number in range(count)]
        self.features = torch.cat(features).requires_grad_()

    def backward(self) -> None:
        """Embed each part again and add the gradient of its weights; that of features is there."""
        gradient = self.features.grad
        if gradient is None:  # the loss does not depend on them
            return
        last = len(self._parts) - 1
        for number, part in enumerate(gradient.tensor_split(last + 1)):
            with self._process.synchronised(is_last=number == last):
                torch.autograd.backward(self._embed(number), part)

    def _embed(self, number: int) -> Tensor:
        # The same seed in both passes: dropout must leave out the same units.
        inputs = self._parts[number]
        with seeded(self._seed(number), first_tensor(inputs).device), self._precision:
            return self._process.forward(inputs)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from `seed`; its generators are then as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
