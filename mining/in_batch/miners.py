"""Triplets from the embeddings of one batch (online mining).

The m rows of a batch are anchors. Each chooses among n candidates: the same rows and, with a
memory of earlier batches, older embeddings after them. A candidate of the anchor's class is a
positive unless it is the same item, by item number, so that duplicates at distance 0 are ordinary
positives and a singleton has no positive, rather than one at distance 0. Distances are squared
Euclidean on unit vectors unless stated otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from remine.data.errors import InputError
from remine.mining.in_batch.config import MINERS, OnlineConfig

BLOCK = 1 << 22
"""Largest number of scores (pairs x candidates) held at a time."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The distances between m anchors and n candidates, and their roles.

    Attributes:
        distances: (m, n) float squared distances.
        positive, negative: (m, n) bool, whether the candidate is the anchor's positive or negative.
    """

    distances: Tensor
    positive: Tensor
    negative: Tensor


def candidates(embeddings: Tensor, pool: Tensor, labels: Tensor, items: Tensor) -> Candidates:
    """The candidates of the anchors among a pool that begins with them.

    Args:
        embeddings: (m, d) unit vectors.
        pool: (n, d) unit vectors, the first m those of `embeddings`.
        labels: (n,) int64 classes of the pool.
        items: (n,) int64 item numbers of the pool.
    """
    m = len(embeddings)
    anchors, pool_vectors = embeddings.detach().float(), pool.detach().float()
    lengths = anchors.square().sum(dim=1)[:, None] + pool_vectors.square().sum(dim=1)
    same_class = labels[:m, None] == labels
    return Candidates(
        distances=(lengths - 2 * (anchors @ pool_vectors.T)).clamp_min(0),
        positive=same_class & (items[:m, None] != items),
        negative=~same_class,
    )


def batch_hard(batch: Candidates) -> Tensor:
    """The farthest positive and the nearest negative of each anchor that has both; (3, t) rows.

    Hermans et al. 2017, "In defense of the triplet loss", eq. 5. Candidates are masked with
    infinities: masking by multiplication would give a singleton a positive at distance 0. Which of
    several equal distances is chosen is deterministic.
    """
    positive = torch.where(batch.positive, batch.distances, -torch.inf).argmax(dim=1)
    negative = torch.where(batch.negative, batch.distances, torch.inf).argmin(dim=1)
    anchor = (batch.positive.any(dim=1) & batch.negative.any(dim=1)).nonzero()[:, 0]
    return torch.stack([anchor, positive[anchor], negative[anchor]])


def semi_hard(
    batch: Candidates, margin: float, fallback: str, generator: torch.Generator
) -> Tensor:
    """For each pair the nearest negative with d_ap < d_an < d_ap + margin; (3, t) rows.

    FaceNet (Schroff et al. 2015, section 3.2). Pairs without such a negative follow `fallback`, see
    `OnlineConfig`; pairs whose anchor has no negative at all are left out.

    Args:
        batch: The candidates; distances and margin in the same unit.
        margin: Width of the window.
        fallback: "skip", "farthest" or "random".
        generator: Source of the random fallback.
    """

    def choose(anchor: Tensor, positive: Tensor) -> Tensor:
        d_ap = batch.distances[anchor, positive][:, None]
        d_an, negative = batch.distances[anchor], batch.negative[anchor]
        window = negative & (d_an > d_ap) & (d_an < d_ap + margin)
        nearest = torch.where(window, d_an, torch.inf).argmin(dim=1)
        if fallback == "farthest":
            substitute = torch.where(negative, d_an, -torch.inf).argmax(dim=1)
        elif fallback == "random":
            substitute = _draw(torch.where(negative, 0.0, -torch.inf), generator)
        else:
            substitute = torch.full_like(nearest, -1)
        return torch.where(window.any(dim=1), nearest, substitute)

    return _for_pairs(batch, choose)


def distance_weighted(
    batch: Candidates, d: int, config: OnlineConfig, generator: torch.Generator
) -> Tensor:
    """For each pair a negative with probability ~ min(lambda, 1 / q(D)); (3, t) rows.

    Wu et al. 2017, section 3.2: q(D) ~ D^(d-2) (1 - D^2/4)^((d-3)/2) is the density of unsquared
    distances between random points of the unit sphere in d dimensions, so near and far negatives
    are equally likely. lambda: D is bounded from below by config.nearest. From config.farthest on
    the weight is 0. An anchor with no negative in range draws any of its negatives.

    Other candidates are masked before anything is normalised, and weights stay logarithms relative
    to their own row. With one maximum over the batch, taken before masking, a single nearly
    opposite pair would leave every other row without weight.
    """
    log_weight = log_weights(batch.distances, d, config)
    log_weight = torch.where(batch.negative, log_weight, -torch.inf)
    none_in_range = ~torch.isfinite(log_weight).any(dim=1, keepdim=True)
    log_weight = torch.where(none_in_range & batch.negative, 0.0, log_weight)
    return _for_pairs(batch, lambda anchor, _: _draw(log_weight[anchor], generator))


def log_weights(distances: Tensor, d: int, config: OnlineConfig) -> Tensor:
    """The logarithm of 1 / q(D), up to a constant, of squared distances; -inf from farthest on."""
    clamped_distances = distances.clamp(config.nearest**2, 4 - 1e-6)
    weight = (2 - d) / 2 * clamped_distances.log() - (d - 3) / 2 * (-clamped_distances / 4).log1p()
    return torch.where(distances < config.farthest**2, weight, -torch.inf)


def random_negatives(batch: Candidates, generator: torch.Generator) -> Tensor:
    """For each pair a random negative; (3, t) rows."""
    level = torch.where(batch.negative, 0.0, -torch.inf)
    return _for_pairs(batch, lambda anchor, _: _draw(level[anchor], generator))


@dataclass(frozen=True, kw_only=True)
class OnlineMiner:
    """A miner by name, as training calls it.

    Attributes:
        name: One of MINERS.
        margin: Window of "semi_hard".
        unsquared: Whether the margin is in unsquared distances, 0 to 2.
        config: Settings of the miners.
    """

    name: str
    margin: float
    unsquared: bool = False
    config: OnlineConfig = field(default_factory=OnlineConfig)

    def __post_init__(self) -> None:
        if self.name not in MINERS:
            raise InputError(f"train.miner is {self.name!r}; known: auto, {', '.join(MINERS)}")

    def __call__(
        self, embeddings: Tensor, pool: Tensor, labels: Tensor, items: Tensor, seed: int
    ) -> Tensor | None:
        """(3, t) int64 rows of anchors (of m), positives and negatives (of the pool's n).

        None for "batch_all", which stands for all valid triplets. See `candidates` for the
        arguments.
        """
        if self.name == "batch_all":
            return None
        batch = candidates(embeddings, pool, labels, items)
        # On the CPU whatever the device, so that random choices are the same everywhere.
        generator = torch.Generator().manual_seed(seed)
        if self.name == "batch_hard":
            return batch_hard(batch)
        if self.name == "semi_hard":
            if self.unsquared:
                roots = batch.distances.sqrt()
                batch = Candidates(
                    distances=roots, positive=batch.positive, negative=batch.negative
                )
            return semi_hard(batch, self.margin, self.config.fallback, generator)
        if self.name == "distance_weighted":
            return distance_weighted(batch, embeddings.shape[1], self.config, generator)
        return random_negatives(batch, generator)


def _for_pairs(batch: Candidates, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(3, t) triplets of all pairs for which `choose` finds a negative.

    Blocks of pairs bound the memory to BLOCK scores; all pairs by all candidates would be cubic in
    the batch.

    Args:
        batch: The candidates.
        choose: From blocks of (anchor, positive) to the negative's column, or -1.
    """
    usable = batch.positive & batch.negative.any(dim=1, keepdim=True)
    anchors, positives = usable.nonzero(as_tuple=True)
    rows = max(1, BLOCK // batch.distances.shape[1])
    blocks = zip(torch.split(anchors, rows), torch.split(positives, rows), strict=True)
    parts = [torch.stack([a, p, choose(a, p)]) for a, p in blocks]
    triplets = torch.cat(parts, dim=1) if parts else anchors.new_empty((3, 0))
    return triplets[:, triplets[2] >= 0]


def _draw(log_weight: Tensor, generator: torch.Generator) -> Tensor:
    """A column (t,) of each row of (t, n) with probability ~ exp(log_weight), by Gumbel-max."""
    noise = torch.rand(log_weight.shape, generator=generator).clamp_min_(1e-30)
    noise = noise.log_().neg_().clamp_min_(1e-30).log_().neg_().to(log_weight.device)
    return (log_weight + noise).argmax(dim=1)
