"""Seconds as people say them."""


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.1f} s"
