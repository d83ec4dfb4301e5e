"""One picture in every encoding gives the same pixels or is refused; EXIF; frames."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from remine.data.errors import InputError
from remine.data.items.colour import first_with_colour, has_colour
from remine.data.items.inputs import ImageTransform, omission_lines
from remine.data.items.pictures import open_image

SIDE = 16


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def line_drawing() -> np.ndarray:
    """Thin black lines on white, which vanish when a picture is resized by nearest pixels."""
    rng = np.random.default_rng(7)
    pixels = np.full((128, 128), 255, np.uint8)
    pixels[rng.choice(128, 9, replace=False)] = 0
    pixels[:, rng.choice(128, 9, replace=False)] = 0
    return pixels


def gradient() -> np.ndarray:
    return np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))


def pgm(samples: np.ndarray, maximum: int, magic: str = "P5") -> bytes:
    header = f"{magic} {samples.shape[1]} {samples.shape[0]} {maximum}\n".encode()
    return header + samples.astype(">u2").tobytes()


def png_16_bit_colour(samples: np.ndarray) -> bytes:
    """(h, w, 3) uint16 as a PNG, which Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(samples: np.ndarray, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """Samples, packed already, as an uncompressed TIFF of one strip."""
    height, width = 128, 128
    raw = samples.tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 0)]
    tags += [(277, 1), (278, height), (279, len(raw)), (339, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", t, 4, 1, start if t == 273 else v) for t, v in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + raw


def packed_12_bits(pixels: np.ndarray) -> np.ndarray:
    """Samples of 12 bits, two in three bytes."""
    samples = np.round(pixels * (4095 / 255)).astype(np.uint16).reshape(-1, 2)
    first, second = samples[:, 0], samples[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    return packed.astype(np.uint8)


def grey(form: str, mode: str = "L", **options: Any) -> Callable[[np.ndarray], bytes]:
    return lambda pixels: encoded(Image.fromarray(pixels).convert(mode), form, **options)


def wide(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def colour(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2)


SAME_PIXELS: dict[str, Callable[[np.ndarray], bytes]] = {
    "grey PNG": grey("PNG"),
    "grey-alpha PNG": grey("PNG", "LA"),
    "colour PNG": grey("PNG", "RGB"),
    "colour-alpha PNG": grey("PNG", "RGBA"),
    "palette PNG": grey("PNG", "P"),
    "transparent palette PNG": grey("PNG", "P", transparency=255),
    "16-bit PNG": lambda pixels: encoded(Image.fromarray(wide(pixels))),
    "16-bit colour PNG": lambda pixels: png_16_bit_colour(colour(wide(pixels))),
    "GIF": grey("GIF"),
    "BMP": grey("BMP"),
    "colour BMP": grey("BMP", "RGB"),
    "PGM": grey("PPM"),
    "PPM": grey("PPM", "RGB"),
    "16-bit PGM": lambda pixels: encoded(Image.fromarray(wide(pixels)), "PPM"),
    "12-bit PGM": lambda pixels: pgm(np.round(pixels * (4095 / 255)), 4095),
    "16-bit PPM": lambda pixels: pgm(colour(wide(pixels)), 65535, "P6"),
    "lossless WebP": grey("WEBP", lossless=True),
    "TIFF": grey("TIFF"),
    "LZW TIFF": grey("TIFF", compression="tiff_lzw"),
    "palette TIFF": grey("TIFF", "P"),
    "palette-alpha TIFF": grey("TIFF", "PA"),
    "CMYK TIFF": grey("TIFF", "CMYK"),
    "LAB TIFF": grey("TIFF", "LAB"),
    "16-bit TIFF": lambda pixels: encoded(Image.fromarray(wide(pixels)), "TIFF"),
    "16-bit TIFF, white is 0": lambda pixels: tiff(wide(255 - pixels), 16, photometric=0),
    "12-bit TIFF": lambda pixels: tiff(packed_12_bits(pixels), 12),
}
BILEVEL = {
    "bilevel PNG": grey("PNG", "1"),
    "bilevel BMP": grey("BMP", "1"),
    "bilevel TIFF": grey("TIFF", "1"),
    "group-4 TIFF": grey("TIFF", "1", compression="group4"),
    "PBM": grey("PPM", "1"),
}
REFUSED: dict[str, tuple[Callable[[np.ndarray], bytes], str]] = {
    "12 bits in a 16-bit PNG": (
        lambda pixels: encoded(Image.fromarray(pixels.astype(np.uint16) * 16)),
        "none of its 16-bit samples reaches 16384 of 65535",
    ),
    "8 bits in a 16-bit TIFF": (
        lambda pixels: encoded(Image.fromarray(pixels.astype(np.uint16)), "TIFF"),
        "none of its 16-bit samples",
    ),
    "12 bits in a 16-bit PGM": (
        lambda pixels: pgm(pixels.astype(np.uint16) * 16, 65535),
        "none of its 16-bit samples",
    ),
    "12 bits in a 16-bit PPM": (
        lambda pixels: pgm(colour(pixels.astype(np.uint16) * 16), 65535, "P6"),
        "none of its 16-bit samples",
    ),
    "8 bits in a 16-bit colour PNG": (
        lambda pixels: png_16_bit_colour(colour(pixels.astype(np.uint16))),
        "none of its 16-bit samples",
    ),
    "floats from 0 to 1": (
        lambda pixels: encoded(Image.fromarray((pixels / 255).astype(np.float32)), "TIFF"),
        "floating-point samples, whose range the file does not say",
    ),
    "signed 32-bit integers": (
        lambda pixels: encoded(Image.fromarray(pixels.astype(np.int32)), "TIFF"),
        "signed samples, whose range",
    ),
    "unsigned 32-bit integers": (
        lambda pixels: tiff(pixels.astype(np.uint32), 32),
        "32-bit samples, whose range",
    ),
    "signed 16-bit integers": (
        lambda pixels: tiff(pixels.astype(np.int16), 16, sample_format=2),
        "signed samples, whose range",
    ),
}


def decoded(content: bytes, channels: int) -> np.ndarray:
    return ImageTransform(side=SIDE, channels=channels)([content], "row {}".format)[0].astype(int)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SAME_PIXELS)
@pytest.mark.parametrize("draw", [line_drawing, gradient])
def test_every_encoding_gives_the_same_pixels(name, draw, channels):
    expected = decoded(encoded(Image.fromarray(draw())), channels)
    assert expected.std() > 20
    np.testing.assert_allclose(decoded(SAME_PIXELS[name](draw()), channels), expected, atol=1)


@pytest.mark.parametrize("name", {**SAME_PIXELS, **BILEVEL})
def test_colour_is_known_from_the_header(name):
    encode = {**SAME_PIXELS, **BILEVEL}[name]
    words = ("colour", "PPM", "CMYK", "LAB", "WebP", "palette-alpha")
    assert has_colour(encode(line_drawing())) == any(word in name for word in words)


def test_a_palette_with_a_colour_has_colour(tmp_path):
    image = Image.new("RGB", (4, 4), "white")
    image.putpixel((0, 0), (255, 0, 0))
    content = encoded(image.convert("P"), "GIF")
    assert has_colour(content)
    (tmp_path / "a.gif").write_bytes(content)
    assert has_colour(tmp_path / "a.gif")
    assert not has_colour(b"no picture")
    assert not has_colour(tmp_path / "nothing.png")
    grey_picture = encoded(Image.new("L", (4, 4)))
    assert first_with_colour([[grey_picture] * 3, [grey_picture, content]]) == 4
    assert first_with_colour([[grey_picture]]) is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BILEVEL)
def test_one_bit_gives_the_pixels_of_eight(name, channels):
    expected = decoded(encoded(Image.fromarray(line_drawing())), channels)
    np.testing.assert_allclose(decoded(BILEVEL[name](line_drawing()), channels), expected, atol=1)


@pytest.mark.parametrize("name", REFUSED)
def test_samples_of_unsaid_range_are_refused(name):
    encode, reason = REFUSED[name]
    with pytest.raises(InputError, match=f"^row 0: {reason}") as error:
        decoded(encode(gradient()), 1)
    assert "\n" not in str(error.value)


def test_black_is_black():
    content = encoded(Image.fromarray(np.zeros((4, 4), np.uint16)))
    assert np.asarray(open_image(content)).max() == 0


def test_a_transparent_shade_of_16_bits_is_white():
    samples = np.array([[0, 1000], [40_000, 65_535]], np.uint16)
    content = encoded(Image.fromarray(samples), transparency=1000)
    assert np.asarray(open_image(content)).tolist() == [[0, 255], [156, 255]]


def with_exif(entries: list[tuple[int, int, int, bytes]], extra: bytes = b"") -> bytes:
    """A JPEG of 8 x 4 pixels, white above and black below, with these tags in its EXIF data."""
    pixels = np.repeat([[255], [255], [0], [0]], 8, axis=1).astype(np.uint8)
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    exif = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + extra
    return encoded(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0" + exif, quality=100)


TURNED = (274, 3, 1, struct.pack("<H", 6))
WRONG_TYPES = {
    "XResolution as text": [TURNED, (282, 2, 4, b"72\0\0")],
    "ImageDescription as a rational": [(270, 5, 1, struct.pack("<I", 38)), TURNED],
    "ImageWidth as text": [(256, 2, 4, b"40\0\0"), TURNED],
    "a tag of an unknown type": [TURNED, (282, 99, 4, b"72\0\0")],
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_exif_tags_of_a_wrong_type_do_not_matter(name):
    content = with_exif(WRONG_TYPES[name], struct.pack("<II", 72, 1))
    transform = ImageTransform()
    block = transform([content], str)
    assert block.shape == (1, 1, 8, 4)
    assert block[0, 0, 0].tolist() == [0, 0, 255, 255]  # turned clockwise
    assert omission_lines(transform) == []


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_as_pillow_turns_it(turn):
    exif = Image.Exif()
    exif[274] = turn
    pixels = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    content = encoded(Image.fromarray(pixels), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(np.asarray(open_image(content)), np.asarray(expected))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_orientations_are_counted():
    pixels = np.full((4, 8), 200, np.uint8)
    damaged = [
        with_exif([(274, 2, 4, b"six\0")]),
        with_exif([(274, 3, 1, struct.pack("<H", 9))]),
        encoded(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0nothing of the kind"),
        encoded(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0"),
    ]
    sound = [with_exif([(274, 3, 1, bytes(4))]), encoded(Image.fromarray(pixels))]
    transform = ImageTransform()
    assert transform([*damaged, *sound], str).shape == (6, 1, 4, 8)
    transform(sound, str)
    expected = "4 of 8 pictures: EXIF orientation damaged, ignored: they may not be upright"
    assert omission_lines(transform) == [expected]


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_further_frames_are_counted(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    transform = ImageTransform()
    block = transform([content, encoded(frames[1], form)], str)
    np.testing.assert_allclose(block[:, :, 0, 0], [[255, 0, 0], [0, 0, 255]], atol=2)
    assert omission_lines(transform) == [
        "1 of 2 pictures: several frames or pages, of which only the first is read"
    ]
