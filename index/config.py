"""What the user says about embedding and the index."""

from dataclasses import dataclass

from data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How the dataset is embedded and indexed.

    batch: items in one forward pass. factory: a FAISS factory string, "auto" decides by size.
    queries: how many test items are asked when the retrieval is measured, 0 for all.
    """

    batch: int = 256
    factory: str = "auto"
    queries: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 65_536:
            raise InputError(f"index.batch is {self.batch}; it must be 1 to 65536")
        if self.queries < 0:
            raise InputError(f"index.queries is {self.queries}; it must be 0 or more")
