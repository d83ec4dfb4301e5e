"""Triplets from the embeddings of one batch.

m anchors, the rows of the batch, choose among n candidates: the same rows and, where there is a
memory, older ones after them. A candidate of the anchor's class is a positive unless it is the
same item, by number: duplicates at distance 0 are ordinary items, and a singleton has no positive
rather than one at distance 0. Distances are squared, on unit vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from remine.data.errors import InputError
from remine.mining.in_batch.config import MINERS, OnlineConfig

BLOCK = 1 << 22
"""Scores held at a time: pairs by candidates, at most."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Who may be what: (m, n) squared distances, float; positive and negative, bool."""

    distances: Tensor
    positive: Tensor
    negative: Tensor


def candidates(embeddings: Tensor, pool: Tensor, labels: Tensor, items: Tensor) -> Candidates:
    """Of m anchors (m, d) among a pool (n, d) that begins with them; labels, items: (n,) int64."""
    m = len(embeddings)
    own, all_ = embeddings.detach().float(), pool.detach().float()
    lengths = own.square().sum(dim=1)[:, None] + all_.square().sum(dim=1)
    same = labels[:m, None] == labels
    return Candidates(
        distances=(lengths - 2 * (own @ all_.T)).clamp_min(0),
        positive=same & (items[:m, None] != items),
        negative=~same,
    )


def batch_hard(given: Candidates) -> Tensor:
    """(3, t) rows: the farthest positive and nearest negative of each anchor that has both.

    Hermans et al. 2017, eq. 5. Masked with infinities: a mask by multiplication would give a
    singleton a positive at distance 0. Of equals one, the same every time.
    """
    far = torch.where(given.positive, given.distances, -torch.inf).argmax(dim=1)
    near = torch.where(given.negative, given.distances, torch.inf).argmin(dim=1)
    anchor = (given.positive.any(dim=1) & given.negative.any(dim=1)).nonzero()[:, 0]
    return torch.stack([anchor, far[anchor], near[anchor]])


def semi_hard(
    given: Candidates, margin: float, fallback: str, generator: torch.Generator
) -> Tensor:
    """(3, t) rows: for each pair the nearest negative with d_ap < d_an < d_ap + margin.

    FaceNet (Schroff et al. 2015, section 3.2), the margin in the unit of the distances. A pair
    whose window is empty: see OnlineConfig.fallback; one without any negative is left out.
    """

    def choose(anchor: Tensor, positive: Tensor) -> Tensor:
        d_ap = given.distances[anchor, positive][:, None]
        d_an, negative = given.distances[anchor], given.negative[anchor]
        window = negative & (d_an > d_ap) & (d_an < d_ap + margin)
        chosen = torch.where(window, d_an, torch.inf).argmin(dim=1)
        if fallback == "farthest":
            other = torch.where(negative, d_an, -torch.inf).argmax(dim=1)
        elif fallback == "random":
            other = _draw(torch.where(negative, 0.0, -torch.inf), generator)
        else:
            other = torch.full_like(chosen, -1)
        return torch.where(window.any(dim=1), chosen, other)

    return _for_pairs(given, choose)


def distance_weighted(
    given: Candidates, d: int, config: OnlineConfig, generator: torch.Generator
) -> Tensor:
    """(3, t) rows: for each pair a negative with probability ~ min(lambda, 1 / q(D)).

    Wu et al. 2017, section 3.2: q(D) ~ D^(d-2) (1 - D^2/4)^((d-3)/2) is the density of unsquared
    distances between random points of the unit sphere in d dimensions, so that near and far
    negatives are drawn alike. lambda: D is clamped from below at config.nearest; from
    config.farthest on the weight is 0. The others are masked first, and the weights stay
    logarithms relative to their own row: with one maximum over the batch, taken before masking, a
    single nearly opposite pair would leave every other row without a weight. An anchor with no
    negative in range draws any of its negatives.
    """
    log_weight = log_weights(given.distances, d, config)
    log_weight = torch.where(given.negative, log_weight, -torch.inf)
    none = ~torch.isfinite(log_weight).any(dim=1, keepdim=True)
    log_weight = torch.where(none & given.negative, 0.0, log_weight)
    return _for_pairs(given, lambda anchor, _: _draw(log_weight[anchor], generator))


def log_weights(squared: Tensor, d: int, config: OnlineConfig) -> Tensor:
    """Of squared distances log 1 / q(D), up to a constant; -inf from config.farthest on."""
    clamped = squared.clamp(config.nearest**2, 4 - 1e-6)
    weight = (2 - d) / 2 * clamped.log() - (d - 3) / 2 * (-clamped / 4).log1p()
    return torch.where(squared < config.farthest**2, weight, -torch.inf)


def random_negatives(given: Candidates, generator: torch.Generator) -> Tensor:
    """(3, t) rows: for each pair any negative."""
    level = torch.where(given.negative, 0.0, -torch.inf)
    return _for_pairs(given, lambda anchor, _: _draw(level[anchor], generator))


@dataclass(frozen=True, kw_only=True)
class OnlineMiner:
    """A miner by name, as training calls it.

    margin: the window of "semi_hard"; unsquared: whether it is in unsquared distances, 0 to 2.
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
        """(3, t) rows of the anchors (m, d) and of the pool (n, d); None for all there are."""
        if self.name == "batch_all":
            return None
        given = candidates(embeddings, pool, labels, items)
        # On the CPU whatever the device, so that the draws are the same everywhere.
        generator = torch.Generator().manual_seed(seed)
        if self.name == "batch_hard":
            return batch_hard(given)
        if self.name == "semi_hard":
            if self.unsquared:
                roots = given.distances.sqrt()
                given = Candidates(
                    distances=roots, positive=given.positive, negative=given.negative
                )
            return semi_hard(given, self.margin, self.config.fallback, generator)
        if self.name == "distance_weighted":
            return distance_weighted(given, embeddings.shape[1], self.config, generator)
        return random_negatives(given, generator)


def _for_pairs(given: Candidates, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(3, t): `choose` gives the negative's column, or -1, of blocks of pairs (anchor, positive).

    Blocks bound the memory to BLOCK scores, where pairs by candidates would be cubic.
    """
    usable = given.positive & given.negative.any(dim=1, keepdim=True)
    anchors, positives = usable.nonzero(as_tuple=True)
    rows = max(1, BLOCK // given.distances.shape[1])
    blocks = zip(torch.split(anchors, rows), torch.split(positives, rows), strict=True)
    found = [torch.stack([a, p, choose(a, p)]) for a, p in blocks]
    triplets = torch.cat(found, dim=1) if found else anchors.new_empty((3, 0))
    return triplets[:, triplets[2] >= 0]


def _draw(log_weight: Tensor, generator: torch.Generator) -> Tensor:
    """(t,) a column of each row of (t, n), with probability ~ exp(log_weight): Gumbel's maximum."""
    noise = torch.rand(log_weight.shape, generator=generator).clamp_min_(1e-30)
    noise = noise.log_().neg_().clamp_min_(1e-30).log_().neg_().to(log_weight.device)
    return (log_weight + noise).argmax(dim=1)
