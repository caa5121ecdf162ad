"""Images: read by Pillow, brought to one size and number of channels.

Pixels of 8 bits stay bytes. Those of 16 bits become numbers from 0 to 255 with a fraction; those of
32 bits, integers or floating point, keep their values.

Cost: decoding, and one pass over the pixels where the size differs.
"""

from __future__ import annotations

import shlex
import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from regard.data.readers.embedded_file import (
    FileLike,
    advise_conversion,
    count_bytes,
    open_file_like,
)
from regard.errors import ConfigError, DataError

_MAX_PIXELS = 1 << 26  # 67 megapixels: a gigabyte in color while it is scaled
_SMALL_BYTES = 1 << 24  # an image of fewer bytes may be packed as well as it likes
_MAX_RATIO = 1100  # of bytes of pixels to bytes of a file: DEFLATE reaches 1032
_EXACT = 1 << 24  # float32 holds all integers up to this
_ORIENTATION = 0x0112  # the tag of EXIF
_TIFF_WIDTH, _TIFF_LENGTH = 256, 257
_TURNED = (5, 6, 7, 8)  # its values where height and width change places
_SCALED_TO_16_BITS = ("PNG", "PPM")  # formats whose images of mode I are of 16 bits
_DAMAGED = (  # what Pillow raises
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    struct.error,
)
_GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")


class ImageSize(NamedTuple):
    """The size of an image in pixels, with 1 channel in gray and 3 in color."""

    height: int
    width: int
    channels: int


class Image(NamedTuple):
    """The first image of a file.

    Args:
        pixels: ``[channels, height, width]``.
        num_frames: Frames of an animation, or pages, that the file has.
    """

    pixels: NDArray[Any]
    num_frames: int


def read_image_size(path: FileLike) -> ImageSize:
    """Return the size of an image as it is seen, by its header: after the turn that EXIF asks for.

    Raises:
        DataError: It cannot be read.
    """
    with _open_image(path) as image:
        height, width = image.height, image.width
        if image.format == "TIFF":  # some versions of Pillow have turned the size, others not
            height, width = image.tag_v2[_TIFF_LENGTH], image.tag_v2[_TIFF_WIDTH]
        try:
            orientation = _read_orientation(image)
        except _DAMAGED as error:
            raise DataError(_describe_unreadable(path, str(error))) from error
        if orientation in _TURNED:
            height, width = width, height
        return ImageSize(height, width, 1 if image.mode in _GREY else 3)


def most_common_size(sizes: Iterable[ImageSize]) -> ImageSize:
    """Return the size that most images have, in color if any image is.

    >>> most_common_size([ImageSize(8, 8, 1), ImageSize(4, 4, 3), ImageSize(8, 8, 1)])
    ImageSize(height=8, width=8, channels=3)
    """
    sizes = list(sizes)
    ((height, width), _), *_ = Counter((size.height, size.width) for size in sizes).most_common(1)
    return ImageSize(height, width, max(size.channels for size in sizes))


def read_image(path: FileLike, size: ImageSize) -> Image:
    """Return the first image of a file, scaled to a size, and how many images the file has.

    It is upright by its EXIF orientation, and its transparent parts are white.

    Returns:
        Pixels of uint8 from 0 to 255; of float32 from 0 to 255 where the file has 16 bits a pixel;
        of float32 or float64 with the values of the file where it has 32.

    Raises:
        DataError: It cannot be read.
    """
    with _open_image(path) as image:
        try:
            num_frames = _count_frames(image)
            pixels = _pixels(_pillow().ImageOps.exif_transpose(image), image.format, size.channels)
        except _DAMAGED as error:
            raise DataError(_describe_unreadable(path, str(error))) from error
    return Image(scaled(pixels, size), num_frames)


def describe_frames(num_frames: Mapping[str, int]) -> list[str]:
    """Return a sentence about the files with several frames or pages; none without such files.

    Args:
        num_frames: Frames of each such file, by its name.

    >>> describe_frames({"a.gif": 12, "b.tiff": 2})
    ['2 files have several frames or pages (a.gif has 12): the first of each is read.']
    """
    if not num_frames:
        return []
    name, count = next(iter(num_frames.items()))
    if len(num_frames) == 1:
        return [f"{name} has {count:,} frames or pages: the first is read."]
    return [
        f"{len(num_frames):,} files have several frames or pages ({name} has {count:,}): "
        "the first of each is read."
    ]


def scaled(pixels: NDArray[Any], size: ImageSize) -> NDArray[Any]:
    """Scale an image by bilinear interpolation, with the mean where it becomes smaller.

    Args:
        pixels: Bytes, float32 or float64, of shape ``[channels, height, width]``.
        size: The new size; gray becomes color by repetition, color becomes gray by the mean.

    Returns:
        ``[channels, height, width]`` of the same type.
    """
    if pixels.shape == (size.channels, size.height, size.width):
        return pixels
    dtype = np.float64 if pixels.dtype == np.float64 else np.float32
    image = torch.from_numpy(np.array(pixels, dtype))  # a copy: some are read-only
    if image.shape[0] != size.channels:
        image = image.mean(0, keepdim=True).expand(size.channels, -1, -1)
    if image.shape[1:] != (size.height, size.width):
        image = F.interpolate(
            image[None], (size.height, size.width), mode="bilinear", antialias=True
        )[0]
    if pixels.dtype == np.uint8:
        image = image.round().clamp(0, 255).byte()
    return image.contiguous().numpy()


