"""The embedded pictures: the same at every run, and one class per shape."""

import hashlib
import io
import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from remine.data.config import GlyphConfig
from remine.data.sources import glyphs
from remine.data.sources.glyphs import Glyph, GlyphSource

SMALL_FACES = ("cmb10", "cmr10", "cmss10", "cmtt10")
CONFIG = GlyphConfig(size=24, min_typefaces=3, characters=10)


@pytest.fixture(scope="module")
def everything():
    """Every glyph of every typeface; drawing them takes seconds, so once."""
    return GlyphSource(GlyphConfig())


@pytest.fixture(scope="module")
def few_faces(tmp_path_factory):
    """A folder like matplotlib's: four small typefaces, two of few signs, one to leave out."""
    folder = tmp_path_factory.mktemp("mpl")
    (folder / "fonts" / "ttf").mkdir(parents=True)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (*SMALL_FACES, "DejaVuSansDisplay", "DejaVuSerifDisplay", "cmsy10"):
        (folder / "fonts" / "ttf" / f"{name}.ttf").symlink_to(fonts / f"{name}.ttf")
    return folder


@pytest.fixture
def small(few_faces, monkeypatch):
    """A source of few typefaces with some settings changed."""
    monkeypatch.setattr(glyphs.matplotlib, "get_data_path", lambda: str(few_faces))
    return lambda **changes: GlyphSource(replace(CONFIG, **changes))


def pngs(source: GlyphSource) -> list[bytes]:
    return [png for block in source.blocks(1000) for png in block]


def pixels(source: GlyphSource) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs(source)])


# All typefaces --------------------------------------------------------------------------------


