"""Formats that Pillow reads by a plug-in: read where it is installed, else counted with advice."""

import io
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from remine.data.config import DataConfig
from remine.data.items.colour import has_colour
from remine.data.items.pictures import open_image
from remine.data.sources import picture_formats
from remine.data.sources.image_folder import FolderSource
from remine.data.sources.picture_formats import install_lines, optional_formats
from remine.data.sources.source import open_source

MAGIC = b"heif stand-in"


class HeifStandIn(PngImagePlugin.PngImageFile):
    """A PNG behind a magic word."""

    format = "HEIF"

    def _open(self) -> None:
        file = self.fp
        self.fp = io.BytesIO(file.read()[len(MAGIC) :])
        file.close()
        super()._open()


def register() -> None:
    Image.register_open("HEIF", HeifStandIn, lambda prefix: prefix.startswith(MAGIC))


@pytest.fixture
def fresh(monkeypatch):
    """Formats are looked up anew, before and after the test."""
    optional_formats.cache_clear()
    yield monkeypatch
    optional_formats.cache_clear()
    Image.OPEN.pop("HEIF", None)


def png(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(out, "PNG")
    return out.getvalue()


def folder_of(tmp_path, name: str, content: bytes) -> FolderSource:
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "1.png").write_bytes(png("red"))
        (tmp_path / "set" / label / name).write_bytes(content)
    source = open_source(DataConfig(source="set"), tmp_path)
    assert isinstance(source, FolderSource)
    return source


def test_heic_is_read_where_the_plug_in_is_installed(fresh, tmp_path):
    plugin = ModuleType("pillow_heif")
    plugin.register_heif_opener = register
    fresh.setitem(sys.modules, "pillow_heif", plugin)
    fresh.setattr(picture_formats.importlib.util, "find_spec", lambda _name: object())
    source = folder_of(tmp_path, "2.HEIC", MAGIC + png("blue"))
    assert len(source.paths) == 4
    assert not source.notes
    assert np.asarray(open_image(source.paths[1]))[0, 0].tolist() == [0, 0, 255]
    assert has_colour(source.paths[1])


def test_heic_is_counted_with_advice_where_it_is_not(fresh, tmp_path):
    fresh.setattr(picture_formats.importlib.util, "find_spec", lambda _name: None)
    source = folder_of(tmp_path, "2.heic", MAGIC + png("blue"))
    assert source.notes == [
        f"{tmp_path}/set: 2 passed over: 2 .heic",
        ".heic files would be read after: pip install pillow-heif",
    ]


@pytest.mark.usefixtures("fresh")
def test_avif_is_read_by_a_pillow_that_can(tmp_path):
    if "AVIF" not in optional_formats():
        pytest.skip("this Pillow was built without AVIF")
    out = io.BytesIO()
    Image.new("RGB", (6, 4), "blue").save(out, "AVIF", quality=100)
    source = folder_of(tmp_path, "2.avif", out.getvalue())
    assert len(source.paths) == 4
    pixel = np.asarray(open_image(source.paths[1]))[0, 0].astype(int)
    assert np.abs(pixel - [0, 0, 255]).max() <= 3


def test_avif_is_counted_by_a_pillow_that_cannot(fresh, tmp_path):
    fresh.setattr(picture_formats.features, "check", lambda _name: False)
    source = folder_of(tmp_path, "2.avif", b"none")
    assert source.notes[1] == ".avif files would be read after: pip install --upgrade pillow"
    assert install_lines([".png", ".txt"]) == []
