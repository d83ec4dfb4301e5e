"""Checkpoints as safetensors: an encoder and its optimizer's state, never a pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from data.errors import StoreError


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
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{parameter}.{name}"] = torch.as_tensor(value).cpu().contiguous()
    return save(tensors)


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Fill `optimizer` with the state at `path`; its settings stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load(path.read_bytes()).items():
        parameter, name = key.split(".", 1)
        state.setdefault(int(parameter), {})[name] = value
    groups: list[Mapping[str, Any]] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
