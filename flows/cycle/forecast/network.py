"""A few inputs through the settings' encoder, forwards and backwards: seconds and bytes of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_tensors, dtype_text
from remine.data.types import Int64
from remine.flows.cycle.forecast.sample import SourceSample
from remine.flows.stages.encoder import device
from remine.index.embed import embed_rows
from remine.train.config import TrainConfig
from remine.train.encoders.adapter import enable_gradient_checkpointing
from remine.train.encoders.design import Design, build_backbone, build_trainable, design
from remine.train.encoders.encoder import Encoder
from remine.train.optimization.groups import make_optimizer
from remine.train.optimization.memory import Forecast, forecast
from remine.train.optimization.modes import set_training
from remine.train.precision import autocast, uses_bf16
from remine.train.recipe import kind_of, recipe_of, resolved

if TYPE_CHECKING:
    from remine.flows.config.settings import Config

SECONDS = 0.4
"""Time for one measurement, beside its first two items."""
MOST = 2048
"""Items of one measurement at most."""
STEP_SECONDS = 0.004
"""Of a step: the batch, the loss and the record, which do not depend on the encoder."""


@dataclass(frozen=True, kw_only=True)
class NetworkCosts:
    """What the encoder takes.

    Attributes:
        config: Settings of training, with no "auto" left.
        dimensions: Of the embedding.
        feature_dimensions: Of what a frozen backbone computes once; 0 without one.
        feature_seconds: For an item through the frozen backbone.
        embed_seconds: For an item through what is trained, forwards.
        step_seconds: For a step of training.
        step: Items in a step, in a part of one, and bytes of each.
        weight_bytes: Of all weights.
        trained_bytes: Of those that are trained.
    """

    config: TrainConfig
    dimensions: int
    feature_dimensions: int
    feature_seconds: float
    embed_seconds: float
    step_seconds: float
    step: Forecast
    weight_bytes: int
    trained_bytes: int


def measure_network(config: "Config", sample: SourceSample) -> NetworkCosts:
    """Build the encoder of a first cycle, and time it on the sample.

    Raises:
        InputError: The encoder does not fit the data, or a package of it is not installed.
    """
    dtype = dtype_text(sample.inputs.dtype)
    plan = design(config.encoder, sample.content, sample.shape, dtype, config.base)
    train = resolved(
        config.train.after_rounds(config.train.warmup_rounds),
        kind_of(config.encoder, sample.content),
    )
    encoder = build_trainable(plan, config.base, config.run.seed).to(device())
    inputs, batch = sample.inputs, config.index.batch
    feature_seconds, backbone_bytes = 0.0, 0
    if plan.feature_dimensions:
        backbone = build_backbone(plan, config.base).to(device())
        feature_seconds = embedding_seconds(backbone, inputs, batch)
        inputs = _features(plan)
        backbone_bytes = _bytes(backbone.parameters())
    embed_seconds = embedding_seconds(encoder.eval(), inputs, batch)
    if config.encoder.gradient_checkpointing:
        enable_gradient_checkpointing(encoder, config.encoder.name)
    step, step_seconds = _training(encoder, inputs, train)
    with torch.inference_mode():
        dimensions = encoder.eval()(as_tensors(inputs[:1], device())).shape[1]
    return NetworkCosts(
        config=train,
        dimensions=int(dimensions),
        feature_dimensions=plan.feature_dimensions,
        feature_seconds=feature_seconds,
        embed_seconds=embed_seconds,
        step_seconds=step_seconds,
        step=step,
        weight_bytes=backbone_bytes + _bytes(encoder.parameters()),
        trained_bytes=_bytes(p for p in encoder.parameters() if p.requires_grad),
    )


def item_seconds(work: Callable[[Int64], object], rows: int, most: int = MOST) -> float:
    """Seconds of `work` for an item: with twice as many items each time, until time is up.

    Args:
        work: Does something with some rows (m,).
        rows: Rows that there are; they are taken again and again.
        most: Items at a time at most.
    """
    work(np.resize(np.arange(rows), 2))  # the first call allocates, and loads what is loaded late
    count, spent = min(2, most), 0.0
    while True:
        start = time.perf_counter()
        work(np.resize(np.arange(rows), count))
        seconds = time.perf_counter() - start
        spent += seconds
        if spent + 2 * seconds > SECONDS or count >= most:
            return seconds / count
        count = min(most, 2 * count)


def embedding_seconds(network: nn.Module, inputs: np.ndarray, batch: int) -> float:
    """Seconds for an item of `inputs` (m, ...) through a network in evaluation mode."""
    block = Inputs.of(inputs)
    return item_seconds(lambda rows: embed_rows(network, block, rows, batch, device()), len(inputs))


def _training(encoder: Encoder, inputs: np.ndarray, config: TrainConfig) -> tuple[Forecast, float]:
    """The memory of a step, and its seconds."""
    per_triplet = 4 if config.synthesis == "symmetrical" else 3
    batch = config.batch * (1 if config.uses_pk_batches else per_triplet)
    keeps_statistics = recipe_of(config).batch_statistics == "kept"
    set_training(encoder, keeps_statistics=keeps_statistics, holds_backbone=False)
    step = forecast(encoder, Inputs.of(inputs), batch, config, device())
    optimizer = make_optimizer(encoder, config)
    bf16 = uses_bf16(config.precision, device())

    def learn(rows: Int64) -> None:
        with autocast(device(), bf16=bf16):
            features = encoder.features(as_tensors(inputs[rows], device()))
        torch.autograd.backward(features.square().sum())
        _wait()

    seconds = item_seconds(learn, len(inputs), min(step.part, MOST)) * batch
    if step.part < batch and not _adds_up(config):
        seconds *= 4 / 3  # each part passes forwards twice
    start = time.perf_counter()
    optimizer.step()
    _wait()
    return step, seconds + time.perf_counter() - start + STEP_SECONDS


def _adds_up(config: TrainConfig) -> bool:
    """Whether the parts of a batch need one forward pass, as `Course` has it."""
    is_plain = config.loss == "triplet" and config.miner == "auto" and not config.memory
    return is_plain and not config.uses_pk_batches


def _features(plan: Design) -> np.ndarray:
    """Numbers in place of features, which cost the same."""
    shape = (256, plan.feature_dimensions)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _bytes(parameters: object) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)  # type: ignore[attr-defined]


def _wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