def test_every_class_has_enough_typefaces(everything):
    table = everything.metadata()
    pairs = list(zip(table["label"].to_pylist(), table["group"].to_pylist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    sizes = Counter(label for label, _ in pairs)
    assert min(sizes.values()) >= GlyphConfig().min_typefaces
    assert len(sizes) > 2000


# Latin, Greek and Cyrillic A and O; Greek Omega and the sign for ohm.
@pytest.mark.parametrize("twins", ["A\u0391\u0410", "O\u039f\u041e", "\u03a9\u2126"])
def test_one_class_of_letters_that_look_alike(everything, twins):
    draws = {g.character for g in everything.glyphs}
    assert len(draws & set(twins)) == 1


def test_no_two_classes_have_one_shape(everything):
    faces = defaultdict(set)
    matches = defaultdict(list)
    for g in everything.glyphs:
        faces[g.character].add(g.typeface)
        matches[g.typeface, g.ink.shape, g.ink.tobytes()].append(g.character)
    alike = Counter(pair for group in matches.values() for pair in itertools.combinations(group, 2))
    for (a, b), count in alike.items():
        assert 2 * count < min(len(faces[a]), len(faces[b])), (a, b)


def test_labels_say_code_point_and_name(everything):
    table = everything.metadata()
    assert table["id"].to_pylist() == list(range(len(table)))
    labels = set(table["label"].to_pylist())
    assert {"U+0041 LATIN CAPITAL LETTER A", "U+0037 DIGIT SEVEN"} <= labels
    assert len(labels) == len({g.character for g in everything.glyphs})


def test_typefaces_that_draw_no_letters_are_left_out(everything):
    faces = {g.typeface for g in everything.glyphs}
    peers = ("LastResort", "STIXSiz", "STIXNonUni", "cmex", "cmmi", "cmsy")
    assert not [face for face in faces if face.startswith(peers)]
    assert {"DejaVuSans", "STIXGeneral", "cmr10"} <= faces
    # TeX's text fonts have other signs than Unicode past letters and digits.
    of_tex = {g.character for g in everything.glyphs if g.typeface.startswith("cm")}
    assert of_tex <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


# Settings -------------------------------------------------------------------------------------


def test_same_bytes_again_and_in_another_process(small, few_faces):
    code = (
        "import sys, hashlib, matplotlib\n"
        "matplotlib.get_data_path = lambda: sys.argv[1]\n"
        "from remine.data.config import GlyphConfig\n"
        "from remine.data.sources.glyphs import GlyphSource\n"
        "config = GlyphConfig(\n"
        "    size=24, min_typefaces=3, characters=10, variants=2, jitter=0.5, seed=3\n"
        ")\n"
        "blocks = GlyphSource(config).blocks(7)\n"
        "print(hashlib.sha256(b''.join(b''.join(block) for block in blocks)).hexdigest())\n"
    )
    settings = {"variants": 2, "jitter": 0.5, "seed": 3}
    first = pngs(small(**settings))
    assert pngs(small(**settings)) == first
    second = subprocess.run(
        [sys.executable, "-c", code, str(few_faces)],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert second.stdout.strip() == hashlib.sha256(b"".join(first)).hexdigest()


@pytest.mark.parametrize("size", [8, 24, 100])
def test_pictures_are_dark_on_white_with_a_margin(small, size):
    draws = pixels(small(size=size))
    assert draws.shape[1:] == (size, size)
    assert draws.dtype == np.uint8
    for edge in (draws[:, :2], draws[:, -2:], draws[:, :, :2], draws[:, :, -2:]):
        assert (edge == 255).all()
    assert (draws.min(axis=(1, 2)) < 200).all()


def test_characters_are_counted(small):
    labels = {n: set(small(characters=n).metadata()["label"].to_pylist()) for n in (0, 5, 10)}
    assert len(labels[5]) == 5
    assert len(labels[10]) == 10
    assert len(labels[0]) == 62
    assert labels[5] < labels[10] < labels[0]  # fewer characters are some of the more


def test_variants_multiply_the_items(small):
    one, three = small(jitter=0.3), small(variants=3, jitter=0.3)
    groups = one.metadata().select(["label", "group"]).to_pylist()
    expected = [row for row in groups for _ in range(3)]
    assert three.metadata().select(["label", "group"]).to_pylist() == expected
    draws = pngs(three)
    assert len(draws) == len(expected)
    assert draws[::3] == pngs(one)
    for start in range(0, len(draws), 3):
        assert len(set(draws[start : start + 3])) == 3


def test_jitter_changes_more_the_stronger_it_is(small):
    plain = pixels(small()).astype(int)
    weak, strong = (pixels(small(jitter=jitter)).astype(int) for jitter in (0.1, 1))
    assert 0 < abs(weak - plain).mean() < abs(strong - plain).mean()
    assert (strong.min(axis=(1, 2)) < 200).all()  # it is still in the picture


def test_seed_decides_the_jitter(small):
    assert pngs(small(jitter=0.5, seed=1)) != pngs(small(jitter=0.5, seed=2))
    assert pngs(small(seed=1)) == pngs(small(seed=2))


def test_every_picture_has_a_jitter_of_its_own():
    ink = np.full((12, 5), 255, np.uint8)
    config = GlyphConfig(size=24, jitter=1)
    draws = {
        glyphs._picture(Glyph(character, typeface, ink), variant, config).tobytes()
        for character, typeface, variant in itertools.product("ab", ("cmr10", "cmb10"), (0, 1))
    }
    assert len(draws) == 8


@pytest.mark.parametrize(("least", "kept"), [(2, {2, 4}), (3, {4}), (4, {4}), (5, set())])
def test_min_typefaces_leaves_out_rare_characters(small, least, kept):
    # Letters are in four of these typefaces, a few signs in two.
    source = small(characters=0, min_typefaces=least)
    assert set(Counter(g.character for g in source.glyphs).values()) == kept


def test_blocks_are_as_long_as_asked_for(small):
    source = small()
    blocks = list(source.blocks(7))
    assert {len(block) for block in blocks[:-1]} == {7}
    assert [png for block in blocks for png in block] == pngs(source)
    assert len(pngs(source)) == len(source.metadata())


def test_fingerprint_follows_every_setting(small):
    first = small().fingerprint()
    assert first == small().fingerprint()
    changes = [{"size": 25}, {"jitter": 0.1}, {"seed": 1}, {"characters": 9}, {"min_typefaces": 4}]
    for change in changes:
        assert small(**change).fingerprint() != first


@pytest.mark.parametrize(("same", "twins"), [(4, {"b"}), (2, {"b"}), (1, set())])
def test_alike_in_half_of_the_typefaces_is_one_class(same, twins):
    rng = np.random.default_rng(0)
    output = []
    for face in range(4):
        for character in "ab":
            ink = rng.integers(0, 256, (5, 5), dtype=np.uint8)
            output.append(Glyph(character, str(face), ink))
        if face < same:
            output[-1] = Glyph("b", str(face), output[-2].ink.copy())
    assert glyphs._look_alikes(output, Counter(g.character for g in output)) == twins


def test_ink_of_another_shape_is_not_alike():
    row = np.full((1, 4), 255, np.uint8)
    output = [Glyph("-", "face", row), Glyph("|", "face", row.T.copy())]
    assert not glyphs._look_alikes(output, Counter("-|"))


def test_glyphs_are_a_source_as_any_other(lay_down, small):
    layout = lay_down("glyphs", glyphs=replace(CONFIG, characters=12))
    source = small(characters=12)
    assert layout.labels == source.metadata()["label"].to_pylist()
    np.testing.assert_array_equal(layout.contents[:, 0], pixels(source))
    assert layout.catalogue.test_classes_seen() == 0
