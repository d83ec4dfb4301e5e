"""When a run is worth it."""

from dataclasses import dataclass

from data.errors import InputError

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

    # 0.1: see the table of benchmarks/growing.py. 0.98: the same weights in another batch or by
    # another build of torch give 0.999 or more, the next round's weights 0.6 to 0.9 on the glyphs.
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
