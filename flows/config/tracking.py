"""Configuration of trackers: the tools in which people watch and compare training runs."""

from typing import Annotated, Literal

from pydantic import Field

from remine.data.config_table import config_table

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


@config_table("track")
class TrackConfig:
    """Curves of the cycles in the tools that you watch training with; by default nowhere."""

    to: tuple[TrackerName, ...] = ()
    """Where to, any of:
    tensorboard: event files in the store's folder tensorboard/, one run for each cycle
    mlflow: a run for each cycle, at the address that MLFLOW_TRACKING_URI names
    wandb: a run for each cycle, in the account and the mode that WANDB_... name
    """
    project: Annotated[str, Field(min_length=1)] = "remine"
    """Name of the experiment of MLflow, or of the project of Weights & Biases."""
    every: Annotated[int, Field(ge=1, le=10_000_000)] = 10
    """Steps between two points of the training curves."""
