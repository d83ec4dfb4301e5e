"""The embedded data set: every character that matplotlib's typefaces draw, as small pictures.

class = character, instance = typeface (times jittered variants), so the task is real retrieval: the
same character in another hand. No download; the same generator makes a thousand items or a million.
"""

import hashlib
import io
import itertools
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import pyarrow as pa
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from remine.data.config import GlyphConfig

# LastResort draws boxes, the sized and private-use STIX fonts draw parts of signs, and TeX's own
# encodings put other signs at a code point than Unicode does (in its text fonts: only past ASCII).
LEFT_OUT = ("LastResort", "STIXSiz", "STIXNonUni", "cmex", "cmmi", "cmsy")
TEX_TEXT = frozenset(map(ord, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"))


@dataclass(frozen=True)
class Glyph:
    """One character as one typeface draws it: ink (h, w) uint8, 0 = paper, 255 = full ink."""

    character: str
    typeface: str
    ink: np.ndarray


class GlyphSource:
    """The glyphs as a source of items (see data.sources)."""

    content = "image"
    root = Path()
    numbered = False

    def __init__(self, config: GlyphConfig) -> None:
        """Draw nothing yet."""
        self.config = config

    def fingerprint(self) -> object:
        """What decides the pictures: the settings and the versions of what draws them."""
        return ["glyphs", vars(self.config), matplotlib.__version__, PIL.__version__]

    def where(self, row: int) -> str:
        """A name for `row` in messages."""
        return f"glyph {row}"

    @cached_property
    def glyphs(self) -> list[Glyph]:
        """Every glyph once, by character, then typeface."""
        return _chosen(_draw_all(self.config), self.config)

    def metadata(self) -> pa.Table:
        """id, label (code point and name), group (typeface) of each item."""
        v = self.config.variants
        labels = [_name(g.character) for g in self.glyphs for _ in range(v)]
        groups = [g.typeface for g in self.glyphs for _ in range(v)]
        return pa.table({"id": np.arange(len(labels)), "label": labels, "group": groups})

    def blocks(self, rows: int) -> Iterator[list[bytes]]:
        """PNG pictures, `rows` at a time."""
        pictures = (
            _png(_picture(glyph, variant, self.config))
            for glyph in self.glyphs
            for variant in range(self.config.variants)
        )
        while block := list(itertools.islice(pictures, rows)):
            yield block


def _draw_all(config: GlyphConfig) -> list[Glyph]:
    """Every character of every usable typeface that leaves ink."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pixels = round(config.size * 0.7)
    glyphs = []
    for path in sorted(fonts.glob("*.ttf")):
        if path.name.startswith(LEFT_OUT):
            continue
        with TTFont(path, lazy=True) as file:
            codes = set(file.getBestCmap())
        font = ImageFont.truetype(path, pixels)
        characters = map(chr, sorted(codes & TEX_TEXT if path.name.startswith("cm") else codes))
        inks = ((character, _ink(character, font)) for character in characters)
        glyphs += [Glyph(c, path.stem, ink) for c, ink in inks if ink is not None]
    return glyphs


def _ink(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray | None:
    """The character's ink cropped to its box; None when it has none."""
    left, top, right, bottom = font.getbbox(character)
    if right - left < 1 or bottom - top < 1 or not unicodedata.name(character, ""):
        return None
    image = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), character, font=font, fill=255)
    box = image.getbbox()
    return None if box is None else np.asarray(image.crop(box))


def _chosen(glyphs: list[Glyph], config: GlyphConfig) -> list[Glyph]:
    """The glyphs of characters in enough typefaces, one character per shape (not A and Alpha)."""
    drawn = Counter(g.character for g in glyphs)
    kept = [g for g in glyphs if drawn[g.character] >= config.min_typefaces]
    twins = _look_alikes(kept, drawn)
    names = sorted({g.character for g in kept} - twins)
    if config.characters:
        # A spread over all scripts, and the same one at every run.
        names = sorted(sorted(names, key=_hash)[: config.characters])
    chosen = set(names)
    return sorted(
        (g for g in kept if g.character in chosen), key=lambda g: (g.character, g.typeface)
    )


def _look_alikes(glyphs: list[Glyph], drawn: Counter[str]) -> set[str]:
    """Characters that at least half of their typefaces draw exactly as an earlier character."""
    same: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    for g in glyphs:
        same[g.typeface, bytes(str(g.ink.shape), "ascii") + g.ink.tobytes()].append(g.character)
    together: Counter[tuple[str, str]] = Counter()
    for characters in same.values():
        together.update(itertools.combinations(sorted(characters), 2))
    return {b for (a, b), count in together.items() if 2 * count >= min(drawn[a], drawn[b])}


def _picture(glyph: Glyph, variant: int, config: GlyphConfig) -> Image.Image:
    """The glyph in dark ink in the middle of a white square of config.size."""
    size, room = config.size, config.size - 4
    ink = Image.fromarray(glyph.ink)
    if max(ink.size) > room:
        scale = room / max(ink.size)
        ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))))
    canvas = Image.new("L", (size, size))
    canvas.paste(ink, ((size - ink.width) // 2, (size - ink.height) // 2))
    if config.jitter:
        canvas = _jittered(canvas, glyph, variant, config)
    return canvas.point([255 - level for level in range(256)])


def _jittered(canvas: Image.Image, glyph: Glyph, variant: int, config: GlyphConfig) -> Image.Image:
    """`canvas` after a random rotation, scale, shear and shift about its middle."""
    face = int.from_bytes(hashlib.blake2b(glyph.typeface.encode(), digest_size=4).digest())
    rng = np.random.default_rng([config.seed, ord(glyph.character), face, variant])
    turn, wide, high, shear, dx, dy = config.jitter * rng.uniform(-1, 1, 6)
    angle = turn * np.pi / 8
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotate @ np.array([[1 + wide / 4, shear / 3], [0, 1 + high / 4]])
    middle = np.full(2, (config.size - 1) / 2)
    offset = middle - matrix @ middle + np.array([dx, dy]) * config.size / 12
    (a, b), (d, e) = matrix.tolist()
    coefficients = (a, b, float(offset[0]), d, e, float(offset[1]))
    return canvas.transform(
        canvas.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character)}"


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
