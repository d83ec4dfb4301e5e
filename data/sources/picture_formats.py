"""Formats of pictures: those that are always read, and those that Pillow reads by a plug-in."""

import importlib.util
from collections.abc import Iterable
from functools import cache

from PIL import features

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Formats that are decoded. Pillow knows more, but starts other programs for some (EPS)."""

ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "bmp", "gif", "tif", "tiff", "webp"),
        *("pbm", "pgm", "ppm", "pnm"),
    )
)
OPTIONAL_ENDINGS = {
    ".avif": "AVIF",
    ".avifs": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
}
INSTALLS = {"AVIF": "pip install --upgrade pillow", "HEIF": "pip install pillow-heif"}
"""What to install for a format that is not read."""


@cache
def optional_formats() -> tuple[str, ...]:
    """The optional formats that can be read here; registers the plug-in of HEIF."""
    names = ["AVIF"] if features.check("avif") else []
    if importlib.util.find_spec("pillow_heif"):
        plugin = importlib.import_module("pillow_heif")
        plugin.register_heif_opener()
        names.append("HEIF")
    return tuple(names)


def formats() -> tuple[str, ...]:
    """All formats that are decoded here."""
    return FORMATS + optional_formats()


def is_picture_ending(ending: str) -> bool:
    """Whether files of this ending, in lower case and with its dot, are read as pictures here."""
    return ending in ENDINGS or OPTIONAL_ENDINGS.get(ending) in optional_formats()


def install_lines(endings: Iterable[str]) -> list[str]:
    """What would read files that were passed over, a line for each format."""
    names = {OPTIONAL_ENDINGS[ending]: ending for ending in endings if ending in OPTIONAL_ENDINGS}
    return [
        f"{ending} files would be read after: {INSTALLS[name]}"
        for name, ending in sorted(names.items())
    ]
