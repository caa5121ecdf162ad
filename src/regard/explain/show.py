"""An explanation as a page in a cell of a notebook."""

from __future__ import annotations

from os import PathLike

from regard.explain.explanation import explain
from regard.explain.page import NotebookFrame
from regard.tasks import Predictor


def show(
    predictor: Predictor,
    text: str | PathLike[str],
    *,
    context: str | None = None,
    output: str | None = None,
    contrast: str | None = None,
    height: int = 720,
) -> NotebookFrame:
    """Explain the prediction of a model for an input, as a page in a cell of a notebook.

    Args:
        predictor: From `regard.load`.
        text: The input: a text, a question, or the path of an image, recording or series.
        context: The text that a question is asked of.
        output: The output that is explained; None is the model's own.
        contrast: Another output that it is compared with.
        height: Height of the page in the cell, in pixels.

    Returns:
        What a notebook shows as the page, and a terminal as text.

    Raises:
        ConfigError: The text is empty, or an option does not fit the task.
        DataError: A file cannot be read.
    """
    return NotebookFrame(
        explain(predictor, text, context=context, output=output, contrast=contrast), height
    )
