"""Trackers: TensorBoard, MLflow and Weights & Biases behind one interface.

Each is imported only when it is asked for. Curves are `train/loss` and `train/active` by step, and
`test/...`, `val/...` of every round at the step at which it was measured. Steps count from the
first one of the encoder, over rounds and cycles.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from remine.data.errors import InputError
from remine.flows.config.tracking import TrackConfig

MODULES = {
    "tensorboard": ("tensorboard", "tensorboard"),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "wandb": ("wandb", "wandb"),
}
"""For each tracker the module that it needs, and the package that has it."""

SHOWN_METRICS = ("recall@1", "recall@8", "map@r", "r_precision", "spread")


class Tracker(Protocol):
    """What all trackers do."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoard:
    """Event files that `tensorboard --logdir STORE/tensorboard` shows."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Write to `folder`; points of an earlier, killed run from `first_step` on are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class MLflow:
    """A run of MLflow."""

    def __init__(self, project: str, run_name: str, settings: Mapping[str, Any]) -> None:
        """Start a run in the experiment `project`; `settings` become its parameters."""
        import mlflow

        mlflow.set_experiment(project)
        self._client: Any = mlflow.MlflowClient()
        run: Any = mlflow.start_run(run_name=run_name)
        self._run, self._mlflow = run.info.run_id, mlflow
        for name, value in settings.items():
            self._client.log_param(self._run, name, value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve."""
        for name, value in values.items():
            # A name of MLflow holds no @.
            self._client.log_metric(self._run, name.replace("@", "_at_"), value, step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class WeightsAndBiases:
    """A run of Weights & Biases."""

    def __init__(self, project: str, run_name: str, settings: Mapping[str, Any]) -> None:
        """Start a run in `project`; `settings` become its config."""
        import wandb

        self._run: Any = wandb.init(project=project, name=run_name, config=dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class Trackers:
    """All trackers of a cycle as one."""

    def __init__(self, trackers: Sequence[Tracker] = (), every: int = 1) -> None:
        """`every`: steps between two points of the training curves."""
        self._trackers, self._every = trackers, every

    def log_step(self, step: int, loss: float, active: float) -> None:
        """Add the points of a training step, if one is due.

        Args:
            step: The encoder's step.
            loss: The loss.
            active: The share of triplets with a loss, 0 to 1.
        """
        if step % self._every == 0:
            self._log({"train/loss": loss, "train/active": active}, step)

    def log_metrics(self, card: Mapping[str, Any], step: int, number: int) -> None:
        """Add the points of the metrics of round `number`, measured at the encoder's `step`."""
        values = {"round": float(number)}
        for split, metrics in (("test", card), ("val", card.get("val", {}))):
            values |= {f"{split}/{k}": float(metrics[k]) for k in SHOWN_METRICS if k in metrics}
        self._log(values, step)

    def close(self) -> None:
        """Send what is left."""
        for tracker in self._trackers:
            tracker.close()

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for tracker in self._trackers:
            tracker.log(values, step)


def check_trackers(config: TrackConfig) -> None:
    """Raise InputError if a tracker is not installed; imports none."""
    for name in config.to:
        module, package = MODULES[name]
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"track.to names {name}, which is not installed: pip install {package}"
            )


def open_trackers(
    config: TrackConfig, folder: Path, cycle: int, first_step: int, settings: Mapping[str, Any]
) -> Trackers:
    """Start a run of each tracker.

    Args:
        config: Which trackers.
        folder: The store's folder on this machine.
        cycle: Number of the cycle.
        first_step: The encoder's steps so far.
        settings: The settings of the cycle, as nested tables.
    """
    run_name = f"{folder.name}-cycle-{cycle}"
    flat_settings = _flat("", settings)
    trackers: list[Tracker] = []
    for name in config.to:
        if name == "tensorboard":
            trackers.append(TensorBoard(folder / "tensorboard" / f"cycle-{cycle}", first_step))
        elif name == "mlflow":
            trackers.append(MLflow(config.project, run_name, flat_settings))
        else:
            trackers.append(WeightsAndBiases(config.project, run_name, flat_settings))
    return Trackers(trackers, config.every)


def _flat(prefix: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one with dotted names."""
    values: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, Mapping):
            values |= _flat(f"{prefix}{name}.", value)
        else:
            values[f"{prefix}{name}"] = value
    return values
