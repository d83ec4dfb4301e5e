"""Checkpoints as safetensors, never as pickles: an encoder, its optimizer, an objective."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from remine.data.errors import StoreError

State = dict[str, Tensor]
Source = Path | bytes
"""A file, or its content."""


def encoder_bytes(encoder: nn.Module) -> bytes:
    """Serialise the encoder's weights and buffers; equal values give equal bytes.

    Without those of a base that an adapter leaves as they are: see `BASE_NAMES`.
    """
    state, base_names = encoder.state_dict(), _base_names(encoder)
    return save(_on_cpu({name: state[name] for name in state if name not in base_names}))


def load_encoder(
    encoder: nn.Module, source: Source, renamed: Callable[[State], State] = lambda state: state
) -> None:
    """Load the weights of `source` into `encoder`.

    Args:
        encoder: Gets the weights.
        source: What `encoder_bytes` wrote.
        renamed: Gives the tensors of earlier versions their names of today.

    Raises:
        StoreError: the weights are those of another architecture.

    """
    state, full_state = renamed(_tensors(source)), encoder.state_dict()
    try:
        encoder.load_state_dict({**{n: full_state[n] for n in _base_names(encoder)}, **state})
    except RuntimeError as error:
        raise StoreError(
            f"{_name(source)} holds the weights of another encoder: {_last_line(error)}"
        ) from None


BASE_NAMES = "base_names"
"""Method of a module that names its tensors which are not saved: a pretrained model's own."""


def _base_names(encoder: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in encoder.named_modules()
        if hasattr(module, BASE_NAMES)
        for name in getattr(module, BASE_NAMES)()
    }


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> bytes:
    """Serialise the optimizer's state tensors, named `<parameter>.<state>`."""
    return save(_state_tensors(optimizer))


def load_optimizer(optimizer: torch.optim.Optimizer, source: Source) -> None:
    """Load the state of `source` into `optimizer`; its settings do not change.

    A state whose shapes are those of other parameters is left out.
    """
    _load_state(optimizer, _tensors(source))


def objective_bytes(
    objective: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> bytes | None:
    """Serialise the state of an objective and its optimizers; None if there is no state.

    Tensors are named `state.<name>` and `<optimizer>.<parameter>.<state>`.
    """
    tensors = {f"state.{k}": v for k, v in objective.state_dict().items()}
    for name, optimizer in optimizers.items():
        tensors |= {f"{name}.{k}": v for k, v in _state_tensors(optimizer).items()}
    return save(_on_cpu(tensors)) if tensors else None


def load_objective(
    objective: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], source: Source
) -> None:
    """Load the state of `source` into an objective and its optimizers.

    Raises:
        StoreError: the state is that of another loss.

    """
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("state", *optimizers)}
    for key, value in _tensors(source).items():
        part, name = key.split(".", 1)
        parts.setdefault(part, {})[name] = value
    try:
        objective.load_state_dict(parts["state"])
    except RuntimeError as error:
        raise StoreError(
            f"{_name(source)} holds the state of another loss: {_last_line(error)}"
        ) from None
    for name, optimizer in optimizers.items():
        _load_state(optimizer, parts[name])


def _state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    places = _places(optimizer)
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{places[number]}.{name}"] = torch.as_tensor(value).cpu().contiguous()
    return tensors


def _load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    numbers = {place: number for number, place in enumerate(_places(optimizer))}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        place, name = key.split(".", 1)
        number = numbers.get(int(place))
        # Moments of a network as an earlier version built it, which are soon gathered again.
        if number is None or value.shape not in (parameters[number].shape, torch.Size([])):
            return
        if value.dim():
            # Fused optimizers read all by address, so the layouts must agree.
            value = torch.empty_like(parameters[number]).copy_(value)  # noqa: PLW2901
        state.setdefault(number, {})[name] = value
    # torch loads settings together with the state; pass the current ones, which may be new.
    groups: list[Mapping[str, Any]] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _places(optimizer: torch.optim.Optimizer) -> list[int]:
    """The place of each parameter of the optimizer in its module.

    torch numbers parameters group by group. Groups follow from the settings, and a state must
    outlive a change of them: it is saved by the places that groups note, if they do.
    """
    groups = optimizer.param_groups
    if all("places" in group for group in groups):
        return [place for group in groups for place in group["places"]]
    return list(range(sum(len(group["params"]) for group in groups)))


def _tensors(source: Source) -> dict[str, Tensor]:
    return load(source if isinstance(source, bytes) else source.read_bytes())


def _name(source: Source) -> str:
    return "a save" if isinstance(source, bytes) else str(source)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _last_line(error: Exception) -> str:
    """The last line of torch's message, which names a mismatch."""
    return str(error).splitlines()[-1].strip()
