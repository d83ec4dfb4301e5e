"""The rate of each step, the groups of AdamW, and settings that are "auto"."""

import math
from dataclasses import replace

import pytest
import torch

from remine.train.checkpoint import load_optimizer, optimizer_bytes
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.heads import BackboneWithHead, LinearBody
from remine.train.optimization.groups import make_optimizer
from remine.train.optimization.modes import set_training
from remine.train.optimization.schedule import rate_share, set_rates
from remine.train.recipe import RECIPES, kind_of, recipe_line, recipe_of, resolved

RECIPE = replace(RECIPES["scratch"], steps=10, warmup=4)


def test_rates_rise_and_then_go_on_as_the_schedule_says():
    warm = [1 / 5, 2 / 5, 3 / 5, 4 / 5]
    shares = {
        "constant": [1] * 6,
        "linear": [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
        "cosine": [(1 + math.cos(math.pi * i / 6)) / 2 for i in range(6)],
    }
    for schedule, rest in shares.items():
        recipe = replace(RECIPE, schedule=schedule)
        assert [rate_share(recipe, step) for step in range(1, 11)] == pytest.approx(warm + rest)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.25, 2), (0.4, 4), (3, 3), (1, 1)])
def test_a_warm_up_is_a_share_or_steps(warmup, steps):
    recipe = replace(RECIPE, warmup=warmup)
    assert recipe.warmup_steps == steps
    assert [rate_share(recipe, step) < 1 for step in range(1, 11)] == [True] * steps + [False] * (
        10 - steps
    )


def test_a_warm_up_may_be_all_of_a_round():
    recipe = replace(RECIPE, schedule="linear", warmup=20)
    assert rate_share(recipe, 10) == pytest.approx(10 / 21)


class Tower(torch.nn.Module):
    """Embeddings, two layers and a last norm, as a transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.word = torch.nn.Embedding(7, 6)
        blocks = (torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.ReLU()) for _ in range(2))
        self.layers = torch.nn.ModuleList(blocks)
        self.norm = torch.nn.LayerNorm(6)

    def forward(self, tokens):
        x = self.word(tokens).mean(dim=1)
        for layer in self.layers:
            x = layer(x) + x
        return self.norm(x)


def tower():
    torch.manual_seed(0)
    return Encoder(BackboneWithHead(Tower(), LinearBody(6, 3)))


def rates_by_name(encoder, optimizer, key="lr"):
    names = {id(p): name for name, p in encoder.named_parameters()}
    return {names[id(p)]: g[key] for g in optimizer.param_groups for p in g["params"]}


def test_rates_by_layer_and_for_the_head():
    encoder = tower()
    config = TrainConfig(learning_rate=0.01, layer_decay=0.5, head_factor=10.0, weight_decay=0.1)
    optimizer = make_optimizer(encoder, config)
    assert rates_by_name(encoder, optimizer) == pytest.approx(
        {
            "body.backbone.word.weight": 0.00125,
            "body.backbone.layers.0.0.weight": 0.0025,
            "body.backbone.layers.0.0.bias": 0.0025,
            "body.backbone.layers.1.0.weight": 0.005,
            "body.backbone.layers.1.0.bias": 0.005,
            "body.backbone.norm.weight": 0.01,
            "body.backbone.norm.bias": 0.01,
            "body.head.layer.weight": 0.1,
        }
    )
    decays = rates_by_name(encoder, optimizer, "weight_decay")
    assert {name for name, decay in decays.items() if decay} == {
        f"body.{name}.weight"
        for name in ("backbone.word", "backbone.layers.0.0", "backbone.layers.1.0", "head.layer")
    }
    set_rates(optimizer, [group["lr"] for group in optimizer.param_groups], 0.5)
    assert rates_by_name(encoder, optimizer)["body.head.layer.weight"] == pytest.approx(0.05)


def test_a_state_survives_other_groups():
    """Moments are saved by a parameter's place, whatever the group that it is in."""
    encoder, other = tower(), tower()
    optimizer = make_optimizer(encoder, TrainConfig())
    encoder(torch.arange(6).view(2, 3)).sum().backward()
    optimizer.step()
    regrouped = make_optimizer(other, TrainConfig(layer_decay=0.5, weight_decay=0.1))
    load_optimizer(regrouped, optimizer_bytes(optimizer))
    for mine, theirs in zip(encoder.parameters(), other.parameters(), strict=True):
        assert torch.equal(regrouped.state[theirs]["exp_avg"], optimizer.state[mine]["exp_avg"])


def test_what_is_held_does_not_move_and_statistics_are_kept():
    encoder = Encoder(
        BackboneWithHead(
            torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)), LinearBody(4, 4)
        )
    )
    backbone, inputs = encoder.body.backbone, torch.randn(5, 4)
    set_training(encoder, keeps_statistics=False, holds_backbone=True)
    encoder(inputs).sum().backward()
    assert all(p.grad is None for p in backbone.parameters())
    assert encoder.body.head.layer.weight.grad is not None
    assert not backbone[1].running_mean.any()
    set_training(encoder, keeps_statistics=True, holds_backbone=False)
    encoder(inputs).sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert not backbone[1].running_mean.any()
    set_training(encoder, keeps_statistics=False, holds_backbone=False)
    encoder(inputs)
    assert backbone[1].running_mean.any()


@pytest.mark.parametrize(
    ("settings", "content", "kind"),
    [
        ({}, "image", "scratch"),
        ({}, "vector", "head"),
        ({"name": "linear"}, "vector", "head"),
        ({"name": "minilm"}, "text", "whole"),
        ({"name": "minilm", "frozen": True}, "text", "head"),
        ({"name": "minilm", "adapter": "lora"}, "text", "lora"),
        ({"name": "st:models/mine"}, "text", "whole"),
        ({"name": "nets:build"}, "image", "own"),
        ({"name": "nets:build", "frozen": True}, "image", "head"),
    ],
)
def test_the_kind_of_an_encoder(settings, content, kind):
    assert kind_of(EncoderConfig(**settings), content) == kind


def test_what_is_set_goes_before_the_recipe():
    config = resolved(TrainConfig(steps=70, weight_decay=0.0), "whole")
    assert config.steps == 70
    assert config.weight_decay == 0
    assert config.learning_rate == RECIPES["whole"].learning_rate
    assert config.val_every == 7
    assert resolved(config, "scratch") == config
    assert recipe_of(TrainConfig()) == RECIPES["scratch"]
    line = recipe_line(config, "whole")
    assert line.startswith("a pretrained network as a whole: 70 steps a round, learning rate")
    assert "validated every 7 steps" in line
    assert "decay" not in line
