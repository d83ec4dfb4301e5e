"""Configuration of mining: pairs, negatives, guards, engine."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from remine.data.config_table import (
    Notation,
    Share,
    SquaredDistance,
    Unit,
    config_table,
)
from remine.data.errors import InputError

Positives = Literal["all", "random", "hardest", "easiest"]
Strategy = Literal[
    "semi_hard",
    "hard",
    "hardest",
    "random_semi_hard",
    "rank_band",
    "distance_weighted",
    "uniform",
]
POSITIVES: tuple[Positives, ...] = get_args(Positives)
NEGATIVES: tuple[Strategy, ...] = get_args(Strategy)


@config_table("mining")
class MiningConfig:
    """Which triplets (anchor, positive, negative) are mined.

    Distances are squared Euclidean on unit vectors, 0 to 4: d_ap from the anchor to the positive,
    d_an from the anchor to the negative.
    """

    positives: Positives = "all"
    """# Pairs of an anchor and a positive

    Which items of the anchor's class become its positives.
    all: every item, or a pseudo-random selection of max_positives
    random: one at random
    hardest: the farthest
    easiest: the nearest
    """
    max_positives: Annotated[int, Field(ge=0, le=1_000_000)] = 8
    """Largest number of positives per anchor. 0 means no limit for "all" and 1 for the others."""

    negatives: Annotated[tuple[Strategy, ...], Field(min_length=1)] = ("semi_hard", "hard")
    """# Negatives of a pair

    How negatives are selected; a list, whose strategies run independently of one another.
    semi_hard: the nearest with d_ap < d_an < d_ap + margin
    hard: the nearest with d_an <= d_ap
    hardest: the nearest
    random_semi_hard: a random one with d_ap < d_an < d_ap + margin
    rank_band: a random one of the ranks in `band`
    distance_weighted: by inverse density of the distances, from `pool` random candidates
      (Wu et al. 2017)
    uniform: any, at random
    """
    per_pair: Annotated[int, Field(ge=1, le=1000)] = 1
    """Negatives per pair and strategy."""
    margin: Annotated[float, Field(gt=0, le=4), Unit("squared Euclidean distance")] = 0.2
    """Width of the semi-hard window."""
    band: tuple[Annotated[int, Field(ge=0, le=999)], Annotated[int, Field(ge=1, le=1000)]] = (
        10,
        50,
    )
    """For "rank_band": the first rank and the rank after the last; the nearest negative is 0."""
    pool: Annotated[int, Field(ge=16, le=1_000_000)] = 1024
    """For "distance_weighted": random candidates to select from."""
    second_negative: bool = False
    """Add a second negative of the negative's class to each triplet."""

    skip_ranks: Annotated[int, Field(ge=0, le=1000)] = 0
    """# Guards against false negatives; 0 switches each off

    Ignore this many nearest negatives of each anchor, which may be mislabelled.
    """
    absolute_margin: SquaredDistance = 0.0
    """Require d_an > d_ap + absolute_margin."""
    relative_margin: Share = 0.0
    """Require the negative's cosine to be below this share of the positive's, such as 0.95."""
    near_duplicate: SquaredDistance = 0.0
    """Ignore negatives nearer than this: they are probably duplicates of the anchor."""
    positive_duplicate: SquaredDistance = 0.0
    """Ignore negatives that are at most this far from a positive of the anchor: they are probably
    the same item under another id.
    """
    hub_cap: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """How often one item may be a negative."""
    same_as: str = ""
    """A Parquet or CSV file with the columns a and b: pairs of ids that are never negatives of
    each other.
    """

    engine: (
        Literal["auto", "exact", "approximate"]
        | Annotated[str, Field(pattern="^faiss:"), Notation("faiss:FACTORY")]
    ) = "auto"
    """# Search

    How negatives are searched.
    auto: exact or approximate, by the number of items
    exact: compares every pair of items
    approximate: searches inverted lists (k-means cells)
    faiss:FACTORY: re-ranks the nearest `candidates` from a FAISS index
    """
    recall: Annotated[float, Field(ge=0.5, le=1)] = 0.998
    """Share of the exact negatives that an engine other than "exact" must find, on a sample."""
    recall_neighbours: Annotated[float, Field(ge=0.5, le=1)] = 0.97
    """Share of the 10 nearest negatives that an engine other than "exact" must find."""
    candidates: Annotated[int, Field(ge=1, le=10_000)] = 100
    """For "faiss:FACTORY": neighbours retrieved per anchor."""
    memory_gb: Annotated[float, Field(ge=0.00001, le=10_000), Unit("gigabytes")] = 8.0
    """Memory for all vectors in one worker. If they need more, "auto" and "exact" mine exactly, in
    shards, and the other engines refuse.
    """
    unit_anchors: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Anchors per shard, the unit of work; 0 selects a number that suits the engine."""

    def __post_init__(self) -> None:
        if len(set(self.negatives)) < len(self.negatives):
            raise InputError(f"mining.negatives is {list(self.negatives)}; name each strategy once")
        if self.band[0] >= self.band[1]:
            raise InputError(
                f"mining.band is {list(self.band)}; the first rank must be below the second"
            )
