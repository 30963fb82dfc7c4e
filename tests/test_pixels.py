"""Decoding: every kind of image to RGB, every kind of mask to booleans."""

import numpy as np
import pytest
from PIL import Image
from trees import mask, picture

from bench.data import Sample, decode


def sample(path, hidden=None, label=0):
    return Sample("bolt", "test", path, hidden, label, "good" if not label else "scratch")


def ramp(kind=np.uint8, top=255):
    return np.linspace(0, top, 64 * 64).reshape(64, 64).astype(kind)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "P", "CMYK", "1", "I"])
def test_every_mode_of_a_grey_ramp_decodes_to_that_ramp(tmp_path, mode):
    wanted = ramp()
    picture_ = Image.fromarray(ramp(np.uint16, 65535)) if mode == "I;16" else Image.fromarray(wanted)
    if mode == "I":
        picture_ = Image.fromarray(ramp(np.int32, 65535))
    elif mode == "P":
        picture_ = Image.fromarray(255 - wanted)
        picture_.putpalette([value for level in range(255, -1, -1) for value in (level, level, level)])
    elif mode == "1":
        wanted = (wanted > 127).astype(np.uint8) * 255
        picture_ = Image.fromarray(wanted).convert("1", dither=Image.Dither.NONE)
    elif mode != "I;16":
        picture_ = picture_.convert("RGB").convert(mode) if mode == "CMYK" else picture_.convert(mode)
    assert picture_.mode == mode
    path = tmp_path / f"ramp.{'tif' if mode in ('CMYK', 'I') else 'png'}"
    picture_.save(path)
    image, none = decode(sample(path), 64)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - wanted[..., None]).max() <= 1
    assert not none.any()


def test_alpha_is_dropped_not_blended(tmp_path):
    colours = np.full((8, 8, 4), 200, np.uint8)
    colours[..., 3] = 0
    Image.fromarray(colours).save(tmp_path / "clear.png")
    assert (decode(sample(tmp_path / "clear.png"), 8)[0] == 200).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "palette.png", transparency=b"\xff\x00")
    assert (decode(sample(tmp_path / "palette.png"), 8)[0] == (10, 20, 30)).all()


def test_nothing_is_cropped(tmp_path):
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 20:] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image, _ = decode(sample(tmp_path / "wide.png"), 10)
    assert (image[:, :4] == 0).all()
    assert (image[:, 6:] == 255).all()


def test_resizing_is_antialiased_for_images_and_nearest_for_masks(tmp_path):
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    image, small = decode(sample(tmp_path / "board.png", mask(tmp_path / "m.png", (64, 64)), 1), 16)
    assert np.abs(image.astype(int) - 128).max() <= 2
    assert small.sum() == 9


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([0, 1, 3], [0, 1, 1]),
        ([0, 100, 255], [0, 0, 1]),  # a soft edge is cut at one half
        ([0, 128, 255], [0, 1, 1]),
        ([0, 100, 200], [0, 0, 1]),
        ([0, 101, 200], [0, 1, 1]),
        ([0, 1, 65535], [0, 0, 1]),
        ([0, 300, 300], [0, 1, 1]),
    ],
)
def test_mask_threshold(tmp_path, values, wanted):
    row = np.repeat(np.array([values]), 3, axis=0)
    Image.fromarray(row.astype(np.uint16 if row.max() > 255 else np.uint8)).save(tmp_path / "m.png")
    _, found = decode(sample(picture(tmp_path / "i.png", size=(3, 3)), tmp_path / "m.png", 1), 3)
    assert found[0].tolist() == [bool(value) for value in wanted]


def test_colour_palette_and_alpha_masks(tmp_path):
    image = picture(tmp_path / "i.png", size=(4, 4))
    indices = np.zeros((4, 4), np.uint8)
    indices[1] = 1
    white_first = Image.fromarray(1 - indices).convert("P")
    white_first.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is the defect
    red = np.zeros((4, 4, 4), np.uint8)
    red[1, :, 0], red[..., 3] = 128, 255
    for name, picture_ in (("palette", white_first), ("red", Image.fromarray(red))):
        picture_.save(tmp_path / f"{name}.png")
        assert decode(sample(image, tmp_path / f"{name}.png", 1), 4)[1].sum() == 4
