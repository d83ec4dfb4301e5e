"""The training loop: batches in, a better encoder out.

Deterministic: the same checkpoint, triplets, config and number of threads give the same weights,
whether the round ran without interruption or was killed and resumed from its last save.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from remine.data.items.inputs import Inputs
from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.config import TrainConfig
from remine.train.course import Course, Progress
from remine.train.encoders.encoder import Encoder
from remine.train.history import History
from remine.train.learner import Learner
from remine.train.monitor.health import RoundStoppedError
from remine.train.monitor.probe import Probe
from remine.train.monitor.validation import Validation


@dataclass(frozen=True, kw_only=True)
class Training:
    """One round of training.

    loader: the stream of batches.
    ids: (n,) int64 ascending, the id of each row of `inputs`.
    scratch: a folder for the saves that a killed round resumes from.
    learner: the objective; None for the plain triplet loss.
    labels: (n,) int64 class numbers, -1 for items that are not trained on; None if unknown.
    probe: measures the round; None for no measurements.
    validation: scores the round, which then ends with its best weights; None for the last ones.
    augment: changes the pictures of a batch at random, given a seed.
    bf16: whether the encoder computes in bfloat16.
    part: items that go through the encoder at a time; 0 for whole batches.
    batch_items: items in a batch, where it is known.
    earlier_steps: of the encoder in rounds before.
    """

    encoder: Encoder
    optimizer: torch.optim.Optimizer
    loader: TripletLoader | PKSampler
    inputs: Inputs
    ids: Int64
    scratch: Path
    device: torch.device
    learner: Learner | None = None
    labels: Int64 | None = None
    probe: Probe | None = None
    validation: Validation | None = None
    augment: Callable[[Tensor, int], Tensor] | None = None
    bf16: bool = False
    part: int = 0
    batch_items: int = 0
    earlier_steps: int = 0

    def run(self, config: TrainConfig, progress: Progress) -> History:
        """Train for config.steps steps, or until nothing is gained by going on.

        Args:
            config: the round's settings.
            progress: called after each step.

        Raises:
            RoundStoppedError: the embedding collapsed or the loss is not finite; the error carries
                the history.

        """
        course = Course(self, config)
        try:
            course.run(progress)
        except RoundStoppedError as error:
            error.history = asdict(course.history)
            raise
        return course.history
