"""What tests of several packages share."""

import pytest


@pytest.fixture(scope="session")
def as_set():
    """What was mined, without distances and in no order."""

    def rows(triplets) -> set[tuple[int, ...]]:
        columns = (triplets.anchor_id, triplets.positive_id, triplets.negative_id, triplets.kind)
        return set(zip(*(column.tolist() for column in columns), strict=True))

    return rows


@pytest.fixture(scope="session")
def as_bytes():
    """Every bit of what was mined."""
    return lambda triplets: [column.tobytes() for column in triplets.columns().values()]
