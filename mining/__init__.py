"""Embeddings and labels to hard and semi-hard triplets, over the whole dataset.

In reading order:

    config        what may be asked
    problem       anchors, a gallery, who is whose positive, and who may not be a negative
    inputs        arrays, labels, queries to a problem; whatever cannot be mined is refused
    pairs         which positives of an anchor
    windows       strategies to windows of distance, and what was found in them to negatives
    found         what a window asks, and its answer
    miner         `mine`: pairs, windows, a search, triplets; the whole story on a page
    draw          negatives by chance
    hubs, stats   the cap on frequent negatives; counts that add up over blocks

    policy        which engine, in which products, at what cost
    slack         how far a cheap product may lie from the truth, proven
    scan          exact search, blocked, on the processor
    device        the same on a GPU
    join          search by lists
    recall        how much of the exact answer is found, on a sample
    engines       exact, by lists, through an index of FAISS: prepared, measured, opened

    suspects      items that are probably mislabelled, or one thing under two labels
    confusion     classes that are easily taken for one another

    kernels, draw_kernels   the compiled inner loops

    online, online_config   miners inside a batch, for training; they share only words with the rest
"""

from typing import TYPE_CHECKING, Any

from remine.mining.config import MiningConfig

if TYPE_CHECKING:
    from remine.mining.miner import Mined, mine

__all__ = ["Mined", "MiningConfig", "mine"]


def __getattr__(name: str) -> Any:
    """The miner when it is asked for: settings alone load neither torch nor numba."""
    if name not in ("Mined", "mine"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from remine.mining import miner

    return getattr(miner, name)
