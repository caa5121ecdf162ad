"""Sizes of one side of a family alone, with the batch and rate that suit them, by task.

They are those of the families that have this role only: of `GptConfig` for language models, of
`BertConfig` for encoders, with about as many weights.
"""

from __future__ import annotations

from regard.models import ConvS2SConfig, LstmConfig, TransformerConfig
from regard.setup.config import Preset, TaskName
from regard.setup.presets import ENCODER, LANGUAGE_MODEL, Recipe, sizes_of

_LANGUAGE_MODELS: dict[str, dict[Preset, Recipe]] = {
    "transformer": sizes_of(
        LANGUAGE_MODEL,
        tiny=TransformerConfig(
            num_decoder_layers=4, dim=128, num_heads=4, hidden_dim=512, dropout=0.0
        ),
        small=TransformerConfig(num_decoder_layers=6, dim=256, num_heads=4, hidden_dim=1024),
        base=TransformerConfig(num_decoder_layers=12, dim=768, num_heads=12, hidden_dim=3072),
    ),
    "lstm": sizes_of(
        LANGUAGE_MODEL,
        tiny=LstmConfig(num_decoder_layers=2, dim=192, dropout=0.0),
        small=LstmConfig(num_decoder_layers=2, dim=512),
        # the large one of Zaremba et al. 2014
        base=LstmConfig(num_decoder_layers=2, dim=1500),
    ),
    "conv_s2s": sizes_of(
        LANGUAGE_MODEL,
        tiny=ConvS2SConfig(num_decoder_layers=6, dim=128, kernel_width=4, dropout=0.0),
        small=ConvS2SConfig(num_decoder_layers=8, dim=256, kernel_width=4),
        # as deep and wide as GCNN-13 of Dauphin et al. 2017
        base=ConvS2SConfig(num_decoder_layers=13, dim=768, kernel_width=4),
    ),
}
_ENCODERS: dict[str, dict[Preset, Recipe]] = {
    "transformer": sizes_of(
        ENCODER,
        tiny=TransformerConfig(num_encoder_layers=2, dim=128, num_heads=4, hidden_dim=512),
        small=TransformerConfig(num_encoder_layers=4, dim=256, num_heads=4, hidden_dim=1024),
        base=TransformerConfig(num_encoder_layers=12, dim=768, num_heads=12, hidden_dim=3072),
    ),
}
ROLE_RECIPES: dict[TaskName, dict[str, dict[Preset, Recipe]]] = {
    "language-modeling": _LANGUAGE_MODELS,
    "masked-language-modeling": _ENCODERS,
    "classification": _ENCODERS,
}
"""Presets of the tasks for which a family takes one side alone of what its settings describe."""
