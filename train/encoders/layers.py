"""The layers of an encoder in order, for learning rates that fall from the output to the input."""

from collections.abc import Iterator

from torch import nn

from remine.train.encoders.encoder import Encoder
from remine.train.encoders.heads import BackboneWithHead, LinearBody, MlpBody


def layer_groups(encoder: Encoder) -> list[list[str]]:
    """The trainable parameters, layer by layer, from the output to the input.

    The head comes first, then the backbone's blocks from the last to the first, then its embeddings
    or stem. Blocks are taken in the order in which a network registers them, which is the order of
    computation in all networks that remine builds and in those of the usual libraries.

    Returns:
        Names as in `encoder.named_parameters()`, each exactly once; no group is empty.

    """
    body = encoder.body
    heads, backbones = _parts(body)
    units = [name for prefix, module in backbones for name in _units(module, prefix)]
    layers = [*_merged_leaves(encoder, units), *([name] for name in heads)]
    groups: list[list[str]] = [[] for _ in layers]
    loose: list[str] = []
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            owner = next((i for i, prefixes in enumerate(layers) if _is_below(name, prefixes)), -1)
            # Those of no block, such as a position embedding, act on the input.
            (loose if owner < 0 else groups[owner]).append(name)
    ordered = groups[::-1]
    if loose:
        ordered = [*ordered[:-1], [*ordered[-1], *loose]] if ordered else [loose]
    return [group for group in ordered if group]


def _parts(body: nn.Module) -> tuple[list[str], list[tuple[str, nn.Module]]]:
    """The names of the heads, and name and module of the backbones."""
    if isinstance(body, BackboneWithHead):
        return ["body.head"], [("body.backbone", body.backbone)]
    if isinstance(body, LinearBody | MlpBody):
        return ["body"], []
    return [], [("body", body)]


def _units(module: nn.Module, name: str) -> Iterator[str]:
    """The names of a network's blocks in order: modules that are no lists of blocks themselves."""
    if not any(_is_block_list(part) for part in module.modules()):
        yield name
        return
    for child_name, child in module.named_children():
        if _has_parameters(child):
            yield from _units(child, f"{name}.{child_name}")


def _is_block_list(module: nn.Module) -> bool:
    """Whether a module lists two or more blocks, each made of several modules."""
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return False
    blocks = [child for child in module if _has_parameters(child) and any(child.children())]
    return len(blocks) > 1


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _merged_leaves(encoder: nn.Module, units: list[str]) -> list[list[str]]:
    """Single layers in a row are one group: a stem's convolution and its norm."""
    groups: list[list[str]] = []
    was_leaf = False
    for unit in units:
        is_leaf = not any(encoder.get_submodule(unit).children())
        if is_leaf and was_leaf:
            groups[-1].append(unit)
        else:
            groups.append([unit])
        was_leaf = is_leaf
    return groups


def _is_below(name: str, prefixes: list[str]) -> bool:
    return any(name.startswith(f"{prefix}.") for prefix in prefixes)
