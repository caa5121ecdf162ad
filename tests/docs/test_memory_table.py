"""The table of memory in `docs/limits.md` is what a run predicts."""

import re
from pathlib import Path

import pytest
import torch

from regard.layers.attention_config import AttentionConfig
from regard.models import Bert, Gpt, Transformer
from regard.setup.estimate import format_size, predict_training_bytes
from regard.setup.presets import ENCODER_PRESETS, LANGUAGE_MODEL_PRESETS, SEQ2SEQ_PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"
ROWS = re.findall(r"^\| `(\w+)` `(\w+)` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
FAMILIES = {
    "transformer": (Transformer, SEQ2SEQ_PRESETS),
    "gpt": (Gpt, LANGUAGE_MODEL_PRESETS),
    "bert": (Bert, ENCODER_PRESETS),
}
LIBRARY_BYTES = 500_000_000  # Python and PyTorch, as the page says


def test_the_table_has_the_presets_of_three_families():
    assert [(family, preset) for family, preset, _ in ROWS] == [
        (family, preset) for family in FAMILIES for preset in ("tiny", "small", "base")
    ]


@pytest.mark.parametrize(("family", "preset", "cells"), ROWS)
def test_a_row_has_the_predicted_sizes(family, preset, cells):
    build, presets = FAMILIES[family]
    sizes = presets[family][preset]
    with torch.device("meta"):
        model = build(sizes.model, 2_000 if preset == "tiny" else 8_000)
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    memory = [
        LIBRARY_BYTES
        + 4 * num_weights
        + predict_training_bytes(model, AttentionConfig(), sizes.batch_tokens, length)
        for length in (512, 2_048, 8_192)
    ]
    millions = num_weights / 1e6
    assert cells.split(" | ") == [
        f"{millions:.{1 if millions < 10 else 0}f} M",
        f"{sizes.batch_tokens:,}",
        *map(format_size, memory),
    ]
