"""The embeddings of one split."""

from typing import TYPE_CHECKING

from remine.data import schemas
from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact
from remine.data.types import Embeddings

if TYPE_CHECKING:
    from remine.data.store.store import Store


def read_split(store: "Store", embeddings: Artifact, items: Artifact, split: int) -> Embeddings:
    """Load the embeddings of one split, given as its place in SPLITS."""
    vectors = schemas.read_embeddings(store.paths(embeddings))
    return vectors.take(read_catalogue(store, items).splits == split)
