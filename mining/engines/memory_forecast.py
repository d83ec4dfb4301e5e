"""Memory that mining needs; apart from `engine_choice`, which imports torch."""

BASE_GB = 0.7  # Python and its libraries
EXACT_COPIES, LIST_COPIES = 2.0, 4.0  # copies of the gallery in memory


def gallery_size(n: int, d: int) -> float:
    """Gigabytes of n vectors of d dimensions with their ids and labels."""
    return n * (4 * d + 12) / 2**30


def peak_memory_gb(n: int, d: int, limit: float = float("inf"), *, exact: bool = True) -> float:
    """The expected peak of the process's resident memory, in gigabytes.

    Args:
        n: Vectors of the gallery.
        d: Their dimensions.
        limit: mining.memory_gb, above which the exact engine loads the gallery in parts.
        exact: Whether the exact engine is used.
    """
    gallery_gb = min(gallery_size(n, d), limit)
    return BASE_GB + (EXACT_COPIES if exact else LIST_COPIES) * gallery_gb
