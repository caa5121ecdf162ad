"""Load published weights, check them against `transformers`, and write them again.

    python examples/published_weights.py [FOLDER]

FOLDER is a folder in Hugging Face's format on your disk. Without it the example makes one: a tiny
GPT-2 with random weights, which needs `transformers`. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import regard


def write_tiny_gpt2(folder: Path) -> None:
    """Write a GPT-2 of two layers with random weights, as `transformers` does."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=100,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


def main(folder: Path) -> float:
    """Load a decoder; return the largest difference of its logits from those of `transformers`."""
    from transformers import AutoModelForCausalLM

    model = regard.load(folder).model
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{type(model).__name__}, {num_parameters:,} parameters")

    ids = torch.arange(20)[None]  # [batch, length]
    with torch.inference_mode():
        logits = model(ids)  # [batch, length, vocabulary]
        reference = AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits
    difference = (logits - reference).abs().max().item()
    print(f"largest difference of a logit from transformers: {difference:.1e}")
    return difference


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary_folder:
            write_tiny_gpt2(Path(temporary_folder))
            main(Path(temporary_folder))
