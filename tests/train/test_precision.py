"""bfloat16: chosen by what the hardware says, inside the encoder alone."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remine.data.errors import InputError
from remine.train.config import TrainConfig
from remine.train.course import Course
from remine.train.precision import uses_bf16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_auto_is_what_the_processor_says(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert uses_bf16("auto", CPU) is fast
    assert uses_bf16("bf16", CPU) is True
    assert uses_bf16("fp32", CPU) is False


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_is_what_the_gpu_says(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: fast)
    assert uses_bf16("auto", GPU) is fast
    if not fast:
        with pytest.raises(InputError, match='which this GPU does not have: take "auto"'):
            uses_bf16("bf16", GPU)


def test_an_unknown_precision_is_refused():
    with pytest.raises(
        InputError, match=r"train.precision is 'fp16'; it must be one of fp32, bf16, auto"
    ):
        TrainConfig(precision="fp16")


def test_a_round_in_bfloat16_is_near_and_its_losses_and_weights_are_float32(tmp_path):
    spec = importlib.util.spec_from_file_location("rounds", Path(__file__).parent / "rounds.py")
    rounds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rounds)
    rounds.lay_down(tmp_path, "image")
    config = rounds.CONFIGS["triplets"]
    plain = rounds.training(tmp_path, "plain", "image", config)
    half = replace(rounds.training(tmp_path, "half", "image", config), bf16=True)
    inside = []
    half.encoder.body.register_forward_hook(lambda _m, _i, out: inside.append(out.dtype))
    inputs = torch.from_numpy(half.inputs[np.arange(7)])
    features = Course(half, config)._embed(inputs, 1, 0, count=1).features
    assert inside[0] == torch.bfloat16
    assert features.dtype == torch.float32
    plain_history, half_history = (
        plain.run(config, lambda *_: None),
        half.run(config, lambda *_: None),
    )
    assert half_history != plain_history
    assert half_history.loss[:3] == pytest.approx(plain_history.loss[:3], abs=0.02)
    assert {p.dtype for p in half.encoder.parameters()} == {torch.float32}
