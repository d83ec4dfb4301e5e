"""The built-in data set: small pictures of the characters in matplotlib's typefaces.

A class is a character, an item is the character in one typeface (times jittered variants), so the
task is retrieval of the same character in another typeface. Nothing is downloaded, and the settings
make any number of items from a thousand to a million.
"""

import hashlib
import io
import itertools
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
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

# LastResort draws boxes, the sized and private-use STIX fonts draw parts of signs, and TeX's math
# fonts assign other signs to code points than Unicode does.
EXCLUDED_FONTS = ("LastResort", "STIXSiz", "STIXNonUni", "cmex", "cmmi", "cmsy")
# In TeX's text fonts ("cm...") letters and digits are at their Unicode code points.
TEX_TEXT = frozenset(map(ord, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"))


@dataclass(frozen=True)
class Glyph:
    """One character in one typeface; `ink` is (h, w) uint8, 0 for paper, 255 for full ink."""

    character: str
    typeface: str
    ink: np.ndarray


class GlyphSource:
    """The glyphs as a source of items; implements `remine.data.sources.source.Source`."""

    content = "image"
    notes: Sequence[str] = ()
    root = Path()
    lacks_ids = False

    def __init__(self, config: GlyphConfig) -> None:
        """Nothing is drawn before the metadata or contents are read."""
        self.config = config

    def fingerprint(self) -> object:
        """What determines the pictures: the settings and the versions of the libraries."""
        return ["glyphs", vars(self.config), matplotlib.__version__, PIL.__version__]

    def row_name(self, row: int) -> str:
        """The name of `row` in messages."""
        return f"glyph {row}"

    @cached_property
    def glyphs(self) -> list[Glyph]:
        """Every glyph once, sorted by character, then typeface."""
        return _select(_draw_all(self.config), self.config)

    def metadata(self) -> pa.Table:
        """The columns `id`, `label` (code point and name) and `group` (typeface)."""
        v = self.config.variants
        labels = [_name(g.character) for g in self.glyphs for _ in range(v)]
        groups = [g.typeface for g in self.glyphs for _ in range(v)]
        return pa.table({"id": np.arange(len(labels)), "label": labels, "group": groups})

    def blocks(self, rows: int) -> Iterator[list[bytes]]:
        """The pictures as PNG, `rows` at a time."""
        pictures = (
            _png(_picture(glyph, variant, self.config))
            for glyph in self.glyphs
            for variant in range(self.config.variants)
        )
        while block := list(itertools.islice(pictures, rows)):
            yield block


def _draw_all(config: GlyphConfig) -> list[Glyph]:
    """Draw every character of every typeface, except those that leave no ink."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pixels = round(config.size * 0.7)
    glyphs = []
    for path in sorted(fonts.glob("*.ttf")):
        if path.name.startswith(EXCLUDED_FONTS):
            continue
        with TTFont(path, lazy=True) as file:
            codes = set(file.getBestCmap())
        font = ImageFont.truetype(path, pixels)
        characters = map(chr, sorted(codes & TEX_TEXT if path.name.startswith("cm") else codes))
        inks = ((character, _ink(character, font)) for character in characters)
        glyphs += [Glyph(c, path.stem, ink) for c, ink in inks if ink is not None]
    return glyphs


def _ink(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray | None:
    """The ink of a character, cropped to its bounding box; None if it has none."""
    x0, y0, x1, y1 = font.getbbox(character)
    if x1 - x0 < 1 or y1 - y0 < 1 or not unicodedata.name(character, ""):
        return None
    image = Image.new("L", (int(x1 - x0) + 2, int(y1 - y0) + 2))
    ImageDraw.Draw(image).text((1 - x0, 1 - y0), character, font=font, fill=255)
    box = image.getbbox()
    return None if box is None else np.asarray(image.crop(box))


def _select(glyphs: list[Glyph], config: GlyphConfig) -> list[Glyph]:
    """The glyphs of characters in enough typefaces, one character per shape (not A and Alpha)."""
    typefaces = Counter(g.character for g in glyphs)
    candidates = [g for g in glyphs if typefaces[g.character] >= config.min_typefaces]
    characters = sorted({g.character for g in candidates} - _look_alikes(candidates, typefaces))
    if config.characters:
        # The order of the hashes spreads the selection over all scripts and never changes.
        characters = sorted(sorted(characters, key=_hash)[: config.characters])
    selection = set(characters)
    return sorted(
        (g for g in candidates if g.character in selection), key=lambda g: (g.character, g.typeface)
    )


def _look_alikes(glyphs: list[Glyph], typefaces: Counter[str]) -> set[str]:
    """Characters that at least half of their typefaces draw exactly like an earlier character.

    Args:
        glyphs: All glyphs to compare.
        typefaces: The number of typefaces that draw each character.
    """
    by_shape: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    for g in glyphs:
        by_shape[g.typeface, bytes(str(g.ink.shape), "ascii") + g.ink.tobytes()].append(g.character)
    # The number of typefaces in which two characters have the same shape.
    pairs: Counter[tuple[str, str]] = Counter()
    for characters in by_shape.values():
        pairs.update(itertools.combinations(sorted(characters), 2))
    return {b for (a, b), count in pairs.items() if 2 * count >= min(typefaces[a], typefaces[b])}


def _picture(glyph: Glyph, variant: int, config: GlyphConfig) -> Image.Image:
    """The glyph in dark ink, centred on a white square of `config.size` pixels."""
    size, inner_size = config.size, config.size - 4
    ink = Image.fromarray(glyph.ink)
    if max(ink.size) > inner_size:
        scale = inner_size / max(ink.size)
        ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))))
    canvas = Image.new("L", (size, size))
    canvas.paste(ink, ((size - ink.width) // 2, (size - ink.height) // 2))
    if config.jitter:
        canvas = _jitter(canvas, glyph, variant, config)
    return canvas.point([255 - level for level in range(256)])


def _jitter(canvas: Image.Image, glyph: Glyph, variant: int, config: GlyphConfig) -> Image.Image:
    """Rotate, scale, shear and shift `canvas` at random, seeded by the glyph and variant."""
    # Not hash(), which differs between processes.
    face = int.from_bytes(hashlib.blake2b(glyph.typeface.encode(), digest_size=4).digest())
    rng = np.random.default_rng([config.seed, ord(glyph.character), face, variant])
    turn, x_scale, y_scale, shear, dx, dy = config.jitter * rng.uniform(-1, 1, 6)
    angle = turn * np.pi / 8
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotate @ np.array([[1 + x_scale / 4, shear / 3], [0, 1 + y_scale / 4]])
    # Pillow maps output to input coordinates; the centre is to stay where it is.
    centre = np.full(2, (config.size - 1) / 2)
    offset = centre - matrix @ centre + np.array([dx, dy]) * config.size / 12
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
