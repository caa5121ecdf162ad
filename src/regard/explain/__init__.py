"""Looking into a model: why it gave an output, what its layers cost, its architecture as a diagram.

`explain` computes everything that is known about one prediction; `show` is its page in a notebook,
`save_page` in a file, and `explanation_svg` its picture. `predict` opens a prediction, for methods
of attribution (`regard.explain.attribution`), measures of their faithfulness, heads and lenses.

>>> from regard.explain import layer_table
>>> from regard.models import Gpt, GptConfig
>>> model = Gpt(GptConfig(num_layers=2, dim=64, num_heads=2, hidden_dim=128), vocab_size=100)
>>> [row.name for row in layer_table(model, length=20) if row.depth == 0]
['embedding', 'blocks.0-1', 'norm', 'output_weight']
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.explain.curvature import Curvature, curvature
    from regard.explain.diagram import draw_diagram, save_diagram
    from regard.explain.document import Explanation
    from regard.explain.explanation import ModelFacts, explain
    from regard.explain.heads import head_effects, head_importance
    from regard.explain.influence import InfluenceOptions
    from regard.explain.layer_table import (
        LayerRow,
        format_table,
        forward_flops_per_token,
        layer_table,
        training_flops_per_token,
    )
    from regard.explain.lens import encoder_lens, logit_lens
    from regard.explain.open_prediction import predict
    from regard.explain.page import (
        NotebookFrame,
        explanation_svg,
        format_text,
        page_html,
        save_page,
    )
    from regard.explain.query_key import query_key_attribution
    from regard.explain.show import show

import_lazily(__name__)

__all__ = [
    "Curvature",
    "Explanation",
    "InfluenceOptions",
    "LayerRow",
    "ModelFacts",
    "NotebookFrame",
    "curvature",
    "draw_diagram",
    "encoder_lens",
    "explain",
    "explanation_svg",
    "format_table",
    "format_text",
    "forward_flops_per_token",
    "head_effects",
    "head_importance",
    "layer_table",
    "logit_lens",
    "page_html",
    "predict",
    "query_key_attribution",
    "save_diagram",
    "save_page",
    "show",
    "training_flops_per_token",
]
