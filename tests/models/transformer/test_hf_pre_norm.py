"""Pegasus, mBART and M2M100 checkpoints: equal logits in both directions, defaults, refusals."""

from __future__ import annotations

import random

import msgspec
import pytest
import torch
from tests.models.published_translators import (
    VOCAB,
    assert_comes_back,
    assert_equal_models,
    assert_every_parameter_has_its_place,
    assert_not_read,
    assert_not_written,
    drawn_fields,
    drawn_model,
    imported,
    opened_by_peer,
    rewrite,
    write,
)
from tests.models.published_weights import padded_ids, read_transformer, spread

from regard.errors import WeightsError
from regard.hub.export.formats import choose_format
from regard.layers.attention_config import AttentionConfig
from regard.models import CHECKPOINT_FORMATS
from regard.models.transformer.model import TransformerConfig

CLASSES = {"pegasus": "Pegasus", "mbart": "MBart", "m2m_100": "M2M100"}
_PARTS = ("Config", "ForConditionalGeneration")
SIZES = {"num_encoder_layers": 2, "num_decoder_layers": 1, "dim": 8, "num_heads": 2}
CONFIGS = {
    "pegasus": TransformerConfig(
        **SIZES,
        hidden_dim=12,
        positions="sinusoidal_halves",
        max_positions=24,
        has_output_bias=True,
        pad_id=0,
        start_id=0,
    ),
    "mbart": TransformerConfig(
        **SIZES,
        hidden_dim=12,
        positions="learned",
        max_positions=24,
        position_offset=2,
        has_embedding_norm=True,
        has_output_bias=True,
        pad_id=1,
        start_id=2,
    ),
    "m2m_100": TransformerConfig(
        **SIZES,
        hidden_dim=12,
        positions="sinusoidal_fairseq",
        max_positions=24,
        position_offset=2,
        pad_id=1,
        start_id=2,
    ),
}


@pytest.fixture(scope="module")
def transformers(transformers):
    names = [f"{name}{part}" for name in CLASSES.values() for part in _PARTS]
    return imported(transformers, "AutoModelForSeq2SeqLM", *names)


def drawn_ids(pad_id, start_id):
    """Draw sources of several lengths, padded, and targets that begin with a token."""
    source = padded_ids(VOCAB, (19, 9, 1), pad_id)
    target = padded_ids(VOCAB, (9, 9, 9), pad_id)
    target[:, 0] = start_id
    return source, target


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", CLASSES)
def test_a_published_model_has_its_logits_here(kind, seed, tmp_path, transformers):
    fields = drawn_fields(random.Random(seed), ("relu", "gelu", "gelu_new", "silu"))
    configure, build = (getattr(transformers, CLASSES[kind] + part) for part in _PARTS)
    theirs = build(configure(**fields, max_position_embeddings=24)).eval()
    spread(theirs, gain=1.5)
    if kind != "m2m_100":  # which has none
        theirs.final_logits_bias.normal_()
    theirs.save_pretrained(tmp_path)
    ours = read_transformer(tmp_path)
    assert ours.config.norm == "pre"
    assert_equal_models(ours, theirs, drawn_ids(ours.config.pad_id, ours.config.start_id))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("changes", [{}, {"activation": "gelu", "has_output_bias": False}], ids=str)
def test_an_exported_model_has_its_logits_in_transformers(kind, changes, tmp_path, transformers):
    ours = drawn_model(CONFIGS[kind], **changes)
    theirs = opened_by_peer(transformers, tmp_path, ours, CHECKPOINT_FORMATS[kind])
    assert theirs.config.model_type == kind
    assert_equal_models(ours, theirs, drawn_ids(ours.config.pad_id, ours.config.start_id))


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_exported_comes_back_exactly(kind, tmp_path):
    config = CONFIGS[kind]
    ids = drawn_ids(config.pad_id, config.start_id)
    assert_comes_back(tmp_path, drawn_model(config), CHECKPOINT_FORMATS[kind], ids)
    assert_every_parameter_has_its_place(config, CHECKPOINT_FORMATS[kind])


