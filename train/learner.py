"""What a step minimises, and how its own parameters learn."""

import torch

from remine.train.checkpoint import Source, load_objective, objective_bytes
from remine.train.config import TrainConfig
from remine.train.objective import Objective


class Learner:
    """An objective and the optimizers of its own parameters."""

    def __init__(self, objective: Objective, config: TrainConfig, device: torch.device) -> None:
        """Move the objective to `device` and create its optimizers."""
        self.objective = objective.to(device)
        self.optimizers = objective.optimizers(config)

    def to_bytes(self) -> bytes | None:
        """Serialise its state; None if it has none."""
        return objective_bytes(self.objective, self.optimizers)

    def load(self, source: Source) -> None:
        """Load the state of `source`."""
        load_objective(self.objective, self.optimizers, source)
