"""An image that is explained, for the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_url(image: NDArray) -> str:
    """Return an image as a PNG data URL.

    Args:
        image: ``[channels, height, width]``; bytes, or numbers of any range, whose smallest is
            black and whose largest is white.

    >>> png_url(np.zeros((1, 2, 3), dtype=np.uint8))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = (255 * (image - low) / ((high - low) or 1.0)).round().astype(np.uint8)
    pixels = image[0] if len(image) != 3 else image.transpose(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