def _count_frames(image: Any) -> int:
    """Return the number of frames or pages of a Pillow image.

    What cameras add to a picture in a JPEG file (MPO), such as a preview, is not a frame.
    """
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _pixels(image: Any, image_format: str, channels: int) -> NDArray[Any]:
    """Return the pixels of a Pillow image, ``[channels, height, width]``.

    Raises:
        ValueError: Some are not finite.
    """
    if image.mode.startswith(("I", "F")):
        return _deep_pixels(image, image_format)[None].repeat(channels, 0)
    if "a" in image.mode.lower() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = _pillow().Image.new("RGBA", image.size, "white")
        image = _pillow().Image.alpha_composite(white, image)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _deep_pixels(image: Any, image_format: str) -> NDArray[Any]:
    """Return the pixels of a gray image with more than 8 bits, ``[height, width]``."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise ValueError("some of its values are not finite")
        return values
    if image.mode != "I" or image_format in _SCALED_TO_16_BITS:
        return values.astype(np.float32) / 257  # 255 * 257 = 65535
    is_exact = -_EXACT <= values.min() <= values.max() <= _EXACT
    return values.astype(np.float32 if is_exact else np.float64)


@contextmanager
def _open_image(path: FileLike) -> Iterator[Any]:
    """Open an image with Pillow, which reads its header only; one that is too large is refused."""
    pillow = _pillow()
    with open_file_like(path) as stream, warnings.catch_warnings():
        # The limit here is lower than the one at which Pillow warns; its warnings of damaged EXIF
        # data name no file, and the pixels are whole.
        warnings.simplefilter("ignore", pillow.Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module="PIL")
        try:
            image = pillow.Image.open(stream)
        except pillow.UnidentifiedImageError as error:
            cause = "no format that Pillow knows"
            raise DataError(_describe_unreadable(path, cause)) from error
        except (*_DAMAGED, pillow.Image.DecompressionBombError) as error:
            raise DataError(_describe_unreadable(path, str(error))) from error
        _check_size(path, image, count_bytes(path))
        if _has_deep_color(image):
            raise DataError(
                f"{path}: a color image of 16 bits a channel, of which only 8 would be read.  "
                f"{_advise(path, 'Convert it', '-depth 8 ')}"
            )
        yield image


def _check_size(path: FileLike, image: Any, num_bytes: int) -> None:
    """Refuse an image that is too large, or whose header states more than its file can hold."""
    num_pixels = image.height * image.width
    size = f"{image.width:,} x {image.height:,} pixels"
    if num_pixels > _MAX_PIXELS:
        raise DataError(
            f"{path}: {size}, more than {_MAX_PIXELS:,} in all.  "
            f"{_advise(path, 'Make it smaller', '-resize 4096x4096 ')}"
        )
    bits = 1 if image.mode == "1" else 8 * len(image.getbands())
    if num_pixels * bits // 8 > max(_SMALL_BYTES, _MAX_RATIO * num_bytes):
        raise DataError(
            f"{path}: its header says {size}, which {num_bytes:,} bytes cannot hold.  Leave it out."
        )


def _has_deep_color(image: Any) -> bool:
    """Return whether Pillow reads the channels of a color image with fewer bits than they have."""
    tiles = getattr(image, "tile", ())
    return len(image.getbands()) > 1 and any(_is_deep(image.format, tile.args) for tile in tiles)


def _is_deep(image_format: str, arguments: Any) -> bool:
    """Return whether a part of an image has 16 bits a channel, by the arguments of its decoder."""
    layout, *rest = arguments if isinstance(arguments, tuple) else (arguments,)
    is_deep_ppm = image_format == "PPM" and bool(rest) and int(rest[0]) > 255
    return is_deep_ppm or ";16" in str(layout)


def _read_orientation(image: Any) -> int:
    """Return how an image is turned, 1 to 8, by its EXIF data; 1 where it has none.

    To look for the data after the pixels of a PNG file, Pillow would decode them; files that lack
    the word are passed over.
    """
    if image.format == "PNG" and "exif" not in image.info:
        position = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read()
        image.fp.seek(position)
        if not any(word in content for word in (b"eXIf", b"Raw profile", b"Orientation")):
            return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _describe_unreadable(path: FileLike, cause: str) -> str:
    return (
        f"{path}: the image cannot be read ({cause}).  "
        f"{_advise(path, 'Leave it out, or convert it')}"
    )


def _advise(path: FileLike, what: str, options: str = "") -> str:
    """Return what to do about an image, with the command that converts it."""
    return advise_conversion(path, f"{what}: magick {shlex.quote(str(path))} {options}fixed.png")


def _pillow() -> ModuleType:
    try:
        import PIL
        import PIL.Image  # noqa: F401 - an attribute of PIL
        import PIL.ImageOps  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "images are read by Pillow, which is not installed.  Install it: pip install pillow"
        ) from error
    return PIL
