"""When a run is worth it."""

from dataclasses import dataclass

from remine.data.errors import InputError

WHENS = ("always", "needed")


@dataclass(frozen=True, kw_only=True)
class RefreshConfig:
    """What a scheduled run does; `remine run` asks only with --if-needed.

    when: "always" a whole cycle, or "needed": nothing where source and settings are those of the
    last finished cycle; embedding and index alone, published without training, where few items
    moved; else a whole cycle. train_share: the share of items that are new, changed or deleted
    since the model was trained, from which it is trained again. overlap: where our code or the
    batch changed, `sample` items are embedded again: from this share of nearest neighbours as they
    were on, the index stays.
    """

    # overlap: the same weights in other batches keep over 0.99 of the neighbours (the test of the
    # probe), those of the next round fewer than 0.98 of them. train_share: not measured yet; what
    # a model loses on items that it was not trained with is in each version's metrics.
    when: str = "always"
    train_share: float = 0.1
    overlap: float = 0.98
    sample: int = 1000

    def __post_init__(self) -> None:
        if self.when not in WHENS:
            raise InputError(f"refresh.when is {self.when!r}; known: {', '.join(WHENS)}")
        for name in ("train_share", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"refresh.{name} is {getattr(self, name)}; it must be 0 to 1")
        if not 20 <= self.sample <= 100_000:
            raise InputError(f"refresh.sample is {self.sample}; it must be 20 to 100000")
