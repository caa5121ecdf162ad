"""Sampling by steps on fixed memory draws what the model draws, and waits for logits alone."""

from __future__ import annotations

import pytest
import torch
from tests.generation.graphs.recorded_operators import Records
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.errors import ShapeError
from regard.generation import SamplingConfig, sample
from regard.generation.graphs import GraphCausalDecoder
from regard.layers.attention_config import AttentionConfig
from regard.models import Gpt, GptConfig, TransformerConfig, TransformerDecoder

VOCAB = 24
SMALL = {"dim": 16, "num_heads": 2, "hidden_dim": 32}
MODELS = {
    "gpt": lambda: Gpt(GptConfig(num_layers=2, **SMALL), VOCAB),
    "gpt with a window": lambda: Gpt(
        GptConfig(num_layers=2, **SMALL), VOCAB, AttentionConfig(decoder="local:3")
    ),
    "gpt with bounded scores of partly rotated heads": lambda: Gpt(
        GptConfig(
            num_layers=2,
            num_kv_heads=1,
            rotary_fraction=0.5,
            query_pre_attn_scalar=3.0,
            attention_soft_cap=0.8,
            **SMALL,
        ),
        VOCAB,
    ),
    "gpt of parallel sub-layers": lambda: Gpt(
        GptConfig(num_layers=2, parallel_residual=True, logit_soft_cap=2.0, **SMALL), VOCAB
    ),
    "gpt with norms of outputs and two kinds of angles": lambda: Gpt(
        GptConfig(
            num_layers=2,
            norm="sandwich",
            qk_norm="joint",
            window=(3, 0),
            local_rotary_base=9.0,
            activation="geglu",
            **SMALL,
        ),
        VOCAB,
    ),
    "transformer": lambda: TransformerDecoder(
        TransformerConfig(num_decoder_layers=2, positions="rotary", **SMALL), VOCAB
    ),
}


def build(name="gpt"):
    torch.manual_seed(0)
    return MODELS[name]().double().eval()


def drawn(model, prompt, **options):
    config = SamplingConfig(max_tokens=40, **options)
    generator = torch.Generator().manual_seed(1)
    steps = sample(model, prompt, config, num=3, generator=generator)
    return torch.stack([drawn.tokens for drawn in steps], dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prompt", [[5], [5, 6, 7, 3, 4]])
def test_recorded_steps_draw_the_tokens_of_the_model(name, prompt):
    """The outputs are longer than the first memory."""
    model, records = build(name), Records()
    tokens = drawn(GraphCausalDecoder(model, record=records), prompt)
    assert torch.equal(tokens, drawn(model, prompt))
    assert records.num_recorded == 2
    assert records.num_replayed > 25


def test_rows_that_are_selected_later_continue_their_own():
    model, decoder = build(), GraphCausalDecoder(build(), record=Records())
    states = model.init_state(), decoder.init_state()
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for number, num_new in enumerate([3, 1, 1, 1, 2, 1, 1]):
            ids = torch.randint(0, VOCAB, (2 if number < 3 else 3, num_new), generator=generator)
            expected, logits = (
                each.decode_step(ids, state)
                for each, state in zip((model, decoder), states, strict=True)
            )
            torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
            if number == 2:
                for state in states:
                    state.select(torch.tensor([1, 1, 0]))
                    state.select(torch.tensor([2, 1, 0]))
    assert len(states[0]) == len(states[1]) == 10
    with pytest.raises(ShapeError, match="3 rows of tokens are expected, not 2"):
        decoder.decode_step(torch.zeros(2, 1, dtype=torch.long), states[1])


def test_a_step_of_sampling_waits_for_its_logits_alone():
    with PretendedGpu() as gpu:
        model = build().to(DEVICE)
        decoder = GraphCausalDecoder(model, record=None)
        generator, waits = torch.Generator().manual_seed(1), []
        config = SamplingConfig(max_tokens=12)
        for _ in sample(decoder, [5, 6, 7], config, num=3, generator=generator):
            waits.append(list(gpu.waits))
            gpu.waits.clear()
    assert len(waits) == 12
    for of_step in waits[1:]:
        assert [wait.partition(" at ")[2].split(":")[0] for wait in of_step] == [
            "generation/sampling.py"
        ]
