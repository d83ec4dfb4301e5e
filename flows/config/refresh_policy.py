"""Configuration of when a scheduled run does something."""

from typing import Annotated, Literal

from pydantic import Field

from remine.data.config_table import Share, config_table


@config_table("refresh")
class RefreshConfig:
    """What a scheduled run does. `remine run` uses these settings with --if-needed only."""

    # overlap: the same weights in other batches keep over 0.99 of the neighbours (tests of the
    # drift probe measure it), the weights of the next round fewer than 0.98. train_share has not
    # been measured; each version's metrics have what a model loses on items it was not trained on.
    when: Literal["always", "needed"] = "always"
    """When the run does something.
    always: a whole cycle every time
    needed: nothing if neither the source nor the settings changed; embedding and index without
      training if few items changed; else a whole cycle
    """
    train_share: Share = 0.1
    """For "needed": train again from this share of new, changed or deleted items."""
    overlap: Share = 0.98
    """For "needed", after our code or index.batch changed: keep the index if a new embedding of
    `sample` items preserves this share of their nearest neighbours.
    """
    sample: Annotated[int, Field(ge=20, le=100_000)] = 1000
    """Items embedded again for that."""
