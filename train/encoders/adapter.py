"""LoRA (Hu et al. 2021) through peft: a backbone that stays as it is, with trained matrices beside.

Only the matrices are trained and saved. The backbone is known by its hash.
"""

import importlib
import warnings
from typing import Any, cast

from torch import Tensor, nn

from remine.data.errors import InputError
from remine.data.items.tensors import Tensors
from remine.train.encoders.config import LoraConfig

ADAPTER = "lora_"
"""Part of the name of every tensor that an adapter adds."""


class AdaptedBackbone(nn.Module):
    """A backbone with an adapter; only the adapter ever trains or is saved."""

    def __init__(self, backbone: nn.Module) -> None:
        """`backbone` has its adapter already."""
        super().__init__()
        self.backbone = backbone
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(ADAPTER in name)

    def forward(self, inputs: Tensors) -> Tensor:
        """As the backbone."""
        return cast("Tensor", self.backbone(inputs))

    def train(self, mode: bool = True) -> "AdaptedBackbone":  # noqa: FBT001, FBT002 - torch's signature
        """Set the mode of the adapter; the backbone's batch statistics stay as they are."""
        super().train(mode)
        for name, module in self.backbone.named_modules():
            if ADAPTER not in name:
                module.training = False
        return self

    def base_names(self) -> list[str]:
        """The tensors that are the backbone's own, which no checkpoint holds."""
        return [name for name in self.state_dict() if ADAPTER not in name]


def add_adapter(backbone: nn.Module, config: LoraConfig) -> AdaptedBackbone:
    """Put LoRA into a backbone, by torch's generator; at first it changes nothing.

    Raises:
        InputError: peft is not installed, or the backbone has no such layers.

    """
    peft = _peft()
    targets = list(config.targets) or _linear_names(backbone) or _convolution_names(backbone)
    if not targets:
        raise InputError(
            'encoder.adapter is "lora", and the network has no linear layer and no convolution:'
            " name its layers in encoder.lora.targets"
        )
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        bias="none",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.inject_adapter_in_model(settings, backbone)
    except ValueError as error:
        raise InputError(
            f"encoder.lora.targets is {list(config.targets)}: {str(error).splitlines()[0][:200]}"
        ) from None
    return AdaptedBackbone(adapted)


def merge_adapters(module: nn.Module) -> nn.Module:
    """Add every adapter inside `module` to the weights beside it, and take it out.

    Returns:
        The module without adapters; what it computes is the same up to rounding.

    """
    if isinstance(module, AdaptedBackbone):
        return merge_adapters(module.backbone)
    for name, child in list(module.named_children()):
        if hasattr(child, "merge") and hasattr(child, "get_base_layer"):
            cast("Any", child).merge()
            setattr(module, name, cast("Any", child).get_base_layer())
        else:
            setattr(module, name, merge_adapters(child))
    return module.requires_grad_()


def _peft() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("peft")
    except ImportError:
        raise InputError(
            'encoder.adapter is "lora", and peft is not installed: pip install peft'
        ) from None


def _linear_names(backbone: nn.Module) -> list[str]:
    """The linear layers inside blocks: those of a name that has a number, as in layer.3.query."""
    names = [n for n, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    in_blocks = [name for name in names if any(part.isdigit() for part in name.split("."))]
    return in_blocks or names


def _convolution_names(backbone: nn.Module) -> list[str]:
    return [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1
    ]


def enable_gradient_checkpointing(encoder: nn.Module, name: str) -> None:
    """Make a network compute its activations again in the backward pass, by its own means.

    Raises:
        InputError: it does not offer that.

    """
    for module in encoder.modules():
        # transformers 5 renamed it.
        for method in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
            if hasattr(module, method):
                getattr(module, method)({"use_reentrant": False})
                return
        if hasattr(module, "set_grad_checkpointing"):
            cast("Any", module).set_grad_checkpointing()
            return
    raise InputError(
        f"encoder.gradient_checkpointing is true, which {name!r} does not offer: remove it"
    )


def trainable_share(encoder: nn.Module) -> tuple[int, int]:
    """The numbers of trained weights and of all weights."""
    counts = [(p.numel(), p.requires_grad) for p in encoder.parameters()]
    return sum(n for n, trains in counts if trains), sum(n for n, _ in counts)
