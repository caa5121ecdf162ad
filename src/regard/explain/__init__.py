"""Looking into a model: its layers with their costs, and its architecture as a diagram.

>>> from regard.explain import layer_table
>>> from regard.models import Gpt, GptConfig
>>> model = Gpt(GptConfig(num_layers=2, dim=64, num_heads=2, hidden_dim=128), vocab_size=100)
>>> [row.name for row in layer_table(model, length=20) if row.depth == 0]
['embedding', 'blocks.0-1', 'norm', 'output_weight']
"""

from regard.explain.diagram import draw_diagram, save_diagram
from regard.explain.layer_table import (
    LayerRow,
    format_table,
    forward_flops_per_token,
    layer_table,
    training_flops_per_token,
)

__all__ = [
    "LayerRow",
    "draw_diagram",
    "format_table",
    "forward_flops_per_token",
    "layer_table",
    "save_diagram",
    "training_flops_per_token",
]
