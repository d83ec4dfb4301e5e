"""What a step minimises: a loss, with a miner, a memory and a synthesis where configured.

Everything that changes while training (boundaries, proxies, generators, the memory) is part of the
objective's state, and is trained by optimizers of its own beside the encoder's.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from remine.data.errors import InputError
from remine.train.config import TrainConfig
from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.contrastive import ContrastiveLoss
from remine.train.losses.cross_batch_memory import CrossBatchMemory
from remine.train.losses.external import PREFIX, ExternalLoss, parse_options
from remine.train.losses.lifted import LiftedStructureLoss
from remine.train.losses.margin import MarginLoss
from remine.train.losses.n_pair import NPairLoss
from remine.train.losses.softmax import SoftmaxLoss, check_alpha
from remine.train.losses.triplet import TripletLoss
from remine.train.recipe import recipe_of
from remine.train.synthesis.daml import Daml
from remine.train.synthesis.hdml import Hdml
from remine.train.synthesis.symmetrical import SymmetricalLoss

PROXY_RATE = 1e-3
"""Least learning rate that a tenth of the proxies' one is."""
Miner = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor | None]
"""A miner inside the batch.

Takes embeddings (m, d), pool (n, d) that begins with them, labels (n,), items (n,) and a seed;
returns (3, t) rows of anchors, positives and negatives, or None for all valid triplets.
"""


class Objective(nn.Module):
    """From a `Batch` to a `LossValue`; keeps what it needs for the next step."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        dimensions: int,
        classes: int,
        items: int,
        miner: Miner | None = None,
    ) -> None:
        """Build the objective; initial weights are drawn with seed 0.

        Args:
            config: names the loss, its settings, the memory and the synthesis.
            dimensions: of the embeddings.
            classes: number of training classes; 0 if unknown.
            items: number of items.
            miner: chooses triplets inside the batch.

        Raises:
            InputError: the loss needs classes that are unknown, or config.miner but no `miner`.

        """
        super().__init__()
        # Losses draw from torch's global generator, whose state must not change for the caller.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.loss = build_loss(config, dimensions, classes, items)
        self.memory = CrossBatchMemory(config.memory, dimensions) if config.memory else None
        self.miner = miner
        if config.miner not in ("auto", "batch_all") and miner is None:
            raise InputError(f"train.miner is {config.miner!r}, and training was given none")

    def forward(self, batch: Batch, seed: int) -> LossValue:
        """Loss of one step; `seed` determines the draws of miner and loss."""
        pool_batch = self.memory.join(batch) if self.memory is not None else batch
        if self.miner is not None:
            labels, items = pool_batch.pool_labels, pool_batch.pool_items
            triplets = self.miner(pool_batch.embeddings, pool_batch.pool, labels, items, seed)
            pool_batch = replace(pool_batch, triplets=triplets, partners=None)
        value: LossValue
        # An external loss may sample; ours draw nothing.
        if isinstance(self.loss, ExternalLoss):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                value = self.loss(pool_batch)
        else:
            value = self.loss(pool_batch)
        if self.memory is not None:
            self.memory.push(batch)  # after the loss, so that a batch is not its own candidate
        return value

    def optimizers(self, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
        """Optimizers by name for the objective's own parameters; empty for most losses."""
        parameters = list(self.parameters())
        if not parameters:
            return {}
        if config.loss == "margin":  # as in the authors' code: momentum, no weight decay
            rate = config.losses.margin.learning_rate
            return {"boundaries": torch.optim.SGD(parameters, lr=rate, momentum=0.9)}
        rates: dict[str, float] = {
            "softmax": config.losses.softmax.learning_rate,
            "l2_softmax": config.losses.l2_softmax.learning_rate,
            "triplet": config.generators.hdml.learning_rate
            if config.synthesis == "hdml"
            else config.generators.daml.learning_rate,
        }
        # Of an external loss the parameters are proxies, which start from random numbers and are
        # usually trained faster than the encoder, however slowly that is to move.
        rate = rates.get(config.loss, 10 * max(recipe_of(config).learning_rate, PROXY_RATE))
        return {"parameters": torch.optim.Adam(parameters, lr=rate)}


def build_loss(config: TrainConfig, dimensions: int, classes: int, items: int) -> nn.Module:
    """The loss of `config`, wrapped in its synthesis."""
    check_classes(config, classes)
    if config.loss.startswith(PREFIX):
        name, options = config.loss.removeprefix(PREFIX), parse_options(config.losses.pml)
        return ExternalLoss(name, options, dimensions, classes)
    losses = config.losses
    builders: dict[str, Callable[[], nn.Module]] = {
        "contrastive": lambda: ContrastiveLoss(losses.contrastive),
        "triplet": lambda: TripletLoss(losses.triplet, config.margin),
        "n_pair": lambda: NPairLoss(losses.n_pair),
        "lifted_structure": lambda: LiftedStructureLoss(losses.lifted_structure),
        "angular": lambda: AngularLoss(losses.angular, losses.n_pair),
        "margin": lambda: MarginLoss(losses.margin, classes, items),
        "softmax": lambda: SoftmaxLoss(dimensions, classes),
        "l2_softmax": lambda: SoftmaxLoss(dimensions, classes, losses.l2_softmax.alpha),
    }
    inner = builders[config.loss]()
    if config.synthesis == "symmetrical":
        return SymmetricalLoss(inner, config.generators.symmetrical)
    if config.synthesis != "none":
        assert isinstance(inner, TripletLoss)
        if config.synthesis == "hdml":
            return Hdml(inner, config.generators.hdml, dimensions, classes)
        return Daml(inner, config.generators.daml, dimensions)
    return inner


def needs_classes(config: TrainConfig) -> bool:
    """Whether the loss needs the class of every item, beyond the mined triplets themselves."""
    uses_mined_triplets = not config.uses_pk_batches and config.miner == "auto"
    needs_no_labels = config.loss in ("contrastive", "triplet") or (
        config.loss == "margin" and not config.losses.margin.per_class
    )
    if config.loss == "triplet" and config.synthesis == "hdml":
        return True
    return not (uses_mined_triplets and needs_no_labels)


def check_classes(config: TrainConfig, classes: int) -> None:
    """Refuse a loss whose classes are unknown or whose alpha is too small for their number."""
    if needs_classes(config) and not classes:
        subject = config.loss if config.synthesis == "none" else config.synthesis
        raise InputError(
            f"train.loss is {config.loss!r}: {subject} needs the class of every item, and the items"
            " have none; of mined triplets alone triplet, contrastive and margin learn"
        )
    if config.loss == "l2_softmax":
        settings = config.losses.l2_softmax
        check_alpha(settings.alpha, classes, settings.probability)
