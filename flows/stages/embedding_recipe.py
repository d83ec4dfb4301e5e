"""What decides the vector of an item, beside its content; known without loading torch."""

from remine.data.store.records import Artifact, digest
from remine.flows.jobs.stage_code import code_hash


def embedding_recipe(checkpoint: Artifact, batch: int) -> str:
    """Hash of the weights, the batch size and the code that embeds."""
    weights = [checkpoint.card["encoder"], checkpoint.files[0].sha256]
    return digest([weights, batch, code_hash("remine.flows.stages.embed")])
