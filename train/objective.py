"""What a step minimises: a loss, the miner that chooses for it, a memory, a synthesis.

Everything of it that changes while training (boundaries, proxies, generators, the memory) is its
state, and has optimizers of its own beside the encoder's.
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
from remine.train.losses.embedding_memory import Memory
from remine.train.losses.external import PREFIX, ExternalLoss, parse_options
from remine.train.losses.lifted import LiftedStructureLoss
from remine.train.losses.margin import MarginLoss
from remine.train.losses.n_pair import NPairLoss
from remine.train.losses.softmax import SoftmaxLoss, check_alpha
from remine.train.losses.triplet import TripletLoss
from remine.train.synthesis.daml import Daml
from remine.train.synthesis.hdml import Hdml
from remine.train.synthesis.symmetrical import SymmetricalLoss

Miner = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor | None]
"""(embeddings (m, d), pool (n, d) that begins with them, labels (n,), items (n,), seed) in, (3, t)
rows of anchors, positives, negatives out, or None for all there are."""


class Objective(nn.Module):
    """From a Batch to a LossValue; remembers what it needs for the next step."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        dimensions: int,
        classes: int,
        items: int,
        miner: Miner | None = None,
    ) -> None:
        """For embeddings of so many dimensions, training classes and items. Weights from seed 0.

        classes: 0 where they are unknown; then a loss that needs them is refused.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.loss = build_loss(config, dimensions, classes, items)
        self.memory = Memory(config.memory, dimensions) if config.memory else None
        self.miner = miner
        if config.miner not in ("auto", "batch_all") and miner is None:
            raise InputError(f"train.miner is {config.miner!r}, and training was given none")

    def forward(self, batch: Batch, seed: int) -> LossValue:
        """The loss of one step; `seed` decides what miner and loss draw."""
        joined = self.memory.join(batch) if self.memory is not None else batch
        if self.miner is not None:
            labels, items = joined.pool_labels, joined.pool_items
            chosen = self.miner(joined.embeddings, joined.pool, labels, items, seed)
            joined = replace(joined, triplets=chosen, partners=None)
        value: LossValue
        if isinstance(self.loss, ExternalLoss):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                value = self.loss(joined)
        else:
            value = self.loss(joined)
        if self.memory is not None:
            self.memory.push(batch)
        return value

    def optimizers(self, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
        """By name, for the parameters that are not the encoder's; none for most losses."""
        parameters = list(self.parameters())
        if not parameters:
            return {}
        if config.loss == "margin":  # as in the authors' code: momentum, and no decay
            rate = config.losses.margin.learning_rate
            return {"boundaries": torch.optim.SGD(parameters, lr=rate, momentum=0.9)}
        rates = {
            "softmax": config.losses.softmax.learning_rate,
            "l2_softmax": config.losses.l2_softmax.learning_rate,
            "triplet": config.generators.hdml.learning_rate
            if config.synthesis == "hdml"
            else config.generators.daml.learning_rate,
        }
        rate = rates.get(config.loss, 10 * config.learning_rate)  # proxies, as is usual
        return {"parameters": torch.optim.Adam(parameters, lr=rate)}


def build_loss(config: TrainConfig, dimensions: int, classes: int, items: int) -> nn.Module:
    """The loss of `config`, within its synthesis."""
    check_classes(config, classes)
    if config.loss.startswith(PREFIX):
        name, options = config.loss.removeprefix(PREFIX), parse_options(config.losses.pml)
        return ExternalLoss(name, options, dimensions, classes)
    losses = config.losses
    makers: dict[str, Callable[[], nn.Module]] = {
        "contrastive": lambda: ContrastiveLoss(losses.contrastive),
        "triplet": lambda: TripletLoss(losses.triplet, config.margin),
        "n_pair": lambda: NPairLoss(losses.n_pair),
        "lifted_structure": lambda: LiftedStructureLoss(losses.lifted_structure),
        "angular": lambda: AngularLoss(losses.angular, losses.n_pair),
        "margin": lambda: MarginLoss(losses.margin, classes, items),
        "softmax": lambda: SoftmaxLoss(dimensions, classes),
        "l2_softmax": lambda: SoftmaxLoss(dimensions, classes, losses.l2_softmax.alpha),
    }
    inner = makers[config.loss]()
    if config.synthesis == "symmetrical":
        return SymmetricalLoss(inner, config.generators.symmetrical)
    if config.synthesis != "none":
        assert isinstance(inner, TripletLoss)
        if config.synthesis == "hdml":
            return Hdml(inner, config.generators.hdml, dimensions, classes)
        return Daml(inner, config.generators.daml, dimensions)
    return inner


def needs_classes(config: TrainConfig) -> bool:
    """Whether the class of every item must be known; plain triplets say enough by themselves."""
    given = not config.online and config.miner == "auto"
    plain = config.loss in ("contrastive", "triplet") or (
        config.loss == "margin" and not config.losses.margin.per_class
    )
    if config.loss == "triplet" and config.synthesis == "hdml":
        return True
    return not (given and plain)


def check_classes(config: TrainConfig, classes: int) -> None:
    """Refuse a loss whose classes are unknown or whose alpha is too small for so many."""
    if needs_classes(config) and not classes:
        what = config.loss if config.synthesis == "none" else config.synthesis
        raise InputError(
            f"train.loss is {config.loss!r}: {what} needs the class of every item, and the items"
            " have none; of mined triplets alone triplet, contrastive and margin learn"
        )
    if config.loss == "l2_softmax":
        settings = config.losses.l2_softmax
        check_alpha(settings.alpha, classes, settings.probability)
