"""What a round trains on: mined triplets, confusable classes, or labels alone.

Nothing is mined that the round does not read.
"""

from collections.abc import Callable

from remine.data.store.records import Artifact
from remine.flows.jobs.run_context import Run
from remine.flows.stages.confusable_classes import confuse
from remine.flows.stages.mine import mine
from remine.flows.stages.rounds.settings import round_settings

StageCall = Callable[..., Artifact]
"""Runs a stage, given with its arguments: directly, or as a task of Prefect."""


def training_data(
    run: Run,
    checkpoint: Artifact,
    embeddings: Artifact,
    items: Artifact,
    seed: int,
    call: StageCall,
) -> dict[str, Artifact]:
    """Mine what the next round trains on, by its name in a version; empty for PK batches."""
    batches = round_settings(run, checkpoint).batches
    if batches == "triplets":
        return {"triplets": call(mine, run, embeddings, items, seed)}
    if batches == "confusable":
        return {"classes": call(confuse, run, embeddings, items)}
    return {}
