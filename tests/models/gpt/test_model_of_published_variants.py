"""Settings of Pythia, Gemma and OLMo: every way to compute with them gives the same."""

from __future__ import annotations

import pytest
import torch

from regard.errors import ConfigError
from regard.explain.module_tree import list_parts, steps_of
from regard.generation.decoders import decoding_path
from regard.generation.native import library
from regard.layers.attention_config import AttentionConfig
from regard.layers.norm import RMSNorm, ZeroCenteredRMSNorm
from regard.layers.rotary_scaling import LinearScaling
from regard.models.bert.model import BertConfig
from regard.models.encoder_decoder.model import EncoderDecoderConfig, EncoderDecoderModel
from regard.models.gpt.model import Gpt, GptConfig

VOCAB = 23
SIZES = {"num_layers": 3, "dim": 16, "num_heads": 2, "hidden_dim": 12, "dropout": 0.0}
VARIANTS = {
    "pythia": {
        "norm_kind": "layer",
        "activation": "gelu",
        "bias": True,
        "parallel_residual": True,
        "rotary_fraction": 0.25,
        "tied": False,
    },
    "gemma 2": {
        "norm": "sandwich",
        "norm_kind": "zero_centered_rms",
        "activation": "geglu_tanh",
        "has_embedding_scale": True,
        "head_dim": 6,
        "num_kv_heads": 1,
        "query_pre_attn_scalar": 3.0,
        "attention_soft_cap": 0.7,
        "logit_soft_cap": 1.5,
        "window": (4, 0, 4),
    },
    "gemma 3": {
        "norm": "sandwich",
        "norm_kind": "zero_centered_rms",
        "activation": "geglu",
        "qk_norm": True,
        "window": (4, 4, 0),
        "local_rotary_base": 50.0,
        "rotary_scaling": LinearScaling(factor=3.0),
    },
    "olmo 2": {"norm": "output", "qk_norm": "joint", "num_kv_heads": 1},
    "opt": {
        "norm_kind": "layer",
        "activation": "relu",
        "bias": True,
        "positions": "learned",
        "position_offset": 2,
    },
}
IDS = torch.randint(0, VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))


def build(settings) -> Gpt:
    torch.manual_seed(0)
    model = Gpt(GptConfig(**SIZES | settings), VOCAB).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=VARIANTS)
def settings(request):
    return VARIANTS[request.param]


@torch.inference_mode()
def test_tokens_after_cached_ones_have_the_logits_of_the_whole_text(settings):
    model = build(settings).double()
    expected, state = model(IDS), model.init_state()
    logits = [model.decode_step(IDS[:, :11], state)]
    logits += [model.decode_step(token, state) for token in IDS[:, 11:].split(1, dim=1)]
    assert torch.stack(logits, 1).allclose(expected[:, 10:], rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["pythia", "gemma 3"], indirect=True)
def test_a_graph_for_all_lengths_gives_the_same(settings):
    model = build(settings)
    torch._dynamo.reset()
    shapes = {"ids": {1: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(model, (IDS[:, :9].clone(),), dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(IDS), model(IDS), rtol=0, atol=1e-5)


def test_every_weight_gets_a_gradient(settings):
    model = build(settings)
    model(IDS).logsumexp(-1).sum().backward()
    unused = {"embedding.positions.weight"}  # has rows of other positions
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert name in unused or float(parameter.grad.abs().max()) > 0, name


def test_the_layers_have_all_weights_and_every_norm_is_a_step(settings):
    model = build(settings)
    assert sum(part.num_parameters for part in list_parts(model, 8)) == model.num_parameters
    names = {step.name for step in steps_of(model.blocks[0])}
    parameters = dict(model.blocks[0].named_parameters())
    norms = {name.rpartition(".")[0] for name in parameters if "residual" in name}
    assert norms
    assert norms <= names


@pytest.mark.skipif(library.load_fastest() is None, reason="the decoder was not compiled")
def test_the_compiled_decoder_writes(settings):
    assert decoding_path(build(settings)) == "compiled decoder, float32"


def test_heads_of_an_odd_size_that_are_partly_rotated_go_through_operators():
    path = decoding_path(build({"rotary_fraction": 0.5, "head_dim": 5}))
    reason = "the rotation of a part of each head is not covered"
    assert path == f"PyTorch's operators: {reason}"


def test_a_zero_centered_norm_begins_as_a_plain_one():
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ZeroCenteredRMSNorm(5)(x), RMSNorm(5)(x))


def test_a_decoder_with_a_source_bounds_its_logits():
    decoder = GptConfig(**SIZES, norm="sandwich", logit_soft_cap=0.25)
    config = EncoderDecoderConfig(
        encoder=BertConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=12), decoder=decoder
    )
    model = EncoderDecoderModel(config, VOCAB).eval()
    with torch.no_grad():
        model.decoder.output_weight.mul_(100)
        logits = model(IDS[:, :5] + 1, IDS[:, :6])
        state = model.init_state(IDS[:, :5] + 1)
        first = model.decode_step(IDS[:, 0], state)
    assert 0.2 < float(logits.abs().max()) <= 0.25
    assert 0.2 < float(first.abs().max()) <= 0.25
    assert not model.has_plain_logits


def test_parallel_sub_layers_with_a_source_are_refused():
    decoder = GptConfig(**SIZES, parallel_residual=True)
    with pytest.raises(ConfigError, match="parallel_residual=true: a block that attends to a"):
        EncoderDecoderModel(EncoderDecoderConfig(decoder=decoder), VOCAB, AttentionConfig())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"local_rotary_base": 9.0}, "local_rotary_base must be none where no layer has a window"),
        ({"rotary_fraction": 0.3}, r"dim / num_heads times 0.3 must be even .* not 1"),
        ({"rotary_fraction": 1.5}, "rotary_fraction must be above 0 and at most 1, not 1.5"),
        ({"position_offset": 2}, "position_offset must be 0 where positions are rotary"),
        ({"logit_soft_cap": 0.0}, "logit_soft_cap must be above 0, not 0.0"),
        (
            {"positions": "learned", "rotary_fraction": 0.5},
            "rotary_fraction must be 1 where positions are learned",
        ),
        (
            {"positions": "learned", "local_rotary_base": 9.0},
            "local_rotary_base must be none where positions are learned",
        ),
    ],
    ids=str,
)
def test_settings_that_do_nothing_or_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GptConfig(**{"num_layers": 2, "dim": 12, "num_heads": 2, "hidden_dim": 8} | settings)


def test_the_summary_has_parallel_layers_and_positions_of_norms():
    attention = AttentionConfig()
    pythia = GptConfig(**SIZES | VARIANTS["pythia"]).summary(attention)
    assert "ff 12 gelu, parallel, layer norm, rotary positions" in pythia
    gemma = GptConfig(**SIZES | VARIANTS["gemma 2"]).summary(attention)
    assert "ff 12 geglu_tanh, zero_centered_rms norm (sandwich), rotary" in gemma
