"""Image files of all kinds come out in one size."""

import struct
import sys
from zlib import compress, crc32

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
    found = read_image(path, ImageSize(4, 6, 1)).pixels
    assert found.dtype == np.uint8
    assert found.tolist() == [grey().tolist()]


def test_size_and_color_are_read_from_the_header(tmp_path):
    Image.fromarray(grey()).save(tmp_path / "a.png")
    Image.new("RGB", (3, 5)).save(tmp_path / "b.png")
    assert read_image_size(tmp_path / "a.png") == ImageSize(4, 6, 1)
    assert read_image_size(tmp_path / "b.png") == ImageSize(5, 3, 3)


def test_colour_comes_with_channels_first(tmp_path):
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", ImageSize(1, 2, 3)).pixels.tolist() == [
        [[1, 1]],
        [[2, 2]],
        [[3, 3]],
    ]
    assert read_image(tmp_path / "a.png", ImageSize(1, 2, 1)).pixels.shape == (1, 1, 2)


def test_transparent_parts_are_white(tmp_path):
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", ImageSize(2, 2, 1)).pixels.tolist() == [[[255, 255]] * 2]


@pytest.mark.parametrize("suffix", ["png", "pgm", "tiff"])
def test_sixteen_bits_become_fractions_of_255(tmp_path, suffix):
    values = np.array([[0, 0xFFFF, 0x1234, 1]], np.uint16)
    Image.fromarray(values).save(path := tmp_path / f"a.{suffix}")
    pixels = read_image(path, ImageSize(1, 4, 1)).pixels
    assert pixels.dtype == np.float32
    assert (pixels * 257).round().astype(int).tolist() == [values.tolist()]
    assert read_image(path, ImageSize(1, 4, 3)).pixels.shape == (3, 1, 4)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([[0.25, -3.5]], np.float32), np.float32),
        (np.array([[100_000, -7]], np.int32), np.float32),
        (np.array([[2**30, 2**30 + 1]], np.int32), np.float64),
    ],
)
def test_values_of_thirty_two_bits_are_kept(tmp_path, values, dtype):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    pixels = read_image(tmp_path / "a.tiff", ImageSize(1, 2, 1)).pixels
    assert pixels.dtype == dtype
    assert pixels[0].tolist() == values.tolist()
    assert scaled(pixels, ImageSize(1, 4, 1)).dtype == dtype


def test_values_that_are_not_finite_are_refused(tmp_path):
    Image.fromarray(np.array([[1.0, np.nan]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff: .*some of its values are not finite"):
        read_image(tmp_path / "a.tiff", ImageSize(1, 2, 1))


def png(width, height, depth=8, color=0, content=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = chunk(b"IDAT", compress(content))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png(2, 1, 16, 2, bytes(13))),
        ("a.ppm", b"P6 2 1 65535\n" + bytes(12)),
    ],
)
def test_sixteen_bits_of_color_are_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image_size(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: a color image of 16 bits a channel, of which only 8 would be read.  "
        f"Convert it: magick {tmp_path / name} -depth 8 fixed.png"
    )


@pytest.mark.parametrize(
    ("width", "height", "cause"),
    [
        (8193, 8192, "8,193 x 8,192 pixels, more than 67,108,864 in all"),
        (12_000, 12_000, "12,000 x 12,000 pixels, more than"),
        (30_000, 30_000, "could be decompression bomb"),
        (8192, 8192, "its header says 8,192 x 8,192 pixels, which [0-9]+ bytes cannot hold"),
    ],
)
def test_a_header_that_states_too_many_pixels_is_refused_before_decoding(
    tmp_path, width, height, cause
):
    (tmp_path / "a.png").write_bytes(png(width, height))
    for read in (read_image_size, lambda path: read_image(path, ImageSize(1, 1, 1)).pixels):
        with pytest.raises(DataError, match=cause):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
@pytest.mark.parametrize(("orientation", "height"), [(1, 4), (3, 4), (6, 6)])
def test_the_size_is_that_after_the_turn(tmp_path, suffix, orientation, height):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey(4, 6)).save(path := tmp_path / f"a.{suffix}", exif=exif)
    size = read_image_size(path)
    assert size == ImageSize(height, 10 - height, 1)
    assert read_image(path, size).pixels.shape == (1, height, 10 - height)


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(grey()).save(tmp_path / "a.png", exif=exif)
    assert (
        read_image(tmp_path / "a.png", ImageSize(4, 6, 1)).pixels[0].tolist()
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
    for read in (read_image_size, lambda path: read_image(path, ImageSize(1, 1, 1)).pixels):
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


@pytest.mark.parametrize("damaged", [b"MM\x06*", b"\xbeM\0*"])
def test_damaged_exif_data_is_named(tmp_path, damaged):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey()).convert("RGB").save(path := tmp_path / "a.webp", exif=exif)
    content = path.read_bytes()
    start = content.index(b"EXIF") + 8
    start = content.index(b"MM\0*" if b"MM\0*" in content else b"II*\0", start)
    path.write_bytes(content[:start] + damaged + content[start + 4 :])
    for read in (read_image_size, lambda path: read_image(path, ImageSize(6, 4, 3)).pixels):
        with pytest.raises(DataError, match=r"a\.webp: the image cannot be read"):
            read(path)


@pytest.mark.parametrize("suffix", ["gif", "tiff", "webp", "png"])
def test_frames_and_pages_are_counted_and_the_first_is_read(tmp_path, suffix):
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 90, 180)]
    frames[0].save(path := tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    image = read_image(path, ImageSize(4, 4, 1))
    assert image.num_frames == 3
    assert image.pixels.tolist() == np.zeros((1, 4, 4)).tolist()
    frames[1].save(path)
    assert read_image(path, ImageSize(4, 4, 1)).num_frames == 1


def test_the_preview_that_a_camera_adds_is_no_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8)), Image.new("RGB", (4, 4))]
    path = tmp_path / "a.jpg"
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert read_image(path, ImageSize(8, 8, 1)).num_frames == 1


@pytest.mark.parametrize("suffix", ["gif", "tiff", "webp", "png"])
def test_a_file_that_ends_within_a_later_frame_is_read_or_named(tmp_path, suffix):
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 90, 180)]
    frames[0].save(path := tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    content = path.read_bytes()
    for length in range(len(content) // 4, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:length])
        try:
            assert read_image(path, ImageSize(64, 64, 1)).pixels.shape == (1, 64, 64)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
