"""Layers in order: head, blocks from last to first, stem."""

import torch
from torch import nn

from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.efficientnet import EfficientNetLite0
from remine.train.encoders.encoder import Encoder, build_encoder
from remine.train.encoders.heads import BackboneWithHead, build_head
from remine.train.encoders.layers import layer_groups


class Transformer(nn.Module):
    """The names and the nesting of a usual one."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(4))
        self.embeddings = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4))
        block = [nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))) for _ in range(3)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(block)})
        self.norm = nn.LayerNorm(4)


def prefixes(groups, length):
    return [sorted({".".join(name.split(".")[:length]) for name in group}) for group in groups]


def test_head_then_blocks_from_the_last_then_embeddings():
    encoder = Encoder(BackboneWithHead(Transformer(), build_head("mlp", 4, 2)))
    groups = layer_groups(encoder)
    assert prefixes(groups[:1], 2) == [["body.head"]]
    assert prefixes(groups[1:2], 3) == [["body.backbone.norm"]]
    layers = [f"body.backbone.encoder.layer.{number}" for number in (2, 1, 0)]
    assert prefixes(groups[2:5], 5) == [[name] for name in layers]
    assert prefixes(groups[5:], 3) == [["body.backbone.embeddings", "body.backbone.position"]]


def test_of_a_conv_net_stem_and_last_convolution_are_a_group_each():
    groups = layer_groups(Encoder(EfficientNetLite0()))
    assert len(groups) == 18
    assert groups[-1] == ["body.layers.0.weight", "body.layers.1.weight", "body.layers.1.bias"]
    assert prefixes(groups[:2], 3) == [["body.layers.19", "body.layers.20"], ["body.layers.18"]]


def test_every_trainable_parameter_is_in_one_group():
    for content, shape in (("image", (1, 32, 32)), ("text", (256,)), ("vector", (12,))):
        encoder = build_encoder(EncoderConfig(width=8), content, shape)
        names = [name for group in layer_groups(encoder) for name in group]
        assert sorted(names) == sorted(name for name, _ in encoder.named_parameters())
    encoder = Encoder(BackboneWithHead(Transformer(), build_head("auto", 4, 4)))
    encoder.body.backbone.requires_grad_(False)
    assert layer_groups(encoder) == [["body.head.layer.weight"]]
