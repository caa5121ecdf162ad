"""One training step of a model with sparse attention: memory linear in the length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Freed memory goes back to the system, so that the peak is that of what is in use.
_RETURNS_MEMORY = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
_MEASURE = """
import torch
from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

def step(length):
    ids = torch.randint(3, 8, (1, length))
    model(ids, ids).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()

torch.set_num_threads(1)
config = TransformerConfig(
    num_encoder_layers=2, num_decoder_layers=2, dim=32, num_heads=2, hidden_dim=64
)
attention = AttentionConfig(pattern=("local:64", "local:64|global:0"), cross="local:64")
model = Transformer(config, 8, attention)
optimizer = torch.optim.AdamW(model.parameters())
step(64)
start = peak()
step(2048)
short = peak() - start
step(8192)
print((peak() - start) / short)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status")
def test_four_times_the_length_takes_four_times_the_memory_of_a_step():
    found = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        capture_output=True,
        text=True,
        check=False,
        env=_RETURNS_MEMORY,
    )
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) <= 4.4
