"""What a round of training notes of itself, step by step."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from remine.train.losses.batch import LossValue
from remine.train.monitor.health import Reading
from remine.train.monitor.probe import Baseline
from remine.train.processes import SingleProcess

IDLE_STEPS = 25
"""Steps over which a round counts as idle or not."""


@dataclass
class History:
    """Statistics of a round.

    loss, active: one entry per step. synthetic: the share of synthetic negatives, one entry per
    step of a round with synthesis. readings: the measurements, each a `Reading` as plain values.
    val: (steps so far, MAP@R) of each validation, that of step 0 first. stopped: why the round
    ended before its last step: "val", no better validation for long; "idle", nothing left to learn;
    "stale", its triplets; None if it did not.
    """

    loss: list[float] = field(default_factory=list)
    active: list[float] = field(default_factory=list)
    synthetic: list[float] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    val: list[tuple[int, float]] = field(default_factory=list)
    stopped: Literal["val", "idle", "stale"] | None = None

    def add(self, value: LossValue) -> None:
        """Append one step."""
        self.loss.append(value.loss.item())
        self.active.append(value.active.item())
        if value.synthetic is not None:
            self.synthetic.append(value.synthetic.item())

    def measure(self, baseline: Baseline, process: SingleProcess) -> Reading:
        """Measure after the steps so far; all processes use the reading of process 0."""
        since = self.readings[-1]["step"] if self.readings else 0
        reading = process.from_first(
            baseline.read(len(self.loss), self.active[since:], self.loss[since:])
        )
        self.readings.append(asdict(reading))
        return reading

    @property
    def best_step(self) -> int | None:
        """Steps after which validation was best, the first of equals; None without validation."""
        return max(self.val, key=lambda point: point[1])[0] if self.val else None

    def is_exhausted(self, patience: int) -> bool:
        """Whether the last `patience` validations were no better than one before; never for 0."""
        worse = [step for step, _ in self.val if step > (self.best_step or 0)]
        return bool(patience) and len(worse) >= patience

    def is_idle(self, share: float) -> bool:
        """Whether no more than `share` of the triplets was active over the last steps."""
        recent = self.active[-IDLE_STEPS:]
        return len(recent) == IDLE_STEPS and sum(recent) <= share * IDLE_STEPS
