"""Pictures in one style, by matplotlib, which is imported when one is drawn and not before.

Each module has the plain records that its pictures show, and the functions that draw them:

>>> from regard.plots import Curves, draw_curves
>>> curves = Curves.from_metrics([{"event": "evaluated", "step": 10, "train_loss": 2.5}])
>>> draw_curves(curves, "curves.svg")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.plots.confusion_matrix import ClassificationPicture
    from regard.plots.curves import Curves, draw_curves
    from regard.plots.flowchart import draw_flowchart, flowchart_svg
    from regard.plots.flowchart_layout import Edge, Frame, Node
    from regard.plots.forecast_panels import ForecastPanel, draw_forecasts
    from regard.plots.output_files import (
        FORMATS,
        PictureFormat,
        picture_format,
        require_writable,
    )
    from regard.plots.score_by_length import ScoreByLengthPicture
    from regard.plots.spectrum_picture import SpectrumPicture
    from regard.plots.stability_maps import StabilityPicture

import_lazily(__name__)

__all__ = [
    "FORMATS",
    "ClassificationPicture",
    "Curves",
    "Edge",
    "ForecastPanel",
    "Frame",
    "Node",
    "PictureFormat",
    "ScoreByLengthPicture",
    "SpectrumPicture",
    "StabilityPicture",
    "draw_curves",
    "draw_flowchart",
    "draw_forecasts",
    "flowchart_svg",
    "picture_format",
    "require_writable",
]
