"""Checkpoints as safetensors: an encoder and its optimizer's state, never a pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from remine.data.errors import StoreError


def encoder_bytes(encoder: nn.Module) -> bytes:
    """The encoder's weights and buffers; the same bytes for the same values."""
    return save({k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()})


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Fill `encoder` with the weights at `path`; refuses another architecture."""
    try:
        encoder.load_state_dict(load(path.read_bytes()))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise StoreError(f"{path} holds the weights of another encoder: {reason}") from None


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> bytes:
    """The optimizer's state tensors, named `<parameter>.<state>`."""
    return save(_state_tensors(optimizer))


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Fill `optimizer` with the state at `path`; its settings stay as they are."""
    _load_state(optimizer, load(path.read_bytes()))


def objective_bytes(
    objective: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> bytes | None:
    """What a loss has learned and remembers, and its optimizers' state; None where nothing.

    Tensors are named `state.<name>` and `<optimizer>.<parameter>.<state>`.
    """
    tensors = {f"state.{k}": v for k, v in objective.state_dict().items()}
    for name, optimizer in optimizers.items():
        tensors |= {f"{name}.{k}": v for k, v in _state_tensors(optimizer).items()}
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    return save(whole) if whole else None


def load_objective(
    objective: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], path: Path
) -> None:
    """Fill a loss and its optimizers with the state at `path`; refuses that of another loss."""
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("state", *optimizers)}
    for key, value in load(path.read_bytes()).items():
        part, name = key.split(".", 1)
        parts.setdefault(part, {})[name] = value
    try:
        objective.load_state_dict(parts["state"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise StoreError(f"{path} holds the state of another loss: {reason}") from None
    for name, optimizer in optimizers.items():
        _load_state(optimizer, parts[name])


def _state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{parameter}.{name}"] = torch.as_tensor(value).cpu().contiguous()
    return tensors


def _load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        parameter, name = key.split(".", 1)
        state.setdefault(int(parameter), {})[name] = value
    groups: list[Mapping[str, Any]] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
