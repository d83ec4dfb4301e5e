"""Encoders of the user's own: found, called, checked, and known by their source."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from remine.data.errors import InputError, StoreError
from remine.data.items.inputs import ImageTransform, omission_lines, vector_transform
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.custom import CustomTransform, load_custom
from remine.train.encoders.design import (
    Design,
    build_backbone,
    build_trainable,
    design,
    full_encoder,
    input_transform,
)

PICTURE = ImageTransform()
NETS = """
import numpy as np
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))

def both():
    return build(), lambda contents: np.stack([np.asarray(c, np.float32)[:3] for c in contents])

def flat():
    return nn.Flatten(0)

def counts():
    return nn.Identity()

def fails():
    raise RuntimeError("no such\\nweights")

def number():
    return 3

wrong = 7
"""


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def design_of(base, name="nets:build", **settings: object):
    config = EncoderConfig(name=name, **settings)
    return design(config, "vector", (12,), "float32", base)


def test_a_module_of_the_users_becomes_an_encoder(nets):
    encoder_design = design_of(nets)
    assert encoder_design.backbone["dimensions"] == 5
    encoder = build_trainable(encoder_design, nets, seed=3).eval()
    out = encoder(torch.randn(4, 12))
    assert out.shape == (4, 5)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(4))


def test_the_seed_decides_fresh_weights_and_not_frozen_ones(nets):
    before = torch.random.get_rng_state()
    first, repetition, other_seed = (
        build_trainable(design_of(nets), nets, seed).body[1].weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, repetition)
    assert not torch.equal(first, other_seed)
    frozen_design = design_of(nets, frozen=True)
    first, other_seed = (build_backbone(frozen_design, nets, seed)[1].weight for seed in (3, 4))
    assert torch.equal(first, other_seed)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_package_in_a_folder_and_an_installed_module_are_found(tmp_path):
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "nets.py").write_text(NETS)
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").write_text(NETS)
    (tmp_path / "whole" / "part.py").write_text("x = 1")
    hashes = {
        design_of(tmp_path, name).backbone["source"] for name in ("my.nets:build", "whole:build")
    }
    (tmp_path / "whole" / "part.py").write_text("x = 2")
    hashes.add(design_of(tmp_path, "whole:build").backbone["source"])
    assert len(hashes) == 3
    assert load_custom("torch.nn:Identity", tmp_path).source


def test_a_file_of_our_name_does_not_take_our_place(tmp_path):
    (tmp_path / "train.py").write_text(NETS)
    assert design_of(tmp_path, "train:build").backbone["dimensions"] == 5
    module = sys.modules.get("train")
    assert module is None or module.__file__ != str(tmp_path / "train.py")


def test_changed_source_is_another_design_and_a_checkpoint_of_the_old_is_refused(nets):
    old = design_of(nets)
    (nets / "nets.py").write_text(NETS + "# a word\n")
    assert design_of(nets) != old
    with pytest.raises(StoreError, match="its source is not the one of the checkpoint"):
        build_trainable(old, nets)


def test_frozen_weights_that_change_by_themselves_are_refused(nets):
    text = NETS.replace("nn.Linear(12, 5)", "nn.Linear(12, 5, bias=STATE.pop() > 1)")
    (nets / "nets.py").write_text("STATE = [2, 1, 2]\n" + text)
    encoder_design = design_of(nets, frozen=True)
    with pytest.raises(StoreError, match="its weights are not those of the checkpoint"):
        build_backbone(encoder_design, nets)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nots:build", "there is neither .*nots.py nor an installed module nots$"),
        ("nets:nothing", "nets.py has no nothing$"),
        ("nets:wrong", "wrong is not a function$"),
        ("nets:fails", "the function fails: RuntimeError: no such$"),
        ("nets:number", r"returns int; it must return a torch module, or \(module, transform\)$"),
        ("nets:flat", r"makes torch.float32 \(24,\) of 2 items; it must make \(2, d\)"),
        ("broken:build", "importing .*broken.py fails: ModuleNotFoundError: No module named"),
        ("torch.nothing:x", "nor an installed module torch.nothing$"),
    ],
)
def test_what_is_wrong_is_one_line(nets, name, message):
    (nets / "broken.py").write_text("import surely_not_there")
    with pytest.raises(InputError, match=message) as refusal:
        design_of(nets, name)
    assert str(refusal.value).startswith("encoder.name ")
    assert "\n" not in str(refusal.value)


def test_whole_numbers_are_no_embedding(nets):
    config = EncoderConfig(name="nets:counts")
    with pytest.raises(InputError, match=r"makes torch.int64 \(2, 12\) of 2 items"):
        design(config, "text", (12,), "int64", nets)
    with pytest.raises(InputError, match=r"the module fails on inputs of float32 \(2, 9\): "):
        design(EncoderConfig(name="nets:build"), "vector", (9,), "float32", nets)


def test_the_transform_sees_decoded_pictures_texts_and_vectors(nets, tmp_path):
    blocks = []

    def keep(contents: list) -> np.ndarray:
        blocks.append(contents)
        return np.zeros((len(contents), 3))

    Image.new("RGBA", (4, 6)).save(tmp_path / "clear.png")
    block = CustomTransform(name="a:b", content="path", transform=keep)(
        [tmp_path / "clear.png"], str
    )
    assert block.dtype == np.float32
    ((picture,),) = blocks
    assert (picture.mode, picture.size) == ("RGB", (4, 6))
    Image.new("1", (4, 6)).save(tmp_path / "film.gif", save_all=True, append_images=[picture])
    transform = CustomTransform(name="a:b", content="path", transform=keep)
    transform([tmp_path / "film.gif", tmp_path / "clear.png"], str)
    assert {picture.mode for picture in blocks[-1]} <= {"L", "RGB"}
    assert omission_lines(transform) == [
        "1 of 2 pictures: several frames or pages, of which only the first is read"
    ]
    CustomTransform(name="a:b", content="text", transform=keep)(["a", "b"], str)
    assert blocks[-1] == ["a", "b"]
    vectors = input_transform(EncoderConfig(name="nets:both"), "vector", nets, PICTURE)(
        np.eye(4), str
    )
    np.testing.assert_array_equal(vectors, np.eye(4, 3))
    config = EncoderConfig(name="nets:build")
    assert input_transform(config, "vector", nets, PICTURE) is vector_transform


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            np.zeros((1, 3), np.float32),
            r"makes float32 \(1, 3\) of 2 items; it must make \(2, ...\)",
        ),
        (np.zeros(2, np.float32), r"makes float32 \(2,\) of 2 items"),
        (np.zeros((2, 3), np.complex64), "makes complex64"),
        ([[1], [1, 2]], "its transform fails on row 0 and the 1 after it: ValueError"),
    ],
)
def test_a_transform_that_makes_something_else_is_refused(result, message):
    transform = CustomTransform(name="a:b", content="text", transform=lambda _contents: result)
    with pytest.raises(InputError, match=message):
        transform(["a", "b"], lambda row: f"row {row}")


@pytest.mark.parametrize("head", ["auto", "mlp"])
@pytest.mark.parametrize("dimensions", [0, 3])
def test_of_a_frozen_network_the_head_alone_is_trained_and_starts_by_changing_nothing(
    nets, head, dimensions
):
    encoder_design = design_of(nets, frozen=True, head=head, dimensions=dimensions)
    trained_head = build_trainable(encoder_design, nets, seed=1)
    assert all("backbone" not in name for name in trained_head.state_dict())
    encoder = full_encoder(trained_head, encoder_design, nets)
    inputs = torch.randn(6, 12)
    features = build_backbone(encoder_design, nets)(inputs)
    torch.testing.assert_close(encoder(inputs), trained_head(features))
    if not dimensions:
        torch.testing.assert_close(
            trained_head(features), torch.nn.functional.normalize(features), atol=1e-6, rtol=0
        )
    trained_head(features)[:, 0].sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in trained_head.parameters()) > 0


def test_designs_are_written_and_read_back(nets):
    for encoder_design in (
        design_of(nets, frozen=True, head="mlp", dimensions=4),
        design(EncoderConfig(width=8), "image", (1, 8, 8), "uint8", nets),
    ):
        assert Design.from_json(encoder_design.to_json()).to_json() == encoder_design.to_json()
    assert Design.from_json(design_of(nets).to_json()) == design_of(nets)
    # Checkpoints from before there was more than this stay valid.
    old = {"name": "auto", "dimensions": 0, "width": 8, "content": "image", "shape": [1, 8, 8]}
    assert encoder_design.to_json() == old


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet"}, "must be one of auto, conv, .* or module:function$"),
        ({"name": "a-b:c"}, "must be one of auto"),
        ({"name": "a:b:c"}, "must be one of auto"),
        ({"frozen": True}, "frozen is true, but 'auto' is trained from scratch"),
        ({"name": "conv", "head": "mlp"}, "head is 'mlp', but 'conv' is trained from scratch"),
        ({"name": "minilm", "head": "deep"}, "head is 'deep'; it must be one of auto, linear, mlp"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(InputError, match=message):
        EncoderConfig(**settings)
