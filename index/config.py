"""Configuration of embedding and of the index."""

from typing import Annotated

from pydantic import Field

from remine.data.config_table import Unit, config_table


@config_table("index")
class IndexConfig:
    """How the items are embedded, indexed and evaluated."""

    batch: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Items per forward pass of the encoder when embedding, at most. On a CPU a pass is cut further
    if the activations of a layer would be larger than a few tens of megabytes.
    """
    factory: str = "auto"
    """A FAISS index factory string such as "IVF1024,Flat"; "auto" selects one by the number of
    items, `recall` and `memory`.
    """
    recall: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Share of the exact 10 nearest neighbours that a search must return."""
    memory: Annotated[int, Field(ge=0), Unit("megabytes")] = 0
    """Largest size of an index selected by "auto"; 0 for no limit."""
    queries: Annotated[int, Field(ge=0)] = 10_000
    """Test items used as queries when retrieval is evaluated; 0 for all."""
