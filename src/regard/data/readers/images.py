"""Images: read by Pillow, brought to one size and number of channels.

Cost: decoding, and one pass over the pixels where the size differs.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from regard.data.readers.source import open_file
from regard.errors import ConfigError, DataError

_GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")


class ImageSize(NamedTuple):
    """The size of an image in pixels, with 1 channel in gray and 3 in color."""

    height: int
    width: int
    channels: int


def read_image_size(path: str | Path) -> ImageSize:
    """Return the size of an image, from its header."""
    with _open_image(path) as image:
        return ImageSize(image.height, image.width, 1 if image.mode in _GREY else 3)


def most_common_size(sizes: Iterable[ImageSize]) -> ImageSize:
    """Return the size that most images have, in color if any image is.

    >>> most_common_size([ImageSize(8, 8, 1), ImageSize(4, 4, 3), ImageSize(8, 8, 1)])
    ImageSize(height=8, width=8, channels=3)
    """
    sizes = list(sizes)
    ((height, width), _), *_ = Counter((size.height, size.width) for size in sizes).most_common(1)
    return ImageSize(height, width, max(size.channels for size in sizes))


def read_image(path: str | Path, size: ImageSize) -> NDArray[np.uint8]:
    """Return an image scaled to a size, ``[channels, height, width]``, 0 to 255.

    It is upright by its EXIF orientation, and its transparent parts are white.

    Raises:
        DataError: It cannot be read.
    """
    with _open_image(path) as image:
        try:
            pixels = _pixels(_pillow().ImageOps.exif_transpose(image), size.channels)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(_describe_unreadable(path, str(error))) from error
    return scaled(pixels, size)


def scaled(pixels: NDArray[Any], size: ImageSize) -> NDArray[Any]:
    """Scale an image by bilinear interpolation, with the mean where it becomes smaller.

    Args:
        pixels: Bytes or float32, of shape ``[channels, height, width]``.
        size: The new size; gray becomes color by repetition, color becomes gray by the mean.

    Returns:
        ``[channels, height, width]`` of the same type.
    """
    if pixels.shape == (size.channels, size.height, size.width):
        return pixels
    image = torch.from_numpy(np.array(pixels, np.float32))  # a copy: some are read-only
    if image.shape[0] != size.channels:
        image = image.mean(0, keepdim=True).expand(size.channels, -1, -1)
    if image.shape[1:] != (size.height, size.width):
        image = F.interpolate(
            image[None], (size.height, size.width), mode="bilinear", antialias=True
        )[0]
    if pixels.dtype == np.uint8:
        image = image.round().clamp(0, 255).byte()
    return image.contiguous().numpy()


def _pixels(image: Any, channels: int) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image, ``[channels, height, width]``."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)[None].repeat(channels, 0)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = _pillow().Image.new("RGBA", image.size, "white")
        image = _pillow().Image.alpha_composite(white, image)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _open_image(path: str | Path) -> Iterator[Any]:
    """Open an image with Pillow, which reads its header only."""
    pillow = _pillow()
    with open_file(str(path)) as stream:
        try:
            image = pillow.Image.open(stream)
        except pillow.UnidentifiedImageError as error:
            cause = "no format that Pillow knows"
            raise DataError(_describe_unreadable(path, cause)) from error
        except (OSError, SyntaxError, ValueError, pillow.Image.DecompressionBombError) as error:
            raise DataError(_describe_unreadable(path, str(error))) from error
        yield image


def _describe_unreadable(path: str | Path, cause: str) -> str:
    return (
        f"{path}: the image cannot be read ({cause}).  Leave it out, or convert it: "
        f"magick {shlex.quote(str(path))} fixed.png"
    )


def _pillow() -> ModuleType:
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise ConfigError(
            "images are read by Pillow, which is not installed.  Install it: pip install pillow"
        ) from error
    return PIL
