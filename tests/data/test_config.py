"""Settings out of range are refused with the field, the value and the limits."""

import pytest

from remine.data.config import DataConfig, GlyphConfig
from remine.data.errors import InputError


@pytest.mark.parametrize(
    ("kind", "good", "bad", "message"),
    [
        (GlyphConfig, {"size": 8}, {"size": 7}, "data.glyphs.size is 7; it must be 8 to 512"),
        (GlyphConfig, {"size": 512}, {"size": 513}, "data.glyphs.size is 513"),
        (GlyphConfig, {"variants": 1}, {"variants": 0}, "data.glyphs.variants is 0"),
        (GlyphConfig, {"jitter": 1}, {"jitter": 1.01}, "data.glyphs.jitter is 1.01"),
        (GlyphConfig, {"jitter": 0}, {"jitter": -0.1}, "data.glyphs.jitter is -0.1"),
        (GlyphConfig, {"variants": 2, "jitter": 0.1}, {"variants": 2}, "needs data.glyphs.jitter"),
        (GlyphConfig, {"min_typefaces": 2}, {"min_typefaces": 1}, "min_typefaces is 1"),
        (GlyphConfig, {"min_typefaces": 24}, {"min_typefaces": 25}, "min_typefaces is 25"),
        (GlyphConfig, {"characters": 0}, {"characters": -1}, "data.glyphs.characters is -1"),
        (DataConfig, {"image_size": 0}, {"image_size": 7}, "data.image_size is 7"),
        (DataConfig, {"image_size": 2048}, {"image_size": 2049}, "data.image_size is 2049"),
        (DataConfig, {"channels": 3}, {"channels": 2}, "data.channels is 2; it must be 0, 1 or 3"),
        (DataConfig, {"val_share": 0}, {"val_share": -0.1}, "data.val_share"),
        (DataConfig, {"test_share": 0.1}, {"test_share": 0}, "data.test_share"),
        (
            DataConfig,
            {"val_share": 0.5, "test_share": 0.4},
            {"val_share": 0.5, "test_share": 0.5},
            "their sum must be below 1",
        ),
        (DataConfig, {"unit_rows": 16}, {"unit_rows": 15}, "data.unit_rows is 15"),
        (
            DataConfig,
            {"columns": {"label": "kind"}},
            {"columns": {"labels": "kind"}},
            "unknown key data.columns.labels; known: id, label",
        ),
    ],
)
def test_ranges(kind, good, bad, message):
    kind(**good)
    with pytest.raises(InputError) as error:
        kind(**bad)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
