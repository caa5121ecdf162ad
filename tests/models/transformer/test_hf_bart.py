"""BART checkpoints: equal logits in both directions, refusals, learned positions with an offset."""

from __future__ import annotations

import random

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from tests.models.published_translators import (
    VOCAB,
    assert_comes_back,
    assert_equal_models,
    assert_equal_states,
    assert_every_parameter_has_its_place,
    assert_not_read,
    assert_not_written,
    assert_repeats_are_left_alone,
    both_logits,
    drawn_fields,
    drawn_model,
    imported,
    opened_by_peer,
    rewrite,
    write,
)
from tests.models.published_weights import padded_ids, read_transformer, spread

from regard.errors import WeightsError
from regard.layers.positions import LearnedPositions
from regard.models import CHECKPOINT_FORMATS
from regard.models.transformer.model import Transformer, TransformerConfig

FORMAT = CHECKPOINT_FORMATS["bart"]
PAD = 1
CONFIG = TransformerConfig(
    num_encoder_layers=2,
    num_decoder_layers=1,
    dim=8,
    num_heads=2,
    hidden_dim=12,
    norm="post",
    activation="gelu",
    positions="learned",
    max_positions=24,
    position_offset=2,
    has_embedding_norm=True,
    has_embedding_scale=False,
    has_output_bias=True,
    pad_id=PAD,
    start_id=2,
)


@pytest.fixture(scope="module")
def transformers(transformers):
    names = ("BartConfig", "BartModel", "BartForConditionalGeneration", "AutoModelForSeq2SeqLM")
    return imported(transformers, *names)


def bart(transformers, seed: int, *, kind: str = "BartForConditionalGeneration", **changes):
    """Draw a configuration, and weights so large that a wrong activation or norm shows."""
    activations = ("gelu", "relu", "gelu_new", "silu")
    fields = {**drawn_fields(random.Random(seed), activations), "max_position_embeddings": 24}
    model = getattr(transformers, kind)(transformers.BartConfig(**fields | changes)).eval()
    spread(model, gain=1.5)  # more would spread the rounding of float32 too
    if kind == "BartForConditionalGeneration":
        model.final_logits_bias.normal_()
    return model


