"""Marian checkpoints: equal logits in both directions, refusals, padding that is not 0, search."""

from __future__ import annotations

import random

import msgspec
import pytest
import torch
from tests.models.published_translators import (
    assert_comes_back,
    assert_equal_models,
    assert_equal_states,
    assert_every_parameter_has_its_place,
    assert_not_read,
    assert_not_written,
    assert_repeats_are_left_alone,
    drawn_fields,
    drawn_model,
    imported,
    opened_by_peer,
    rewrite,
    write,
)
from tests.models.published_weights import read_transformer, spread

from regard.data.batching import SpecialIds
from regard.errors import WeightsError
from regard.generation.beam_search import beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.layers.positions import SinusoidalPositions, sinusoids
from regard.models import CHECKPOINT_FORMATS
from regard.models.transformer.model import TransformerConfig

FORMAT = CHECKPOINT_FORMATS["marian"]
PAD = 30
SEEDS = range(8)
CONFIG = TransformerConfig(
    num_encoder_layers=2,
    num_decoder_layers=1,
    dim=8,
    num_heads=2,
    hidden_dim=12,
    norm="post",
    activation="silu",
    positions="sinusoidal_halves",
    max_positions=40,
    has_embedding_scale=False,
    has_output_bias=True,
    pad_id=PAD,
    start_id=PAD,
)


@pytest.fixture(scope="module")
def transformers(transformers):
    names = ("MarianConfig", "MarianMTModel", "MarianModel", "AutoModelForSeq2SeqLM")
    return imported(transformers, *names)


def marian(transformers, seed: int, *, kind: str = "MarianMTModel", **changes):
    """Draw a configuration, and weights so large that a wrong activation or norm shows."""
    draw = random.Random(seed)
    share = draw.choice([True, False])
    fields = {
        **drawn_fields(draw, ("swish", "silu", "relu", "gelu", "gelu_new")),
        "max_position_embeddings": 40,
        "share_encoder_decoder_embeddings": share,
        "tie_word_embeddings": share or draw.choice([True, False]),
        "pad_token_id": PAD,
        "decoder_start_token_id": PAD,
        "forced_eos_token_id": None,
    }
    model = getattr(transformers, kind)(transformers.MarianConfig(**fields | changes)).eval()
    spread(model, gain=1.5, seed=seed)
    if kind == "MarianMTModel":
        model.final_logits_bias.normal_()
    return model


def drawn_ids(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sources of several lengths, padded, and targets that begin with the padding's id."""
    generator = torch.Generator().manual_seed(seed)
    longest = random.Random(seed).randint(3, 20)
    source = torch.randint(PAD, (4, longest), generator=generator)  # 0 (</s>) within as well
    for row, length in enumerate((longest, longest // 2 + 1, 1)):
        source[row, length:] = PAD
    target = torch.randint(PAD, (4, 9), generator=generator)
    target[:, 0] = PAD
    return source, target


# --- logits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_published_model_has_its_logits_here(seed, tmp_path, transformers):
    theirs = marian(transformers, seed)
    theirs.save_pretrained(tmp_path)
    assert_equal_models(read_transformer(tmp_path), theirs, drawn_ids(seed))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "relu", "has_embedding_scale": True},
        {"activation": "gelu_tanh", "tied": "target"},
        {"activation": "gelu", "tied": "none"},
        {"has_output_bias": False},
        {"pad_id": PAD, "start_id": 1},
    ],
    ids=str,
)
def test_an_exported_model_has_its_logits_in_transformers(changes, tmp_path, transformers):
    ours = drawn_model(CONFIG, **changes)
    theirs = opened_by_peer(transformers, tmp_path, ours, FORMAT)
    assert_equal_models(ours, theirs, drawn_ids(2))


def test_weights_without_a_head_are_read_without_its_bias(tmp_path, transformers):
    theirs = marian(
        transformers,
        4,
        kind="MarianModel",
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
    )
    assert_equal_states(tmp_path, theirs, drawn_ids(4))


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", ["all", "target", "none"])
def test_what_is_exported_comes_back_exactly(tied, tmp_path):
    assert_comes_back(tmp_path, drawn_model(CONFIG, tied=tied), FORMAT, drawn_ids(3))


@pytest.mark.parametrize("tied", ["all", "target", "none"])
@pytest.mark.parametrize("has_output_bias", [True, False])
def test_every_parameter_has_its_place(tied, has_output_bias):
    config = msgspec.structs.replace(CONFIG, tied=tied, has_output_bias=has_output_bias)
    assert_every_parameter_has_its_place(config, FORMAT)


def test_tables_that_old_files_repeat_and_their_sinusoids_are_left_alone(tmp_path):
    more = {"model.encoder.embed_positions.weight": torch.zeros(40, 8)}
    assert_repeats_are_left_alone(tmp_path, drawn_model(CONFIG), FORMAT, more)


def test_a_table_that_is_said_to_be_shared_and_differs_is_named(tmp_path):
    tensors = write(tmp_path, drawn_model(CONFIG), FORMAT)
    rewrite(tmp_path, tensors | {"lm_head.weight": tensors["model.shared.weight"] + 1})
    with pytest.raises(WeightsError) as caught:
        read_transformer(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/: tensor lm_head.weight differs from model.shared.weight, "
        "to which config.json ties it (tie_word_embeddings)."
    )


# --- configurations -------------------------------------------------------------------------------