@pytest.mark.parametrize("kind", CLASSES)
def test_a_pre_norm_model_takes_the_format_that_has_its_positions(kind):
    model = drawn_model(CONFIGS[kind])
    chosen = choose_format(model, model.config, (), AttentionConfig())
    assert chosen.model_type == kind


def test_empty_files_are_the_defaults_of_transformers(transformers):
    for kind, name in CLASSES.items():
        theirs = getattr(transformers, f"{name}Config")()
        config = CHECKPOINT_FORMATS[kind].read({})
        assert config == CHECKPOINT_FORMATS[kind].read(theirs.to_dict())
        assert (config.dim, config.norm, config.pad_id) == (1024, "pre", theirs.pad_token_id)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "mbart",
            {"architectures": ["MBartForCausalLM"]},
            "config.json: architectures=MBartForCausalLM: gives the decoder alone, and only "
            "MBartForConditionalGeneration, which writes texts, is computed.",
        ),
        (
            "pegasus",
            {"add_final_layer_norm": False},
            "config.json: add_final_layer_norm=false: no such variant here, "
            "add_final_layer_norm=true alone is computed.",
        ),
        (
            "m2m_100",
            {"decoder_start_token_id": 1, "pad_token_id": 1},
            "config.json: decoder_start_token_id=1 is pad_token_id, too: the first token would "
            "have no position.  The two must differ.",
        ),
        (
            "m2m_100",
            {"tie_word_embeddings": False},
            "config.json: tie_word_embeddings=false: no such variant here, "
            "tie_word_embeddings=true alone is computed.",
        ),
        (
            "pegasus",
            {"static_position_embeddings": False},
            "config.json: static_position_embeddings=false: no such variant here, "
            "static_position_embeddings=true alone is computed.",
        ),
    ],
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(kind, fields, message):
    assert_not_read(CHECKPOINT_FORMATS[kind], fields, message)


@pytest.mark.parametrize("kind", CLASSES)
def test_decoding_with_a_cache_equals_the_whole_pass(kind):
    model = drawn_model(CONFIGS[kind]).double()
    model.compute_dtype = torch.float64
    source, target = drawn_ids(model.config.pad_id, model.config.start_id)
    whole, state = model(source, target), model.init_state(source)
    for index in range(target.shape[1]):
        logits = model.decode_step(target[:, index], state)
        torch.testing.assert_close(logits, whole[:, index], rtol=0, atol=1e-12)


def test_a_trained_table_in_place_of_sinusoids_is_refused(tmp_path):
    tensors = write(tmp_path, drawn_model(CONFIGS["pegasus"]), CHECKPOINT_FORMATS["pegasus"])
    rewrite(tmp_path, tensors)
    read_transformer(tmp_path)
    name = "model.decoder.embed_positions.weight"
    rewrite(tmp_path, tensors | {name: tensors[name] + 0.1})
    with pytest.raises(WeightsError, match=f"tensor {name} has other numbers than config.json"):
        read_transformer(tmp_path)


def test_a_position_that_does_not_follow_from_the_padding_is_not_written():
    assert_not_written(
        CHECKPOINT_FORMATS["m2m_100"],
        msgspec.structs.replace(CONFIGS["m2m_100"], position_offset=0),
        "model.position_offset=0: m2m_100 checkpoints have 2 only.",
    )


def test_old_files_of_m2m100_have_its_sinusoids_which_are_left_out(tmp_path):
    ours, table = drawn_model(CONFIGS["m2m_100"]), "model.encoder.embed_positions.weights"
    tensors = write(tmp_path, ours, CHECKPOINT_FORMATS["m2m_100"])
    assert table not in tensors
    rewrite(tmp_path, tensors | {table: torch.zeros(26, 8)})
    assert torch.equal(read_transformer(tmp_path).output_weight, ours.output_weight)
