"""Pictures of any shape fitted to one size: which pixels come where."""

import numpy as np
import pytest
from PIL import Image

from remine.data.items.fitting import edge_colour, fit_picture
from remine.data.items.inputs import ImageTransform

BLACK, GREY, WHITE = 0, 100, 255


@pytest.fixture
def wide() -> np.ndarray:
    """64 x 128: left half of a shade, right half of another."""
    pixels = np.full((64, 128), BLACK, np.uint8)
    pixels[:, 64:] = WHITE
    return pixels


def fitted(pixels, fit, size=(8, 8)) -> np.ndarray:
    return np.asarray(fit_picture(Image.fromarray(pixels), size, fit))


def test_a_crop_leaves_out_the_ends_of_the_longer_side(wide):
    wide[:, :32] = wide[:, 96:] = GREY
    for pixels in (fitted(wide, "crop"), fitted(wide.T.copy(), "crop").T):
        assert (pixels[:, 1:3] == BLACK).all()  # a filter mixes what is near a change
        assert (pixels[:, 5:7] == WHITE).all()


def test_stretching_keeps_everything_and_changes_the_aspect(wide):
    wide[:, :32] = GREY
    row = fitted(wide, "stretch", (16, 16))[8]
    assert (row[0], row[6], row[-1]) == (GREY, BLACK, WHITE)
    np.testing.assert_array_equal(fitted(wide.T.copy(), "stretch").T, fitted(wide, "stretch"))


def test_padding_keeps_everything_and_the_aspect():
    pixels = np.full((64, 128), GREY, np.uint8)
    pixels[8:56, 16:112] = WHITE
    result = fitted(pixels, "pad")
    assert (result[:2] == GREY).all()
    assert (result[6:] == GREY).all()
    assert (result[3:5, 2:6] == WHITE).all()
    tall = fitted(pixels.T.copy(), "pad")
    np.testing.assert_array_equal(tall.T, result)
    assert result.shape == (8, 8)


def test_the_border_is_the_median_of_the_edge_by_channel():
    colours = np.zeros((9, 9, 3), np.uint8)
    colours[0], colours[-1], colours[:, 0] = (10, 20, 30), (10, 20, 30), (10, 20, 30)
    colours[4, 4] = 255
    assert edge_colour(Image.fromarray(colours)) == (10, 20, 30)
    assert edge_colour(Image.fromarray(colours[..., 0])) == 10
    one = Image.fromarray(np.full((1, 1), 7, np.uint8))
    assert np.asarray(fit_picture(one, (4, 2), "pad")).tolist() == [[7] * 4] * 2


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_transform_fits_as_it_says(wide, tmp_path, fit):
    wide[:, :32] = GREY  # which a crop leaves out
    Image.fromarray(wide).save(tmp_path / "p.png")
    block = ImageTransform(side=8, channels=3, fit=fit)([tmp_path / "p.png"], str)
    np.testing.assert_array_equal(block[0, 0], fitted(wide, fit))
    again = ImageTransform.for_shape((3, 8, 8), resize=True, fit=fit)([tmp_path / "p.png"], str)
    np.testing.assert_array_equal(again, block)
