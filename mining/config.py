"""What the user says about mining."""

from dataclasses import dataclass, fields
from numbers import Integral, Real

from remine.data.errors import InputError

POSITIVES = ("all", "random", "hardest", "easiest")
NEGATIVES = (
    "semi_hard",
    "hard",
    "hardest",
    "random_semi_hard",
    "rank_band",
    "distance_weighted",
    "uniform",
)

KINDS = {int: Integral, float: Real}  # numpy's too


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Which triplets to mine. Distances are squared Euclidean on unit vectors, 0 to 4.

    positives: which items of the anchor's class to pair it with: "all" (at most max_positives of
    them, chosen by hash), "random" (one), "hardest" (the farthest), "easiest" (the nearest).
    max_positives: pairs per anchor at most; 0 is no limit for "all" and 1 for the others.
    negatives: what to find for each pair, each strategy by itself: "semi_hard" the nearest with
    d_ap < d_an < d_ap + margin; "hard" the nearest with d_an <= d_ap; "hardest" the nearest of all;
    "random_semi_hard" any of the semi-hard window; "rank_band" any of the nearest, from
    the band[0]th to before the band[1]th, counted from 0;
    "distance_weighted" by inverse density of distances (Wu et al. 2017) from a pool of random ones;
    "uniform" any. per_pair: negatives for each pair and strategy.
    skip_ranks: pass over the nearest r negatives, which may be mislabelled. absolute_margin: d_an
    must exceed d_ap by this. relative_margin: the negative's cosine must stay below this share of
    the positive's (0.95 is a good guard; 0 is off). near_duplicate: negatives nearer than this are
    taken for duplicates. hub_cap: how often one item may serve as a negative; 0 is no limit.
    second_negative: add another item of the negative's class. same_as: a Parquet or CSV file with
    columns a and b, pairs of ids that are never negatives of one another.
    engine: "exact", "approximate" (the list-join), "faiss:FACTORY" (the nearest `candidates` by an
    index of FAISS), or "auto" by size. recall: the share of the chosen negatives that an engine
    which is not exact must find, on a sample; recall_neighbours: of the 10 nearest negatives.
    memory_gb: of the gallery in one worker, above which it is mined in shards.
    unit_anchors: anchors in a shard, the unit of work; 0 takes what suits the engine.
    """

    positives: str = "all"
    max_positives: int = 8
    negatives: tuple[str, ...] = ("semi_hard", "hard")
    per_pair: int = 1
    margin: float = 0.2
    band: tuple[int, int] = (10, 50)
    pool: int = 1024
    skip_ranks: int = 0
    absolute_margin: float = 0.0
    relative_margin: float = 0.0
    near_duplicate: float = 0.0
    hub_cap: int = 0
    second_negative: bool = False
    same_as: str = ""
    engine: str = "auto"
    recall: float = 0.998
    recall_neighbours: float = 0.97
    candidates: int = 100
    memory_gb: float = 8.0
    unit_anchors: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            _typed(f"mining.{f.name}", getattr(self, f.name), f.default)
        _one_of("positives", self.positives, POSITIVES)
        if not self.engine.startswith("faiss:"):
            _one_of("engine", self.engine, ("auto", "exact", "approximate", "faiss:FACTORY"))
        if not self.negatives or not set(self.negatives) <= set(NEGATIVES):
            known = ", ".join(NEGATIVES)
            raise InputError(f"mining.negatives is {list(self.negatives)}; known: {known}")
        if len(set(self.negatives)) < len(self.negatives):
            raise InputError(f"mining.negatives is {list(self.negatives)}; name each strategy once")
        for name, low, high in (
            ("max_positives", 0, 1_000_000),
            ("per_pair", 1, 1000),
            ("pool", 16, 1_000_000),
            ("skip_ranks", 0, 1000),
            ("absolute_margin", 0, 4),
            ("relative_margin", 0, 1),
            ("near_duplicate", 0, 4),
            ("hub_cap", 0, 2**31 - 1),
            ("recall", 0.5, 1),
            ("recall_neighbours", 0.5, 1),
            ("candidates", 1, 10_000),
            ("memory_gb", 0.00001, 10_000),
            ("unit_anchors", 0, 1_000_000),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"mining.{name} is {value}; it must be {low} to {high}")
        if not 0 < self.margin <= 4:
            raise InputError(
                f"mining.margin is {self.margin}; it is a squared distance, above 0 and up to 4"
            )
        if len(self.band) != 2 or not 0 <= self.band[0] < self.band[1] <= 1000:
            raise InputError(f"mining.band is {list(self.band)}; it is two ranks, at most 1000")


def _typed(name: str, value: object, default: object) -> None:
    """Refuse a value of another type than the default's; whole numbers are numbers."""
    kind = type(default)
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or not all(
            type(v) is type(default[0]) for v in value
        ):
            what = "texts" if isinstance(default[0], str) else "whole numbers"
            raise InputError(f"{name} is {value!r}; it must be a list of {what}")
    elif isinstance(value, bool) != (kind is bool) or not isinstance(value, KINDS.get(kind, kind)):
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise InputError(f"{name} is {value!r}; it must be {names[kind]}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"mining.{name} is {value!r}; known: {', '.join(known)}")