def drawn_ids(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sources of several lengths, padded, and targets that begin with ``</s>``."""
    longest = random.Random(seed).randint(4, 24)
    source = padded_ids(VOCAB, (longest, longest // 2, 1), PAD)
    target = padded_ids(VOCAB, (9, 9, 9), PAD)
    target[:, 0] = 2
    return source, target


# --- logits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_published_model_has_its_logits_here(seed, tmp_path, transformers):
    theirs = bart(transformers, seed)
    theirs.save_pretrained(tmp_path)
    assert_equal_models(read_transformer(tmp_path), theirs, drawn_ids(seed))


@pytest.mark.parametrize(
    "changes",
    [
        {"has_embedding_norm": False},
        {"activation": "gelu_tanh"},
        {"activation": "relu"},
        {"position_offset": 1},
        {"has_embedding_scale": True},
        {"norm": "pre"},
    ],
    ids=str,
)
def test_a_wrong_part_shows_in_the_logits(changes, tmp_path, transformers):
    theirs = bart(transformers, 0, activation_function="gelu", scale_embedding=False)
    theirs.save_pretrained(tmp_path)
    right = read_transformer(tmp_path)
    config = msgspec.structs.replace(right.config, **{"max_positions": 24} | changes)
    wrong = Transformer(config, VOCAB).eval()
    parameters = dict(right.named_parameters())
    with torch.no_grad():
        for name, parameter in wrong.named_parameters():
            if name in parameters:
                parameter.copy_(parameters[name][: len(parameter)])
    found, wanted = both_logits(wrong, theirs, drawn_ids(0))
    assert float((found - wanted).abs().max()) > 1e-3 * float(wanted.std())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "relu", "has_embedding_scale": True},
        {"activation": "gelu_tanh"},
        {"has_output_bias": False},
        {"pad_id": 3, "start_id": 0},
    ],
    ids=str,
)
def test_an_exported_model_has_its_logits_in_transformers(changes, tmp_path, transformers):
    ours = drawn_model(CONFIG, **changes)
    theirs = opened_by_peer(transformers, tmp_path, ours, FORMAT)
    assert theirs.config.model_type == "bart"
    source, target = drawn_ids(2)
    is_padding, pad_id = source == PAD, ours.config.pad_id
    source = source.masked_fill(source == pad_id, 5).masked_fill(is_padding, pad_id)
    assert_equal_models(ours, theirs, (source, target))


def test_weights_without_a_head_are_read_without_its_bias(tmp_path, transformers):
    theirs = bart(transformers, 4, kind="BartModel")
    assert_equal_states(tmp_path, theirs, drawn_ids(4))


@pytest.mark.parametrize("has_shared", [True, False])
def test_weights_without_a_head_may_have_the_table_for_each_side(
    has_shared, tmp_path, transformers
):
    theirs = bart(transformers, 4, kind="BartModel")
    theirs.save_pretrained(tmp_path)
    expected = read_transformer(tmp_path).output_weight
    tensors = load_file(tmp_path / "model.safetensors")
    sides = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    tensors |= {name: tensors["shared.weight"].clone() for name in sides}
    if not has_shared:
        del tensors["shared.weight"]
    rewrite(tmp_path, tensors)
    assert torch.equal(read_transformer(tmp_path).output_weight, expected)


# --- folders --------------------------------------------------------------------------------------


def test_what_is_exported_comes_back_exactly(tmp_path):
    assert_comes_back(tmp_path, drawn_model(CONFIG), FORMAT, drawn_ids(3))


@pytest.mark.parametrize("has_output_bias", [True, False])
def test_every_parameter_has_its_place(has_output_bias):
    config = msgspec.structs.replace(CONFIG, has_output_bias=has_output_bias)
    assert_every_parameter_has_its_place(config, FORMAT)


def test_tables_that_old_files_repeat_and_their_versions_are_left_alone(tmp_path):
    more = {"model.encoder.version": torch.tensor([3.0])}
    assert_repeats_are_left_alone(tmp_path, drawn_model(CONFIG), FORMAT, more)


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        (
            ("model.encoder.layernorm_embedding.bias", "model.decoder.embed_positions.weight"),
            {},
            "tensors model.encoder.layernorm_embedding.bias, model.decoder.embed_positions.weight "
            "are missing (64 of 66 found).",
        ),
        (
            (),
            {"model.encoder.layer_norm.weight": [8]},
            "tensor model.encoder.layer_norm.weight does not belong to this model.",
        ),
        (
            (),
            {"model.encoder.embed_positions.weight": [24, 8]},
            "tensor model.encoder.embed_positions.weight has shape [24, 8], "
            "config.json says [26, 8].",
        ),
    ],
    ids=["missing", "surplus", "mis-shaped"],
)
def test_every_tensor_that_does_not_fit_is_named(lost, added, message, tmp_path):
    tensors = write(tmp_path, drawn_model(CONFIG), FORMAT)
    tensors |= {name: torch.zeros(shape) for name, shape in added.items()}
    rewrite(tmp_path, {name: tensor for name, tensor in tensors.items() if name not in lost})
    with pytest.raises(WeightsError) as caught:
        read_transformer(tmp_path)
    assert str(caught.value) == f"{tmp_path}/: {message}"


# --- configurations -------------------------------------------------------------------------------


def test_an_empty_file_is_the_default_of_transformers(transformers):
    theirs = transformers.BartConfig()
    found = FORMAT.read({})
    assert found == FORMAT.read(theirs.to_dict())
    assert (found.num_encoder_layers, found.dim, found.num_heads) == (12, 1024, 16)
    assert (found.max_positions, found.position_offset) == (1024, 2)
    assert (found.pad_id, found.start_id) == (1, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"encoder_ffn_dim": 8, "decoder_ffn_dim": 9},
            "config.json: encoder_ffn_dim=8, decoder_ffn_dim=9: no such variant here, "
            "the two must be equal.",
        ),
        (
            {"decoder_attention_heads": 8},
            "config.json: encoder_attention_heads=16, decoder_attention_heads=8: "
            "no such variant here, the two must be equal.",
        ),
        (
            {"normalize_before": True},
            "config.json: normalize_before=true: no such variant here, "
            "normalize_before=false alone is computed.",
        ),
        (
            {"normalize_embedding": False},
            "config.json: normalize_embedding=false: no such variant here, "
            "normalize_embedding=true alone is computed.",
        ),
        (
            {"tie_word_embeddings": False},
            "config.json: tie_word_embeddings=false: no such variant here, "
            "tie_word_embeddings=true alone is computed.",
        ),
        (
            {"architectures": ["BartForSequenceClassification"]},
            "config.json: architectures=BartForSequenceClassification: gives labels of texts, "
            "and only BartForConditionalGeneration, which writes texts, is computed.",
        ),
        (
            {"architectures": ["BartForCausalLM"]},
            "config.json: architectures=BartForCausalLM: gives the decoder alone, "
            "and only BartForConditionalGeneration, which writes texts, is computed.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(fields, message):
    assert_not_read(FORMAT, fields, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "pre"}, "model.norm=pre: bart checkpoints have post only."),
        (
            {"positions": "sinusoidal", "position_offset": 0},
            "model.positions=sinusoidal: bart checkpoints have learned only.",
        ),
        ({"position_offset": 0}, "model.position_offset=0: bart checkpoints have 2 only."),
        (
            {"has_embedding_norm": False},
            "model.has_embedding_norm=false: bart checkpoints have true only.",
        ),
        ({"tied": "target"}, "model.tied=target: bart checkpoints have all only."),
        (
            {"activation": "swiglu"},
            "model.activation=swiglu: bart checkpoints have relu, gelu, gelu_tanh, silu only.",
        ),
    ],
    ids=str,
)
def test_a_setting_that_the_format_lacks_is_not_written(changes, message):
    assert_not_written(FORMAT, msgspec.structs.replace(CONFIG, **changes), message)


def test_a_norm_of_embeddings_is_not_written_for_marian():
    config = TransformerConfig(norm="post", positions="sinusoidal_halves", has_embedding_norm=True)
    message = "model.has_embedding_norm=true: marian checkpoints have false only."
    assert_not_written(CHECKPOINT_FORMATS["marian"], config, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"positions": "sinusoidal"},
            "position_offset must be 0 where positions are sinusoidal, not 2: "
            "learned and sinusoidal_fairseq ones alone have one",
        ),
        ({"position_offset": -1}, "position_offset must be 0 or more, not -1"),
        ({"max_positions": 0}, "max_positions must be 1 or more, not 0"),
    ],
    ids=str,
)
def test_positions_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError) as caught:
        msgspec.structs.replace(CONFIG, **changes)
    assert str(caught.value) == message


# --- positions and decoding -----------------------------------------------------------------------


def test_the_rows_before_the_first_position_are_taken_by_none():
    positions = LearnedPositions(4, 3, offset=2)
    assert positions.weight.shape == (5, 4)
    assert torch.equal(positions(0, 4), positions.weight[[2, 3, 4, 4]])
    assert torch.equal(positions(1, 1), positions.weight[[3]])


def test_decoding_with_a_cache_equals_the_whole_pass_with_padding():
    model, (source, target) = drawn_model(CONFIG).double(), drawn_ids(5)
    model.compute_dtype = torch.float64
    whole, state = model(source, target), model.init_state(source)
    for place in range(target.shape[1]):
        logits = model.decode_step(target[:, place], state)
        torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=1e-12)
