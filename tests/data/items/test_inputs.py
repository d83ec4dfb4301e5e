"""Decoding of pictures and vectors, and access to them by row."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from remine.data.errors import InputError
from remine.data.items import inputs, pictures
from remine.data.items.inputs import (
    ImageTransform,
    Inputs,
    vector_transform,
    without_padding,
)
from remine.data.items.pictures import open_image

ORIENTATION = 0x0112


def encodings(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def row_name(row: int) -> str:
    return f"row {row}"


@pytest.mark.parametrize(("shape", "channels"), [((6, 4), 1), ((6, 4, 3), 3)])
def test_pixels_arrive_as_they_are(shape, channels):
    pixels = [noise(shape, seed) for seed in range(3)]
    transform = ImageTransform()
    block = transform([encodings(Image.fromarray(p)) for p in pixels], row_name)
    assert block.shape == (3, channels, 6, 4)
    assert block.dtype == np.uint8
    expected = np.stack(pixels).reshape(3, 6, 4, channels).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(block, expected)


def test_files_and_bytes_are_the_same(tmp_path):
    content = encodings(Image.fromarray(noise((5, 5))))
    (tmp_path / "x.png").write_bytes(content)
    block = ImageTransform()([tmp_path / "x.png", content], row_name)
    np.testing.assert_array_equal(block[0], block[1])


def test_first_picture_sets_size_and_channels_of_later_blocks():
    transform = ImageTransform()
    transform([encodings(Image.new("L", (4, 4)))], row_name)
    # Colour follows the first picture, as grey; another size is refused.
    block = transform([encodings(Image.new("RGB", (4, 4), (255, 0, 0)))], row_name)
    assert block.shape == (1, 1, 4, 4)
    assert (block == 76).all()  # ITU-R 601 luma of red
    with pytest.raises(InputError, match=r"row 0: the picture is 5x4 pixels, the first is 4x4"):
        transform([encodings(Image.new("L", (5, 4)))], row_name)


@pytest.mark.parametrize(("channels", "colour"), [(1, (0, 0, 255)), (3, 9)])
def test_named_channels_win(channels, colour):
    image = Image.new("RGB" if channels == 1 else "L", (4, 4), colour)
    assert ImageTransform(channels=channels)([encodings(image)], row_name).shape == (
        1,
        channels,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("mode", "clear", "opaque"),
    [
        ("RGBA", (10, 20, 30, 0), (10, 20, 30, 255)),
        ("LA", (10, 0), (10, 255)),
    ],
)
def test_transparent_pixels_are_white(mode, clear, opaque):
    image = Image.new(mode, (8, 8), clear)
    image.paste(opaque, (0, 0, 4, 8))
    block = ImageTransform()([encodings(image)], row_name)
    assert (block[..., 4:] == 255).all()
    np.testing.assert_array_equal(block[0, :, 0, 0], np.array(opaque[:-1]))


@pytest.mark.parametrize(
    ("mode", "options"), [("L", {"transparency": 7}), ("P", {"transparency": 7})]
)
def test_a_transparent_colour_is_white(mode, options):
    image = Image.new(mode, (8, 8), 7)
    if mode == "P":
        image.putpalette([9] * 768)
    assert (ImageTransform()([encodings(image, **options)], row_name) == 255).all()


def test_palette_becomes_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert ImageTransform()([encodings(image)], row_name)[0, :, 0, 0].tolist() == [10, 20, 30]


def test_camera_turns_are_undone():
    pixels = noise((4, 6))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn by 90 degrees clockwise to view
    content = encodings(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(content)), np.rot90(pixels, -1))


def test_sixteen_bits_keep_their_shades():
    levels = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    for form in ("TIFF", "PNG", "PPM"):
        block = ImageTransform()([encodings(Image.fromarray(levels), form)], row_name)
        np.testing.assert_array_equal(block[0, 0], levels // 256)


def test_black_and_white():
    block = ImageTransform()([encodings(Image.fromarray(np.eye(8, dtype=bool)))], row_name)
    np.testing.assert_array_equal(block, 255 * np.eye(8)[None, None])


def test_fitted_pictures_are_scaled_then_cropped_in_the_middle():
    wide = np.zeros((16, 64), np.uint8)
    wide[:, 24:40] = 200  # the middle square
    tall = wide.T.copy()
    block = ImageTransform(side=8)([encodings(Image.fromarray(p)) for p in (wide, tall)], row_name)
    assert block.shape == (2, 1, 8, 8)
    assert (block[:, :, 1:-1, 1:-1] == 200).all()


def test_large_pictures_decode_in_threads_to_the_same(monkeypatch):
    contents = [encodings(Image.fromarray(noise((9, 9), seed))) for seed in range(20)]
    expected = ImageTransform()(contents, row_name)
    monkeypatch.setattr(inputs, "SMALL_PIXELS", 80)
    np.testing.assert_array_equal(ImageTransform()(contents, row_name), expected)
    contents[7] = contents[12] = b"nothing"
    with pytest.raises(InputError, match=r"^row 7: not a readable picture"):
        ImageTransform()(contents, row_name)


def test_pixel_limit_is_checked_before_decoding(monkeypatch):
    content = encodings(Image.new("L", (10, 10)))
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    assert open_image(content).size == (10, 10)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 99)
    monkeypatch.setattr(Image.Image, "load", lambda _self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="10x10 pixels are too many"):
        open_image(content)


def test_vectors_pass_unchanged():
    vectors = noise((5, 3)).astype(np.float32) + 1
    np.testing.assert_array_equal(vector_transform(vectors, row_name), vectors)
    assert vector_transform([[1, 2], [0, 1e-9]], row_name).dtype == np.float32


@pytest.mark.parametrize(
    ("vector", "problem"),
    [([0, np.nan], "not finite"), ([np.inf, 1], "not finite"), ([0, 0], "no direction")],
)
def test_first_bad_vector_is_named(vector, problem):
    with pytest.raises(InputError, match=f"^row 2: .*{problem}"):
        vector_transform([[1, 2], [3, 4], vector, vector], row_name)


@pytest.fixture
def shards(tmp_path):
    """Rows 0 to 9 in shards of 4, 1 and 5."""
    rows = np.arange(10 * 6, dtype=np.uint8).reshape(10, 2, 3)
    paths = [tmp_path / f"{start}.npy" for start in (0, 4, 5)]
    for path, part in zip(paths, np.split(rows, [4, 5]), strict=True):
        np.save(path, part)
    return rows, Inputs(paths)


@pytest.mark.parametrize("pick", [[], [0], [9, 0, 4, 4, 5, 3], list(range(10))])
def test_rows_across_shards_in_any_order(shards, pick):
    rows, result = shards
    assert len(result) == 10
    picked = result[np.array(pick, dtype=np.int64)]
    assert picked.dtype == np.uint8
    np.testing.assert_array_equal(picked, rows[pick])


@pytest.mark.parametrize("row", [10, -1])
def test_row_that_is_not_there(shards, row):
    with pytest.raises(IndexError):
        shards[1][np.array([row])]


def test_shards_are_mapped_not_loaded(shards):
    assert all(isinstance(shard, np.memmap) for shard in shards[1].shards)


class Padded:
    """A transform whose zeros at the ends of rows are padding."""

    pads = True


def test_padding_is_not_stored_and_comes_back(tmp_path):
    rows = np.zeros((6, 9), np.int32)
    for row, length in enumerate((2, 5, 1, 3, 3, 1)):
        rows[row, :length] = row + 1
    paths = [tmp_path / "0.npy", tmp_path / "1.npy"]
    for path, block in zip(paths, np.split(rows, 2), strict=True):
        np.save(path, without_padding(block, Padded()))
    assert [np.load(path).shape for path in paths] == [(3, 5), (3, 3)]
    inputs = Inputs(paths)
    np.testing.assert_array_equal(inputs[np.arange(6)], rows[:, :5])
    np.testing.assert_array_equal(inputs[np.array([5, 3])], rows[[5, 3], :3])
    assert without_padding(rows[:0], Padded()).shape == (0, 1)
    assert without_padding(np.zeros((2, 4), np.int32), Padded()).shape == (2, 1)
    np.testing.assert_array_equal(without_padding(rows, ImageTransform()), rows)
