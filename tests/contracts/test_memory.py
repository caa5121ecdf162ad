"""The memory of sparse attention, alone and in a step of a model, is linear in the length."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status"),
]
# Freed memory goes back to the system, so that the peak is that of what is in use.
_RETURNS_MEMORY = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
_MEASURE = """
import json, multiprocessing, sys, torch
from regard.attention import Blocks, Causal, Global, Local, Strided, attend
from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

def run(length, source, order):
    pattern = eval(source)
    heads = 4 if order == "value" else 1  # the kernel counts pages in steps of a quarter megabyte
    q, k, v = (torch.randn(1, heads, length, 64, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, pattern=pattern)
    if order != "value":
        grads = torch.autograd.grad(out.square().sum(), (q, k, v), create_graph=order == "hvp")
    if order == "hvp":
        torch.autograd.grad(sum(g.sum() for g in grads), (q, k, v))

def ratio(case):
    run(1024, *case)  # loads what long texts need
    open("/proc/self/clear_refs", "w").write("5")  # the peak becomes the current size
    start = peak()
    run(2048, *case)
    short = peak() - start
    run(8192, *case)
    return (peak() - start) / short

def ratio_of_steps():
    config = TransformerConfig(
        num_encoder_layers=2, num_decoder_layers=2, dim=32, num_heads=2, hidden_dim=64
    )
    attention = AttentionConfig(pattern=("local:64", "local:64|global:0"), cross="local:64")
    model = Transformer(config, 8, attention)
    optimizer = torch.optim.AdamW(model.parameters())

    def step(length):
        ids = torch.randint(3, 8, (1, length))
        model(ids, ids).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(64)
    start = peak()
    step(2048)
    short = peak() - start
    step(8192)
    return (peak() - start) / short

torch.set_num_threads(1)
cases = [(pattern, order) for pattern in sys.argv[1:] for order in ("value", "gradient", "hvp")]
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as processes:
    attention = list(zip(cases, processes.map(ratio, cases, chunksize=1)))
    print(json.dumps([attention, processes.apply(ratio_of_steps)]))
"""
PATTERNS = [
    "Local(63, 0)",
    "Local(63, 0) | Global((0, 1))",
    "Strided(length // 64) & Causal()",
    "Blocks.random(length // 64, length // 64, 64, per_row=3, seed=1)",
]


@pytest.fixture(scope="module")
def ratios():
    """The peak of memory of four times the length, over that of the length, by what computes."""
    process = subprocess.run(
        [sys.executable, "-c", _MEASURE, *PATTERNS],
        capture_output=True,
        text=True,
        check=False,
        env=_RETURNS_MEMORY,
    )
    assert process.returncode == 0, process.stderr
    attention, steps = json.loads(process.stdout)
    return {" ".join(case): ratio for case, ratio in attention}, steps


def test_four_times_the_length_takes_four_times_the_memory(ratios):
    of_attention, _ = ratios
    assert len(of_attention) == 3 * len(PATTERNS)
    assert max(of_attention.values()) <= 4.4, of_attention


def test_four_times_the_length_takes_four_times_the_memory_of_a_step(ratios):
    _, of_steps = ratios
    assert of_steps <= 4.4
