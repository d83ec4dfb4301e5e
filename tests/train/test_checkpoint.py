"""Checkpoints: the same values give the same bytes, and come back as they were."""

import pytest
import safetensors.torch
import torch

from remine.data.errors import StoreError
from remine.train.checkpoint import encoder_bytes, load_encoder, load_optimizer, optimizer_bytes
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder
from remine.train.optimization.groups import make_optimizer

SHAPE = (1, 12, 12)


def conv(seed=0, width=8, dimensions=6):
    return build_encoder(EncoderConfig(width=width, dimensions=dimensions), "image", SHAPE, seed)


def stepped(seed=0, steps=3):
    """An encoder and its optimizer after some steps."""
    encoder = conv(seed)
    optimizer = make_optimizer(encoder, TrainConfig(learning_rate=0.01))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        pictures = torch.randint(0, 256, (8, *SHAPE), generator=generator, dtype=torch.uint8)
        optimizer.zero_grad()
        encoder(pictures)[:, 0].sum().backward()
        optimizer.step()
    return encoder, optimizer


def test_the_same_values_give_the_same_bytes():
    first, second = stepped(), stepped()
    assert encoder_bytes(first[0]) == encoder_bytes(first[0]) == encoder_bytes(second[0])
    assert optimizer_bytes(first[1]) == optimizer_bytes(first[1]) == optimizer_bytes(second[1])


def test_other_values_give_other_bytes():
    assert encoder_bytes(conv(0)) != encoder_bytes(conv(1))
    assert optimizer_bytes(stepped(steps=2)[1]) != optimizer_bytes(stepped(steps=3)[1])


def test_the_bytes_are_safetensors_of_all_weights_and_buffers():
    encoder, optimizer = stepped()
    tensors = safetensors.torch.load(encoder_bytes(encoder))
    assert tensors.keys() == encoder.state_dict().keys()
    assert any(name.endswith("running_mean") for name in tensors)
    for name, value in encoder.state_dict().items():
        assert torch.equal(tensors[name], value)
    parameters = len(list(encoder.parameters()))
    assert safetensors.torch.load(optimizer_bytes(optimizer)).keys() == {
        f"{number}.{name}"
        for number in range(parameters)
        for name in ("step", "exp_avg", "exp_avg_sq")
    }


def test_an_encoder_comes_back_as_it_was(tmp_path):
    encoder, _ = stepped()
    (tmp_path / "encoder").write_bytes(encoder_bytes(encoder))
    encoder_copy = conv(seed=9)
    load_encoder(encoder_copy, tmp_path / "encoder")
    assert encoder_bytes(encoder_copy) == encoder_bytes(encoder)
    pictures = torch.arange(2 * 144).reshape(2, *SHAPE).to(torch.uint8)
    assert torch.equal(encoder_copy.eval()(pictures), encoder.eval()(pictures))


def test_loading_keeps_the_layout_of_the_weights(tmp_path):
    # Channels-last weights are half of the speed.
    (tmp_path / "encoder").write_bytes(encoder_bytes(conv()))
    encoder_copy = conv(seed=1)
    load_encoder(encoder_copy, tmp_path / "encoder")
    kernels = [weight for weight in encoder_copy.parameters() if weight.dim() == 4]
    assert len(kernels) > 1
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_an_optimizer_comes_back_with_its_state_and_keeps_its_settings(tmp_path):
    encoder, optimizer = stepped()
    (tmp_path / "optimizer").write_bytes(optimizer_bytes(optimizer))
    fresh = make_optimizer(encoder, TrainConfig(learning_rate=0.5))
    load_optimizer(fresh, tmp_path / "optimizer")
    assert optimizer_bytes(fresh) == optimizer_bytes(optimizer)
    assert fresh.param_groups[0]["lr"] == 0.5
    assert fresh.state[next(encoder.parameters())]["step"] == 3


def test_a_state_of_other_shapes_is_left_out():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3, 2))])
    optimizer.param_groups[0]["params"][0].sum().backward()
    optimizer.step()
    for shape in ((2, 2), (3, 2)):
        other = torch.optim.Adam([torch.nn.Parameter(torch.ones(shape))])
        load_optimizer(other, optimizer_bytes(optimizer))
        assert bool(other.state) is (shape == (3, 2))


def test_an_optimizer_that_never_stepped_has_nothing_to_save(tmp_path):
    encoder = conv()
    optimizer = make_optimizer(encoder, TrainConfig())
    (tmp_path / "optimizer").write_bytes(optimizer_bytes(optimizer))
    load_optimizer(optimizer, tmp_path / "optimizer")
    assert not optimizer.state


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (conv(width=16), "size mismatch for body.layers"),
        (conv(dimensions=7), "size mismatch for body.layers"),
        (build_encoder(EncoderConfig(), "vector", (12,)), "body.layer.weight"),
    ],
    ids=["wider", "more dimensions", "linear"],
)
def test_another_architecture_is_refused(tmp_path, network, reason):
    path = tmp_path / "encoder"
    path.write_bytes(encoder_bytes(network))
    with pytest.raises(StoreError, match="holds the weights of another encoder") as refusal:
        load_encoder(conv(), path)
    message = str(refusal.value)
    assert message.startswith(str(path))
    assert reason in message
    assert "\n" not in message
