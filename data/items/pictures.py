"""Decoding of one picture to 8 bits, grey or RGB.

The same picture gives the same pixels in every encoding, or it is refused where the file does not
say what its samples mean.
"""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from remine.data.errors import InputError, first_line
from remine.data.sources.picture_formats import formats

MAX_PIXELS = 64_000_000
"""Pixels above which a picture is refused before it is decoded."""
# Pillow's own limit only warns up to twice its value, so it is switched off in favour of ours.
Image.MAX_IMAGE_PIXELS = None
# Damaged EXIF data is counted instead, and it is only needed for the orientation.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error)
"""What Pillow raises on damaged files."""

FULL_RANGE = 65535
"""The white of 16 bits."""
FEW_BITS = 14
"""Cameras and microscopes store up to so many bits in 16, without a mark of it in the file."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation; 1 is upright, and 0 is used for unset."""

DAMAGED_EXIF = "pictures: EXIF orientation damaged, ignored: they may not be upright"
SEVERAL_FRAMES = "pictures: several frames or pages, of which only the first is read"


def open_image(content: bytes | Path) -> Image.Image:
    """Decode a picture to mode L or RGB, turned upright, on white if it is transparent.

    Raises:
        InputError: The picture is missing, damaged, too large, of an unknown format, or has
            samples whose range the file does not say.
    """
    return decode_image(content)[0]


def decode_image(content: bytes | Path) -> tuple[Image.Image, list[str]]:
    """As `open_image`, with notes on what was not read of the picture."""
    source = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        if isinstance(content, Path) and content.exists() and not content.is_file():
            raise InputError(f"{content} is not a file")  # opening a pipe would block
        with Image.open(source, formats=formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{image.width}x{image.height} pixels are too many")
            notes = [SEVERAL_FRAMES] if _has_frames(image) else []
            bits = _sample_bits(image)
            image.load()
            turn = _turn(image)
            # Before any resizing, for which Pillow has no filter in modes such as 1 and P.
            eight_bits = _flat(_eight_bits(image, bits))
    except FileNotFoundError:
        raise InputError(f"{content!s} does not exist") from None
    except DECODER_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"not a readable picture ({_reason(error)})") from None
    if turn is None:
        notes.append(DAMAGED_EXIF)
    return (eight_bits.transpose(TURNS[turn]) if turn in TURNS else eight_bits), notes


def _has_frames(image: Image.Image) -> bool:
    """Whether there are frames or pages after the first; False if that cannot be read."""
    # The further pictures of an MPO file (from a camera) are versions of the first.
    if image.format not in ("GIF", "TIFF", "WEBP", "PNG"):
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except DECODER_ERRORS:
        return False


def _turn(image: Image.Image) -> int | None:
    """The EXIF orientation; None if there is one that cannot be read."""
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - Pillow's parser raises all kinds of errors on damaged data
        return None
    is_unreadable = bool(image.info.get("exif")) and not exif
    is_valid = isinstance(orientation, int) and 0 <= orientation <= 8
    return orientation if is_valid and not is_unreadable else None


def _sample_bits(image: Image.Image) -> int:
    """Bits of a sample in the file, before `image.load()`: Pillow reduces colour to 8 bits."""
    if image.format == "TIFF":
        return int(max(getattr(image, "tag_v2", {}).get(258, (1,))))
    tiles: list[Any] = getattr(image, "tile", [])
    args = tiles[0][3] if image.format in ("PNG", "PPM") and tiles else ()
    # A raw mode such as "RGB;16B", or the decoder's (mode, maximum).
    parts = args if isinstance(args, tuple) else (args,)
    return 16 if ";16" in str(parts[:1]) or FULL_RANGE in parts else 8


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """The picture with samples of 8 bits, by the range that the file says.

    Raises:
        InputError: The file says no range, or only the lower bits of 16 are used.
    """
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    is_signed = 2 in tags.get(339, ())
    if is_signed or image.mode == "F" or (image.mode == "I" and tags):
        kind = "signed" if is_signed else "floating-point" if image.mode == "F" else "32-bit"
        raise InputError(f"{kind} samples, whose range the file does not say; save it with 8 bits")
    if not image.mode.startswith("I"):
        return _checked_colour(image) if bits == 16 else image
    maximum = 2**bits - 1 if tags else FULL_RANGE
    samples = np.asarray(image).clip(0, maximum)
    if tags.get(262) == 0:  # 0 is white, which Pillow ignores beyond 8 bits
        samples = maximum - samples
    if bits == 16:
        _check_range(int(samples.max()))
    shades = (samples * (FULL_RANGE // maximum) >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        shades[samples == clear] = 255
    return Image.fromarray(shades)


def _checked_colour(image: Image.Image) -> Image.Image:
    """A picture whose samples of 16 bits Pillow has reduced to their upper 8."""
    bands = [band for band in image.getbands() if band in "LRGB"]
    if len(bands) in (1, 3):  # not CMYK, of which small samples are light
        # 0 may be 16 bits of up to 255, so it is checked as 1.
        brightest = max(int(np.asarray(image.getchannel(band)).max()) for band in bands)
        _check_range(max(1, brightest << 8))
    if isinstance(clear := image.info.get("transparency"), tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image


def _check_range(brightest: int) -> None:
    """Refuse samples of 16 bits that may be of fewer bits, which would come out black."""
    if 0 < brightest < 2**FEW_BITS:
        raise InputError(
            f"none of its 16-bit samples reaches {2**FEW_BITS} of {FULL_RANGE}: {FEW_BITS} or fewer"
            " bits in 16 look like a dark picture; scale it to the full range, or save it with 8"
            " bits"
        )


def _flat(image: Image.Image) -> Image.Image:
    """The picture in mode L or RGB, on white if it is transparent."""
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("L" if image.mode == "LA" else "RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(formats())}"
    return first_line(error)