def test_an_empty_file_is_the_default_of_transformers():
    assert FORMAT.read({}) == TransformerConfig(
        num_encoder_layers=12,
        num_decoder_layers=12,
        dim=1024,
        num_heads=16,
        hidden_dim=4096,
        norm="post",
        activation="gelu",
        positions="sinusoidal_halves",
        max_positions=1024,
        tied="all",
        has_embedding_scale=False,
        has_output_bias=True,
        pad_id=58100,
        start_id=58100,
    )


def test_the_decoder_has_the_vocabulary_of_the_encoder_where_the_file_tells_no_other():
    assert FORMAT.read({"vocab_size": 9}) == FORMAT.read({})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"encoder_ffn_dim": 8, "decoder_ffn_dim": 9},
            "config.json: encoder_ffn_dim=8, decoder_ffn_dim=9: no such variant here, "
            "the two must be equal.",
        ),
        (
            {"encoder_attention_heads": 8},
            "config.json: encoder_attention_heads=8, decoder_attention_heads=16: "
            "no such variant here, the two must be equal.",
        ),
        (
            {"vocab_size": 8, "decoder_vocab_size": 9},
            "config.json: vocab_size=8, decoder_vocab_size=9: no such variant here, "
            "the two must be equal.",
        ),
        (
            {"activation_function": "tanh"},
            "config.json: activation_function=tanh: no such variant here, "
            "known are relu, gelu, gelu_python, gelu_new, gelu_pytorch_tanh, gelu_fast, silu, "
            "swish.",
        ),
        (
            {"tie_word_embeddings": False},
            "config.json: tie_word_embeddings=false: no such variant here where "
            "share_encoder_decoder_embeddings=true, tie_word_embeddings=true alone is computed.",
        ),
        (
            {"normalize_before": True},
            "config.json: normalize_before=true: no such variant here, "
            "normalize_before=false alone is computed.",
        ),
        (
            {"static_position_embeddings": False},
            "config.json: static_position_embeddings=false: no such variant here, "
            "static_position_embeddings=true alone is computed.",
        ),
        (
            {"scale_embedding": 1},
            "config.json: scale_embedding=1: expected a value such as False, "
            "the default of transformers.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_variant_that_is_not_computed_is_refused_by_its_field(fields, message):
    assert_not_read(FORMAT, fields, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "pre"}, "model.norm=pre: marian checkpoints have post only."),
        (
            {"positions": "sinusoidal"},
            "model.positions=sinusoidal: marian checkpoints have sinusoidal_halves only.",
        ),
        (
            {"activation": "swiglu"},
            "model.activation=swiglu: marian checkpoints have relu, gelu, gelu_tanh, silu only.",
        ),
    ],
    ids=str,
)
def test_a_setting_that_the_format_lacks_is_not_written(changes, message):
    assert_not_written(FORMAT, msgspec.structs.replace(CONFIG, **changes), message)


def test_an_id_below_0_is_refused():
    with pytest.raises(ValueError) as caught:
        msgspec.structs.replace(CONFIG, pad_id=-1)
    assert str(caught.value) == "pad_id must be 0 or more, not -1"


def test_the_table_of_sinusoids_grows_in_its_order():
    positions = SinusoidalPositions(8, "halves")
    torch.testing.assert_close(positions(1000, 3), sinusoids(1003, 8, "halves")[1000:])


# --- padding and search ---------------------------------------------------------------------------


def test_decoding_with_a_cache_equals_the_whole_pass_with_any_padding():
    model, (source, target) = drawn_model(CONFIG).double(), drawn_ids(5)
    model.compute_dtype = torch.float64
    whole, state = model(source, target), model.init_state(source)
    rows = torch.arange(len(source))
    for place in range(target.shape[1]):
        if place == 4:
            rows = torch.tensor([2, 0, 2])
            state.select(rows)
        logits = model.decode_step(target[rows, place], state)
        torch.testing.assert_close(logits, whole[rows, place], rtol=0, atol=1e-12)


def test_padding_changes_nothing_and_token_0_counts():
    model, (source, target) = drawn_model(CONFIG), drawn_ids(6)
    source[1, 1] = 0
    alone = model(source[1:2, : int((source[1] != PAD).sum())], target[1:2])
    torch.testing.assert_close(model(source, target)[1:2], alone)
    changed = source.clone()
    changed[1, 1] = 5
    assert not torch.allclose(model(changed, target)[1:2], alone)


@pytest.mark.slow
def test_greedy_search_writes_what_generate_writes(tmp_path, transformers):
    outputs = []
    for seed in SEEDS:
        theirs, (source, _) = marian(transformers, seed), drawn_ids(seed)
        theirs.final_logits_bias[0, 0] += seed  # ends more and more texts
        theirs.save_pretrained(tmp_path / str(seed))
        mask = (source != PAD).long()
        rows = theirs.generate(
            input_ids=source, attention_mask=mask, num_beams=1, do_sample=False, max_new_tokens=10
        )
        wanted = [row[: row.index(0)] if 0 in row else row for row in rows[:, 1:].tolist()]
        ours = read_transformer(tmp_path / str(seed))
        search_config = BeamSearchConfig(beam=1, max_length_ratio=0.0)  # 10 tokens at most
        found = beam_search(ours, source, search_config, SpecialIds(PAD, ours.config.start_id, 0))
        assert [hypotheses[0].ids for hypotheses in found] == wanted
        outputs += [hypotheses[0] for hypotheses in found]
    assert {output.is_complete for output in outputs} == {True, False}
    assert len({tuple(output.ids) for output in outputs}) > len(SEEDS)
