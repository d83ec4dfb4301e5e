"""Embeddings and labels to hard and semi-hard triplets, over the whole dataset.

In reading order:

    config        settings
    row_lists     sets of gallery rows, shared by the items of a class or tag
    problem       anchors, a gallery, and which rows may be positives and negatives
    arguments     arrays, labels and queries to a problem; invalid input is refused
    miner         `mine`: pairs, windows, a search, triplets
    stats         counts that add up over blocks

    strategies/   which positives and negatives: pairs, windows of distance, random draws, hub cap
    search/       how windows are searched: exact, on a GPU, by lists
    engines/      which way of searching is taken, and how much it finds

    suspects      items that are probably mislabelled, or one item under two labels
    label_judges  which of two embeddings judges labels: before training, or after
    confusion     classes that are easily confused

    in_batch/     miners inside a training batch; independent of the rest
"""

from typing import TYPE_CHECKING, Any

from remine.mining.config import MiningConfig

if TYPE_CHECKING:
    from remine.mining.miner import Mined, mine

__all__ = ["Mined", "MiningConfig", "mine"]


def __getattr__(name: str) -> Any:
    """`mine` and `Mined` on first use: settings alone import neither torch nor numba."""
    if name not in ("Mined", "mine"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from remine.mining import miner

    return getattr(miner, name)
