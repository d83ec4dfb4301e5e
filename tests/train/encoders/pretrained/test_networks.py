"""Networks of other libraries give what their libraries give, and are known by their files."""

import shutil
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from remine.data.config import DataConfig
from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import ImageTransform, omission_lines, without_padding
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.design import (
    Design,
    build_backbone,
    build_trainable,
    design,
    input_transform,
    picture_transform,
    transform_key,
)

TEXTS = ["i lost my card", "a card", "my my my a", "card i a card : lost my card a a a a a a a"]


def text_design(name, base=Path(), **settings: object):
    config = EncoderConfig(name=str(name), **settings)
    transform = input_transform(config, "text", base, ImageTransform())
    tokens = transform(TEXTS, str)
    return design(config, "text", tokens.shape[1:], "int32", base), tokens, transform


def embedded(name, base=Path(), **settings: object):
    encoder_design, tokens, _ = text_design(name, base, **settings)
    with torch.inference_mode():
        return build_trainable(encoder_design, base).eval()(torch.from_numpy(tokens)).numpy()


def sentence_library(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def test_a_sentence_model_gives_what_its_library_gives(sentence_folder):
    expected = sentence_library(sentence_folder).encode(TEXTS, normalize_embeddings=True)
    vectors = embedded(f"st:{sentence_folder}")
    assert vectors.shape == (4, 8)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    # A path starts at the config's folder.
    relative = embedded(f"st:{sentence_folder.name}", sentence_folder.parent)
    np.testing.assert_array_equal(relative, vectors)


@pytest.mark.parametrize("prompt", ["query", "a : "])
def test_a_prompt_is_one_of_the_models_or_a_text(sentence_folder, prompt):
    model = sentence_library(sentence_folder)
    text = "query: " if prompt == "query" else prompt
    expected = model.encode(TEXTS, prompt=text, normalize_embeddings=True)
    vectors = embedded(f"st:{sentence_folder}", prompt=prompt)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert np.abs(vectors - embedded(f"st:{sentence_folder}")).max() > 0.01


def test_texts_are_cut_at_the_models_limit_or_below_it_and_counted(sentence_folder):
    _, tokens, transform = text_design(f"st:{sentence_folder}")
    assert tokens.shape == (4, 12)
    assert omission_lines(transform) == ["1 of 4 texts: cut to their first 12 tokens"]
    _, tokens, transform = text_design(f"st:{sentence_folder}", max_tokens=8)
    assert tokens.shape == (4, 8)
    assert omission_lines(transform) == ["1 of 4 texts: cut to their first 8 tokens"]
    with pytest.raises(InputError, match=r"^encoder.max_tokens is 99; .* at most 12 tokens"):
        text_design(f"st:{sentence_folder}", max_tokens=99)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_model_of_transformers_is_pooled_without_its_padding(bert_folder, pooling):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(bert_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    vectors = embedded(f"hf:{bert_folder}", pooling=pooling)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0]
        expected = states.mean(dim=0) if pooling == "mean" else states[0]
        np.testing.assert_allclose(vector, functional.normalize(expected, dim=0), atol=1e-5)


def test_stored_rows_are_cut_to_the_longest_and_mean_the_same(bert_folder):
    encoder_design, tokens, transform = text_design(f"hf:{bert_folder}")
    short = without_padding(tokens[:3], transform)
    assert short.shape == (3, 6)
    encoder = build_trainable(encoder_design, Path()).eval()
    with torch.inference_mode():
        complete, cut = (encoder(torch.from_numpy(rows)) for rows in (tokens[:3], short))
    assert torch.equal(complete, cut)


def test_a_token_of_number_zero_is_read(bert_folder):
    _, tokens, _ = text_design(f"hf:{bert_folder}")
    transform = text_design(f"hf:{bert_folder}")[2]
    rows = transform(["a [PAD] a"], str)[0]
    assert rows[:6].tolist() == [3, 11, 1, 11, 4, 0]  # number + 1, then padding
    assert tokens.min() == 0


def test_pictures_get_the_size_and_the_normalisation_that_the_model_asks_for(vit_folder):
    from transformers import AutoModel

    config = EncoderConfig(name=f"hf:{vit_folder}")
    transform = picture_transform(config, "image", Path(), DataConfig())
    assert (transform.size, transform.channels) == ((24, 24), 3)
    assert transform.fit == "stretch"  # the preprocessor names both sides, and no crop
    other = picture_transform(config, "image", Path(), DataConfig(image_size=32, fit="pad"))
    assert (other.size, other.fit) == ((32, 32), "pad")
    pixels = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    encoder_design = design(config, "image", (3, 24, 24), "uint8", Path())
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    model = AutoModel.from_pretrained(vit_folder).eval()
    with torch.inference_mode():
        vectors = build_trainable(encoder_design, Path()).eval()(pixels)
        expected = model(pixel_values=(pixels / 255 - mean) / deviation).pooler_output
    torch.testing.assert_close(vectors, functional.normalize(expected), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match=r"which does not read items of text$"):
        design(config, "text", (8,), "int32", Path())


def test_a_model_is_known_by_its_files_and_not_by_its_place(sentence_folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(sentence_folder, copy)
    here, there = (text_design(f"st:{folder}")[0] for folder in (sentence_folder, copy))
    assert here.identity == there.identity
    assert Design.from_json(here.to_json()) == here
    assert transform_key(here.config, Path()) == transform_key(there.config, Path())
    config = copy / "1_Pooling" / "config.json"
    config.write_text(config.read_text().replace('"cls"', '"mean"'))
    changed = text_design(f"st:{copy}")[0]
    assert changed.identity != here.identity
    with pytest.raises(StoreError, match="its files are not those of the checkpoint"):
        build_backbone(there, Path())


def test_training_is_without_dropout_and_moves_every_weight(sentence_folder):
    encoder_design, tokens, _ = text_design(f"st:{sentence_folder}")
    encoder = build_trainable(encoder_design, Path()).train()
    first, repetition = (encoder(torch.from_numpy(tokens)) for _ in range(2))
    assert torch.equal(first, repetition)
    first[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("st:./nowhere", r"^encoder.name is 'st:./nowhere', and .*nowhere is not a folder$"),
        (
            "hf:owner/model",
            r"no folder, and from the hub it cannot be had \(HF_HUB_OFFLINE is set\)",
        ),
        ("st:model", r"give the path of a folder, or run it once where there is a network$"),
        ("hf:empty", r"^encoder.name is 'hf:empty', which does not load: "),
        ("st:empty", r"^encoder.name is 'st:empty', which does not load: "),
    ],
)
def test_a_model_that_is_not_there_is_one_line_at_once(name, message, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "nothing"}')
    start = time.monotonic()
    with pytest.raises(InputError, match=message) as refusal:
        text_design(name, tmp_path)
    assert "\n" not in str(refusal.value)
    assert time.monotonic() - start < 20


class Net(nn.Module):
    """A network of a library that is not installed here."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop, self.fc = nn.Conv2d(3, 5, 3), nn.Dropout(0.5), nn.Linear(5, 7)

    def forward(self, x):
        return self.fc(self.drop(self.conv(x).mean(dim=(2, 3))))


class ClipNet(nn.Module):
    """Two towers."""

    context_length = 6

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.words = Net(), nn.Embedding(9, 4)

    def encode_image(self, x):
        return self.picture(x)

    def encode_text(self, numbers):
        assert numbers.shape[1] == self.context_length
        return self.words(numbers).sum(dim=1)


@pytest.fixture
def libraries(monkeypatch):
    """Stand-ins for timm, torchvision and open_clip with the functions that remine calls."""

    def seeded(make):
        torch.manual_seed(3)
        return make()

    def timm_model(name, *, pretrained, num_classes):
        assert (name, pretrained, num_classes) == ("small", True, 0)
        network = seeded(Net)
        network.fc = nn.Identity()
        return network

    recipe = {"input_size": (3, 20, 20), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    data = types.SimpleNamespace(resolve_model_data_config=lambda _network: recipe)
    transforms = types.SimpleNamespace(crop_size=[20], mean=[0.5] * 3, std=[0.25] * 3)
    weights = types.SimpleNamespace(transforms=lambda: transforms)
    vision = types.SimpleNamespace(
        get_model_weights=lambda _name: types.SimpleNamespace(DEFAULT=weights),
        get_model=lambda _name, weights: seeded(Net) if weights else None,
    )

    def tokenizer(texts):
        rows = [[8, *map(len, text.split()), 7][:6] for text in texts]
        return torch.tensor([row + [0] * (6 - len(row)) for row in rows])

    clip = types.SimpleNamespace(
        create_model=lambda _name, pretrained: seeded(ClipNet) if pretrained else None,
        get_model_preprocess_cfg=lambda _network: {
            "size": (20, 20),
            "mean": (0.5,) * 3,
            "std": (0.25,) * 3,
        },
        get_tokenizer=lambda _name: tokenizer,
    )
    modules = {
        "timm": types.SimpleNamespace(create_model=timm_model),
        "timm.data": data,
        "torchvision": types.ModuleType("torchvision"),
        "torchvision.models": vision,
        "open_clip": clip,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("name", "d"), [("timm:small", 5), ("torchvision:small", 5)])
def test_picture_libraries_give_features_of_normalised_pictures(name, d):
    config = EncoderConfig(name=name)
    transform = picture_transform(config, "path", Path(), DataConfig())
    assert (transform.size, transform.fit) == ((20, 20), "crop")
    pixels = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)
    encoder_design = design(config, "path", (3, 20, 20), "uint8", Path())
    assert encoder_design.backbone["dimensions"] == d
    torch.manual_seed(3)
    expected = Net().conv((pixels / 255 - 0.5) / 0.25).mean(dim=(2, 3))
    vectors = build_trainable(encoder_design, Path())(pixels)
    torch.testing.assert_close(vectors, functional.normalize(expected), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("libraries")
def test_open_clip_reads_pictures_and_texts():
    config = EncoderConfig(name="open_clip:ViT/laion")
    pixels = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    encoder_design = design(config, "image", (3, 20, 20), "uint8", Path())
    assert build_trainable(encoder_design, Path())(pixels).shape == (2, 7)
    vectors = embedded("open_clip:ViT/laion")
    torch.manual_seed(3)
    words = ClipNet().words.weight
    sums = words[8] + words[1] + words[4] + words[7] + 2 * words[0]
    np.testing.assert_allclose(vectors[1], functional.normalize(sums, dim=0).detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "library", "install"),
    [
        ("timm:x", "timm", "timm"),
        ("torchvision:x", "torchvision", "torchvision"),
        ("open_clip:x/y", "open_clip", "open_clip_torch"),
    ],
)
def test_a_library_that_is_not_installed_is_named(monkeypatch, name, library, install):
    monkeypatch.delitem(sys.modules, library, raising=False)
    monkeypatch.setattr(sys, "path", [])
    message = f"^encoder.name is '{name}', and {library} is not installed: pip install {install}$"
    with pytest.raises(InputError, match=message):
        design(EncoderConfig(name=name), "image", (3, 20, 20), "uint8", Path())


def test_settings_that_a_network_does_not_read_are_refused():
    for settings, message in (
        ({"name": "timm:x", "prompt": "a"}, "encoder.prompt is 'a', which 'timm:x' does not read"),
        ({"name": "conv", "adapter": "lora"}, "encoder.adapter is 'lora', which 'conv' does not"),
        ({"name": "minilm", "pooling": "cls"}, "encoder.pooling is 'cls'"),
        ({"name": "minilm", "frozen": True, "adapter": "lora"}, "which 'minilm', frozen does not"),
        ({"name": "st:"}, "must be one of auto, conv"),
    ):
        with pytest.raises(InputError, match=message):
            EncoderConfig(**settings)
