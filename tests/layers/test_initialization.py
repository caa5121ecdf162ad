"""Initial values that are drawn from a normal distribution."""

import subprocess
import sys

import pytest
import torch

from regard.layers.initialization import fill_normal

_BUILD = """
import sys, torch
from regard.layers.attention_config import AttentionConfig
from regard.models import FAMILIES
for name in ("gpt", "transformer", "transformer_xl", "lstm", "conv_s2s", "bert", "longformer"):
    family = FAMILIES[name]
    with torch.device("meta"):
        family.model(family.config(), 50, AttentionConfig())
print("torch._dynamo" in sys.modules)
"""


def test_a_weight_is_filled_in_place_with_the_deviation():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.empty(100, 100))
    assert fill_normal(weight, 0.5) is weight
    assert weight.std().item() == pytest.approx(0.5, rel=0.02)
    torch.manual_seed(0)
    assert torch.equal(weight, torch.empty(100, 100).normal_(std=0.5))


@pytest.mark.slow
def test_building_on_the_meta_device_loads_no_compiler():
    process = subprocess.run(
        [sys.executable, "-c", _BUILD], capture_output=True, text=True, check=True
    )
    assert process.stdout == "False\n"
