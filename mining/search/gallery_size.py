"""How much memory mining holds; apart from the policy, which needs torch."""

BASE_GB, HELD, HELD_BY_LISTS = 0.7, 2.0, 4.0  # of memory; copies of the gallery


def gallery_size(n: int, d: int) -> float:
    """Gigabytes of n vectors with their ids and labels."""
    return n * (4 * d + 12) / 2**30


def held_gb(n: int, d: int, limit: float = float("inf"), *, exact: bool = True) -> float:
    """The process's peak in gigabytes. limit: mining.memory_gb."""
    held = min(gallery_size(n, d), limit)
    return BASE_GB + (HELD if exact else HELD_BY_LISTS) * held
