"""Augmentation: right by hand, the same for the same seed, and in training only."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from remine.data.errors import InputError
from remine.train.augmentation.augment import COLOUR_DRAWS, DRAWS, LUMA, affine_maps, augment
from remine.train.augmentation.config import AugmentConfig
from remine.train.checkpoint import encoder_bytes

HIGH, WIDE = 6, 9
HALF = 0.5
"""The draw that changes nothing."""


def pictures(m=5, channels=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (m, channels, HIGH, WIDE), generator=generator).to(torch.uint8)


def plain(picture, config, draw, ratio=HALF):
    """One picture (height, width) by loops: where each new pixel lies in the old one."""
    stretch = (1 + config.aspect) ** ((2 * float(ratio) - 1) / 2)
    x, y, turn, zoom, window, across, down, mirror = (2 * float(v) - 1 for v in draw[:8])
    angle = math.radians(config.rotate * turn)
    size = 1 - config.crop * (window + 1) / 2
    wide, high = min(1.0, size * stretch), min(1.0, size / stretch)
    zooms = 1 / (1 + config.scale) ** zoom
    out = torch.zeros(HIGH, WIDE)
    for row in range(HIGH):
        for column in range(WIDE):
            # Pixels from the middle of the picture.
            v, u = row + 0.5 - HIGH / 2, column + 0.5 - WIDE / 2
            if config.flip and mirror < 0:
                u = -u
            to_u = wide * zooms * (math.cos(angle) * u - math.sin(angle) * v)
            to_v = high * zooms * (math.sin(angle) * u + math.cos(angle) * v)
            to_u += (config.shift * x + (1 - wide) * across / 2) * WIDE
            to_v += (config.shift * y + (1 - high) * down / 2) * HIGH
            out[row, column] = at(picture, to_v + HIGH / 2 - 0.5, to_u + WIDE / 2 - 0.5)
    return out


def at(picture, row, column):
    """The picture between its pixels; beyond its edge, the edge."""
    row, column = min(max(row, 0), HIGH - 1), min(max(column, 0), WIDE - 1)
    top, remainder = min(int(row), HIGH - 2), min(int(column), WIDE - 2)
    down, across = row - top, column - remainder
    upper = (1 - across) * picture[top, remainder] + across * picture[top, remainder + 1]
    lower = (1 - across) * picture[top + 1, remainder] + across * picture[top + 1, remainder + 1]
    return (1 - down) * upper + down * lower


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 0.3},
        {"rotate": 180.0},
        {"scale": 0.7},
        {"crop": 0.6},
        {"flip": True},
        {"aspect": 0.9},
        {"crop": 0.6, "aspect": 0.33},
        {"shift": 0.2, "rotate": 40.0, "scale": 0.3, "crop": 0.4, "flip": True},
    ],
)
def test_pixels_move_where_plain_loops_say(settings):
    config = AugmentConfig(**settings)
    originals = pictures()
    draws = torch.rand((DRAWS, 5), generator=torch.Generator().manual_seed(3))
    second_generator = torch.Generator().manual_seed(3 ^ 0x5DEECE66D)
    ratios = torch.rand((COLOUR_DRAWS, 5), generator=second_generator)[0]
    out = augment(originals, config, 3)
    assert out.dtype == torch.uint8
    for row in range(5):
        expected = plain(originals[row, 0].float(), config, draws[:, row], ratios[row])
        assert (out[row, 0].float() - expected).abs().max() <= 0.51  # half a step, by rounding
    assert (out != originals).any()


def test_light_changes_as_plain_sums_say():
    config = AugmentConfig(brightness=0.3, contrast=0.5)
    originals = pictures(channels=3)
    draws = torch.rand((DRAWS, 5), generator=torch.Generator().manual_seed(3))
    out = augment(originals, config, 3)
    for row in range(5):
        darker, flatter = (2 * draws[8:10, row] - 1).tolist()
        picture = originals[row].double()
        expected = picture.mean() + (1 + 0.5 * flatter) * (picture - picture.mean())
        expected = (expected + 255 * 0.3 * darker).clamp(0, 255)
        assert (out[row].double() - expected).abs().max() <= 0.51


def test_saturation_is_that_of_pillow():
    originals = pictures(8, channels=3)
    draws = torch.rand((COLOUR_DRAWS, 8), generator=torch.Generator().manual_seed(7 ^ 0x5DEECE66D))
    out = augment(originals, AugmentConfig(saturation=0.6), 7)
    for row in range(8):
        picture = Image.fromarray(originals[row].permute(1, 2, 0).numpy())
        strength = 1 + 0.6 * (2 * draws[1, row].item() - 1)
        expected = np.asarray(ImageEnhance.Color(picture).enhance(strength), np.float32)
        difference = out[row].permute(1, 2, 0).numpy() - expected
        assert np.abs(difference).max() <= 1.6  # Pillow rounds the grey picture and the result


def test_hue_turns_colours_and_leaves_greys_and_light():
    grey = torch.full((1, 3, 4, 4), 90, dtype=torch.uint8)
    assert torch.equal(augment(grey, AugmentConfig(hue=0.5), 0), grey)
    red = torch.tensor([200, 60, 60], dtype=torch.uint8)[None, :, None, None].repeat(300, 1, 2, 2)
    out = augment(red, AugmentConfig(hue=0.5), 0).float()[:, :, 0, 0]
    light = out @ torch.tensor(LUMA)
    in_range = (out > 0).all(dim=1) & (out < 255).all(dim=1)
    assert in_range.sum() > 100
    expected = torch.tensor([200.0, 60.0, 60.0]) @ torch.tensor(LUMA)
    assert (light[in_range] - expected).abs().max() < 1.5
    # All the way round: each of the three primaries is the strongest in some picture.
    assert set(out.argmax(dim=1).tolist()) == {0, 1, 2}


def test_colour_changes_leave_grey_pictures():
    originals = pictures()
    assert torch.equal(augment(originals, AugmentConfig(saturation=1.0, hue=0.5), 0), originals)


def test_erasing_takes_one_rectangle_of_the_share_of_pictures_that_is_asked_for():
    originals = torch.full((2000, 1, 40, 40), 300 % 256, dtype=torch.uint8)
    out = augment(originals, AugmentConfig(erase=0.4), 0)
    changed = (out != originals)[:, 0]
    share = changed.flatten(1).any(dim=1)
    assert share.float().mean().item() == pytest.approx(0.4, abs=0.05)
    for picture, mask in zip(out[share], changed[share], strict=True):
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None])  # a rectangle
        assert len(picture[0][mask].unique()) == 1
        assert 0.01 < mask.float().mean() < 0.36


def test_noise_has_the_spread_that_is_asked_for():
    originals = torch.full((4, 1, 60, 60), 128, dtype=torch.uint8)
    out = augment(originals, AugmentConfig(noise=0.05), 0).float()
    assert out.std().item() == pytest.approx(255 * 0.05, rel=0.03)
    assert out.mean().item() == pytest.approx(128, abs=0.5)


def test_the_seed_decides_and_each_picture_has_its_own_change():
    config = AugmentConfig(shift=0.2, rotate=20.0, noise=0.02)
    originals = pictures(1).expand(6, -1, -1, -1)
    first, repetition, other_seed = (augment(originals, config, seed) for seed in (1, 1, 2))
    assert torch.equal(first, repetition)
    assert not torch.equal(first, other_seed)
    assert len({tuple(picture.flatten().tolist()) for picture in first}) == 6
    before = torch.random.get_rng_state()
    augment(originals, config, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_setting_switched_on_leaves_the_others_as_they_were():
    draws = torch.rand((DRAWS, 4), generator=torch.Generator().manual_seed(0))
    shift = affine_maps(AugmentConfig(shift=0.2), draws, 1)
    combination = affine_maps(AugmentConfig(shift=0.2, rotate=30.0), draws, 1)
    assert torch.equal(shift[:, :, 2], combination[:, :, 2])


def test_draws_in_the_middle_change_nothing():
    draws = torch.full((DRAWS, 1), HALF)
    draws[4] = 0.0  # a window of the whole
    config = AugmentConfig(shift=0.5, rotate=90.0, scale=1.0, crop=0.5, flip=True)
    torch.testing.assert_close(affine_maps(config, draws, 0.7)[0], torch.eye(2, 3))


LIMITS = {
    "shift": 0.5,
    "rotate": 180,
    "scale": 1,
    "crop": 0.9,
    "brightness": 1,
    "contrast": 1,
    "aspect": 4,
    "saturation": 1,
    "hue": 0.5,
    "erase": 1,
    "noise": 1,
}


@pytest.mark.parametrize("name", LIMITS)
def test_settings_out_of_range(name):
    for value in (-0.1, LIMITS[name] + 0.1, math.nan):
        with pytest.raises(InputError, match=f"^augment.{name} is {value}; it must be 0 to "):
            AugmentConfig(**{name: value})
    assert AugmentConfig(**{name: LIMITS[name]}).is_on
    assert not AugmentConfig().is_on


def test_a_round_resumes_with_the_same_changes(tmp_path):
    spec = importlib.util.spec_from_file_location("rounds", Path(__file__).parent / "rounds.py")
    rounds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rounds)
    rounds.lay_down(tmp_path, "image")
    config, settings = rounds.CONFIGS["triplets"], AugmentConfig(shift=0.2, noise=0.1)

    def round_(scratch: str, settings: AugmentConfig = settings):
        plain_round = rounds.training(tmp_path, scratch, "image", config)
        return replace(plain_round, augment=lambda rows, seed: augment(rows, settings, seed))

    def strike(step: int, _loss: float, _active: float) -> None:
        if step == 5:
            raise rounds.Killed

    complete = round_("whole")
    history = complete.run(config, lambda *_: None)
    with pytest.raises(rounds.Killed):
        round_("killed").run(config, strike)
    resumed_round = round_("killed")
    assert resumed_round.run(config, lambda *_: None) == history
    assert encoder_bytes(resumed_round.encoder) == encoder_bytes(complete.encoder)
    other_history = round_("other", AugmentConfig(shift=0.1)).run(config, lambda *_: None)
    assert other_history != history
