"""Image files of all kinds come out in one size."""

import sys

import numpy as np
import pytest

from regard.data.readers.images import ImageSize, read_image, read_image_size, scaled
from regard.errors import ConfigError, DataError

pytest.importorskip("PIL")
from PIL import Image


def grey(height=4, width=6):
    return np.arange(height * width, dtype=np.uint8).reshape(height, width) * 7


@pytest.mark.parametrize("suffix", ["png", "bmp", "pgm", "tiff", "gif"])
def test_grey_images_are_read_to_the_last_bit(tmp_path, suffix):
    Image.fromarray(grey()).save(path := tmp_path / f"a.{suffix}")
    found = read_image(path, ImageSize(4, 6, 1))
    assert found.dtype == np.uint8
    assert found.tolist() == [grey().tolist()]


def test_size_and_color_are_read_from_the_header(tmp_path):
    Image.fromarray(grey()).save(tmp_path / "a.png")
    Image.new("RGB", (3, 5)).save(tmp_path / "b.png")
    assert read_image_size(tmp_path / "a.png") == ImageSize(4, 6, 1)
    assert read_image_size(tmp_path / "b.png") == ImageSize(5, 3, 3)


def test_colour_comes_with_channels_first(tmp_path):
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", ImageSize(1, 2, 3)).tolist() == [
        [[1, 1]],
        [[2, 2]],
        [[3, 3]],
    ]
    assert read_image(tmp_path / "a.png", ImageSize(1, 2, 1)).shape == (1, 1, 2)


def test_transparent_parts_are_white(tmp_path):
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", ImageSize(2, 2, 1)).tolist() == [[[255, 255]] * 2]


def test_sixteen_bits_become_eight(tmp_path):
    Image.fromarray(np.array([[0, 0xFFFF, 0x1234]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", ImageSize(1, 3, 1)).tolist() == [[[0, 255, 0x12]]]


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(grey()).save(tmp_path / "a.png", exif=exif)
    assert (
        read_image(tmp_path / "a.png", ImageSize(4, 6, 1))[0].tolist()
        == grey()[::-1, ::-1].tolist()
    )


def test_scaling_takes_the_mean_of_pixels_that_fall_together():
    pixels = np.array([[[0, 0, 8, 8], [0, 0, 8, 8]]], np.float32)
    assert scaled(pixels, ImageSize(2, 4, 1)) is pixels
    found = scaled(pixels, ImageSize(1, 2, 3))
    assert found.shape == (3, 1, 2)
    assert found[0, 0, 0] < 2 < 6 < found[0, 0, 1]


def test_a_file_that_is_not_an_image_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no image")
    for read in (read_image_size, lambda path: read_image(path, ImageSize(1, 1, 1))):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: the image cannot be read (no format that Pillow knows).  "
            f"Leave it out, or convert it: magick {path} fixed.png"
        )


def test_an_image_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"a\.png: the image cannot be read \(.*truncated"):
        read_image(path, ImageSize(64, 64, 1))


def test_a_missing_image_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        read_image_size(tmp_path / "a.png")
    assert str(caught.value) == f"{tmp_path / 'a.png'}: no such file."


def test_a_missing_pillow_is_refused_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError) as caught:
        read_image_size(tmp_path / "a.png")
    assert str(caught.value) == (
        "images are read by Pillow, which is not installed.  Install it: pip install pillow"
    )
