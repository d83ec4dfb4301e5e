"""LoRA: at first the backbone itself, then only the adapter changes, is saved and is merged."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from remine.data.errors import InputError, StoreError
from remine.train.checkpoint import encoder_bytes, load_encoder
from remine.train.encoders.adapter import (
    add_adapter,
    enable_gradient_checkpointing,
    merge_adapters,
    trainable_share,
)
from remine.train.encoders.config import EncoderConfig, LoraConfig
from remine.train.encoders.design import Design, build_trainable, design
from remine.train.encoders.layers import layer_groups

NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(4)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()) for _ in range(3)]
    return nn.Sequential(*blocks)
"""


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def design_of(base, **settings: object):
    config = EncoderConfig(name="nets:build", **settings)
    return design(config, "vector", (8,), "float32", base)


def adapted(base, seed=1, **settings: object):
    return build_trainable(design_of(base, adapter="lora", **settings), base, seed)


def trained(encoder, steps=3):
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.5)
    encoder.train()
    for step in range(steps):
        torch.manual_seed(step)
        loss = encoder(torch.randn(6, 8))[:, 0].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder.eval()


def test_it_begins_as_the_backbone_and_only_the_adapter_moves(nets):
    rows = torch.randn(5, 8)
    plain = build_trainable(design_of(nets), nets).eval()
    encoder = adapted(nets).eval()
    torch.testing.assert_close(encoder(rows), plain(rows))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    trained(encoder)
    assert (encoder(rows) - plain(rows)).abs().max() > 0.01
    moved = {n for n, t in encoder.state_dict().items() if not torch.equal(t, before[n])}
    assert moved
    assert all("lora_" in name for name in moved)  # and no batch statistics either


def test_the_seed_decides_the_adapter(nets):
    first, repetition, other = (encoder_bytes(adapted(nets, seed)) for seed in (3, 3, 4))
    assert first == repetition
    assert first != other


def test_a_checkpoint_holds_the_adapter_and_the_head_alone(nets, tmp_path):
    rows = torch.randn(5, 8)
    encoder = trained(adapted(nets, dimensions=4, lora=LoraConfig(rank=2)))
    (tmp_path / "weights").write_bytes(encoder_bytes(encoder))
    from safetensors.torch import load_file

    names = load_file(tmp_path / "weights")
    assert sum(t.numel() for t in names.values()) == 3 * (2 * 8 + 8 * 2) + 4 * 8
    again = adapted(nets, seed=9, dimensions=4, lora=LoraConfig(rank=2))
    load_encoder(again, tmp_path / "weights")
    torch.testing.assert_close(again.eval()(rows), encoder(rows))
    with pytest.raises(StoreError, match="holds the weights of another encoder"):
        load_encoder(adapted(nets, dimensions=4, lora=LoraConfig(rank=3)), tmp_path / "weights")
    trained_count, count = trainable_share(encoder)
    assert (trained_count, count) == (128, 128 + 3 * (72 + 16))
    assert [len(group) for group in layer_groups(encoder)] == [1, 2, 2, 2]


def test_merging_changes_nothing_but_the_names(nets):
    rows = torch.randn(5, 8)
    encoder = trained(adapted(nets, dimensions=4))
    expected = encoder(rows)
    merge_adapters(encoder)
    torch.testing.assert_close(encoder.eval()(rows), expected)
    assert not [name for name in encoder.state_dict() if "lora_" in name]


def test_settings_of_the_adapter_are_part_of_the_design(nets):
    first = design_of(nets, adapter="lora", lora=LoraConfig(rank=2, targets=("0",)))
    assert Design.from_json(first.to_json()) == first
    assert set(first.backbone) == {"dimensions", "source", "weights"}
    other = design_of(nets, adapter="lora", lora=LoraConfig(rank=3, targets=("0",)))
    assert other.identity != first.identity


def test_convolutions_get_it_where_no_layer_is_linear():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten())
    names = [n for n, _ in add_adapter(network, LoraConfig(rank=2)).named_parameters()]
    assert {name.split(".")[1] for name in names if "lora_" in name} == {"0"}


@pytest.mark.parametrize(
    ("targets", "message"),
    [((), "has no linear layer and no convolution"), (("query",), "encoder.lora.targets is")],
)
def test_a_network_without_such_layers_is_refused(targets, message):
    with pytest.raises(InputError, match=message):
        add_adapter(nn.Sequential(nn.Embedding(3, 4)), LoraConfig(targets=targets))


def test_a_missing_library_is_said_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"peft is not installed: pip install peft$"):
        add_adapter(nn.Linear(3, 3), LoraConfig())


def test_gradient_checkpointing_gives_the_same_gradients_or_is_refused():
    config = EncoderConfig(name="minilm", gradient_checkpointing=True)
    encoder_design = design(config, "text", (256,), "int32", Path())
    assert "gradient_checkpointing" not in encoder_design.to_json()
    tokens = torch.tensor([[101, 7592, 2088, 102], [101, 7592, 102, 0]], dtype=torch.int32)
    gradients = []
    for is_on in (False, True):
        encoder = build_trainable(encoder_design, Path()).train()
        if is_on:
            enable_gradient_checkpointing(encoder, "minilm")
            layer = encoder.body.network.transformer.encoder.layer[0]
            assert layer.gradient_checkpointing
        encoder(tokens)[:, 0].sum().backward()
        gradients.append(encoder.body.network.transformer.embeddings.LayerNorm.weight.grad)
    torch.testing.assert_close(*gradients)
    with pytest.raises(InputError, match="which 'nets:build' does not offer: remove it"):
        enable_gradient_checkpointing(nn.Linear(2, 2), "nets:build")
