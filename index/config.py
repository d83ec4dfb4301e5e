"""What the user says about embedding and the index."""

from dataclasses import dataclass

from remine.data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How the dataset is embedded and indexed.

    batch: items in one forward pass. factory: a FAISS factory string, "auto" decides by size.
    recall: the share of the exact 10 nearest that a search is to find. memory: megabytes that the
    index may take, for "auto"; 0 for as many as it likes. queries: how many test items are asked
    when the retrieval is measured, 0 for all.
    """

    batch: int = 256
    factory: str = "auto"
    recall: float = 0.98
    memory: int = 0
    queries: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 65_536:
            raise InputError(f"index.batch is {self.batch}; it must be 1 to 65536")
        if not 0 < self.recall <= 1:
            raise InputError(f"index.recall is {self.recall}; it must be above 0 and at most 1")
        if self.memory < 0:
            raise InputError(f"index.memory is {self.memory}; it must be 0 or more megabytes")
        if self.queries < 0:
            raise InputError(f"index.queries is {self.queries}; it must be 0 or more")
