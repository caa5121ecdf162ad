"""Images: read by Pillow, brought to one size and number of channels.

Cost: decoding, and one pass over the pixels where the size differs.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from regard.errors import ConfigError, DataError

_GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")


class ImageSize(NamedTuple):
    """The size of an image.

    Args:
        height: In pixels.
        width: In pixels.
        channels: 1 in gray, 3 in color.
    """

    height: int
    width: int
    channels: int


def read_image_size(path: str | Path) -> ImageSize:
    """Tell the size of an image from its header.

    Raises:
        DataError: It cannot be read.
        ConfigError: Pillow is not installed.
    """
    with _opened(Path(path)) as image:
        return ImageSize(image.height, image.width, 1 if image.mode in _GREY else 3)


def most_common_size(forms: Iterable[ImageSize]) -> ImageSize:
    """Choose the size that most images have, in color where any is.

    >>> most_common_size([ImageSize(8, 8, 1), ImageSize(4, 4, 3), ImageSize(8, 8, 1)])
    ImageSize(height=8, width=8, channels=3)
    """
    forms = list(forms)
    ((height, width), _), *_ = Counter((form.height, form.width) for form in forms).most_common(1)
    return ImageSize(height, width, max(form.channels for form in forms))


def read_image(path: str | Path, form: ImageSize) -> NDArray[np.uint8]:
    """Read an image, turned as its camera was held, transparent parts white.

    Args:
        path: The file, of any format that Pillow knows.
        form: Size to scale it to.

    Returns:
        ``[channels, height, width]``, 0 to 255.

    Raises:
        DataError: It cannot be read.
        ConfigError: Pillow is not installed.
    """
    path, pillow = Path(path), _pillow()
    with _opened(path) as image:
        try:
            upright = pillow.ImageOps.exif_transpose(image)
            pixels = _pixels(upright, form.channels)
        except (OSError, SyntaxError, ValueError) as error:
            raise _refusal(path, str(error)) from error
    return scaled(pixels, form)


def scaled(pixels: NDArray[Any], form: ImageSize) -> NDArray[Any]:
    """Bring an image to a size, by bilinear interpolation over the pixels that fall together.

    Args:
        pixels: ``[channels, height, width]``, of bytes or float32.
        form: What it is brought to; gray becomes color by repetition, color gray by the mean.

    Returns:
        ``[channels, height, width]`` of the same type.
    """
    if pixels.shape == (form.channels, form.height, form.width):
        return pixels
    image = torch.from_numpy(np.array(pixels, np.float32))  # a copy: some are read-only
    if image.shape[0] != form.channels:
        image = image.mean(0, keepdim=True).expand(form.channels, -1, -1)
    if image.shape[1:] != (form.height, form.width):
        image = F.interpolate(
            image[None], (form.height, form.width), mode="bilinear", antialias=True
        )[0]
    if pixels.dtype == np.uint8:
        image = image.round().clamp(0, 255).byte()
    return image.contiguous().numpy()


def _pixels(image: Any, channels: int) -> NDArray[np.uint8]:
    """Turn a Pillow image into ``[channels, height, width]``."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)[None].repeat(channels, 0)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        below = _pillow().Image.new("RGBA", image.size, "white")
        image = _pillow().Image.alpha_composite(below, image)
    found = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return found[None] if channels == 1 else found.transpose(2, 0, 1)


def _opened(path: Path) -> Any:
    pillow = _pillow()
    try:
        return pillow.Image.open(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except pillow.UnidentifiedImageError as error:
        raise _refusal(path, "no format that Pillow knows") from error
    except (OSError, SyntaxError, ValueError, pillow.Image.DecompressionBombError) as error:
        raise _refusal(path, str(error)) from error


def _refusal(path: Path, cause: str) -> DataError:
    return DataError(
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
            "images are read by Pillow, which is not installed.  "
            "Install it: pip install 'regard[images]'"
        ) from error
    return PIL
