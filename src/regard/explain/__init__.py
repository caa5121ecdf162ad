"""Looking into a model: why it gave an output, what its layers cost, its architecture as a diagram.

`explain` computes everything that is known about one prediction; `show` is its page in a notebook,
`save_page` in a file, and `explanation_svg` its picture.

>>> from regard.explain import layer_table
>>> from regard.models import Gpt, GptConfig
>>> model = Gpt(GptConfig(num_layers=2, dim=64, num_heads=2, hidden_dim=128), vocab_size=100)
>>> [row.name for row in layer_table(model, length=20) if row.depth == 0]
['embedding', 'blocks.0-1', 'norm', 'output_weight']
"""

from regard.explain.diagram import draw_diagram, save_diagram
from regard.explain.document import Explanation
from regard.explain.explanation import ModelFacts, explain
from regard.explain.layer_table import (
    LayerRow,
    format_table,
    forward_flops_per_token,
    layer_table,
    training_flops_per_token,
)
from regard.explain.page import NotebookFrame, explanation_svg, format_text, page_html, save_page
from regard.tasks import Predictor

__all__ = [
    "Explanation",
    "LayerRow",
    "ModelFacts",
    "NotebookFrame",
    "draw_diagram",
    "explain",
    "explanation_svg",
    "format_table",
    "format_text",
    "forward_flops_per_token",
    "layer_table",
    "page_html",
    "save_diagram",
    "save_page",
    "show",
    "training_flops_per_token",
]


def show(
    predictor: Predictor,
    text: str,
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
