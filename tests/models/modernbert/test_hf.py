"""ModernBERT's published weights and fields: equal to `transformers`, old and new, or refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.models.published_weights import assert_near, fill, padded_ids, spread

from regard.errors import ConfigError
from regard.models.base.checkpoint_format import SettingError
from regard.models.modernbert.hf import MODERNBERT_FORMAT as FORMAT
from regard.models.modernbert.model import ModernBert, ModernBertConfig

VOCAB = 50
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "local_attention": 8,
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1),
}
BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
FULL, LOCAL = "full_attention", "sliding_attention"


@pytest.fixture(scope="module")
def transformers():
    package = pytest.importorskip("transformers")
    assert package.ModernBertForMaskedLM  # imported on first use, which takes its time
    return package


def published(transformers, head: str = "ForMaskedLM", **changes):
    """Build the model of `transformers` with random weights."""
    config = transformers.ModernBertConfig(**SMALL | changes)
    theirs = getattr(transformers, f"ModernBert{head}")(config).eval()
    spread(theirs, gain=1.0)
    return theirs


def load(theirs) -> ModernBert:
    """Build our model of the same weights."""
    config = FORMAT.adapt(FORMAT.read(theirs.config.to_dict()), set(theirs.state_dict()))
    ours = ModernBert(config, VOCAB).eval()
    assert not fill(ours, FORMAT, config, theirs)
    return ours


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict.fromkeys(BIASES, True),
        {"decoder_bias": False, "hidden_activation": "silu", "classifier_activation": "relu"},
        {"layer_types": [LOCAL, FULL, FULL, LOCAL], "local_attention": 9},
        {"global_attn_every_n_layers": 2, "local_attention": 1, "norm_eps": 1e-2},
        {"global_rope_theta": 500.0, "local_rope_theta": 90.0},
    ],
)
def test_logits_are_those_of_transformers_on_either_side_of_the_window(transformers, changes):
    theirs = published(transformers, **changes)
    ours = load(theirs)
    for lengths in ((4, 1), (5, 3), (8, 9, 2), (40, 10, 4)):
        ids = padded_ids(VOCAB, lengths, pad_id=0)
        expected = theirs(ids, attention_mask=(ids != 0).long()).logits
        assert_near(ours(ids), expected, ids, pad_id=0)


def test_states_of_a_bare_encoder_are_those_of_transformers(transformers):
    theirs = published(transformers, "Model")
    ours = load(theirs)
    assert not (ours.config.has_mlm_head or ours.config.has_pooler)
    ids = padded_ids(VOCAB, (30, 4), pad_id=0)
    expected = theirs(ids, attention_mask=(ids != 0).long()).last_hidden_state
    assert_near(ours.hidden_states(ids), expected, ids, pad_id=0)


def test_what_a_file_leaves_out_is_as_in_transformers(transformers):
    theirs, ours = transformers.ModernBertConfig().to_dict(), FORMAT.read({})
    assert ours == FORMAT.read(theirs)
    assert ours.windows() == ModernBertConfig().windows()
    assert (ours.pad_id, ours.max_positions, ours.dropout) == (50283, 8192, 0.0)


OLD = {"global_attn_every_n_layers": 2, "global_rope_theta": 500.0, "local_rope_theta": 90.0}
NEW = {
    "layer_types": [FULL, LOCAL] * 11,
    "rope_parameters": {
        FULL: {"rope_type": "default", "rope_theta": 500.0},
        LOCAL: {"rope_type": "default", "rope_theta": 90.0},
    },
}


def test_older_fields_say_what_newer_ones_do():
    old, new = FORMAT.read(OLD), FORMAT.read(NEW)
    assert old == new == FORMAT.read(OLD | NEW)
    assert (old.window, old.rotary_base, old.local_rotary_base) == ((0, 128), 500.0, 90.0)


def test_a_null_base_of_local_layers_is_that_of_the_others():
    ours = FORMAT.read({"global_rope_theta": 500.0, "local_rope_theta": None})
    assert (ours.rotary_base, ours.local_rotary_base) == (500.0, 500.0)


def test_fields_without_an_effect_on_results_are_accepted():
    fields = {"deterministic_flash_attn": True, "sparse_prediction": True, "reference_compile": 1}
    assert FORMAT.read(fields) == FORMAT.read({})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tie_word_embeddings": False},
            "tie_word_embeddings=false: no such variant here, tie_word_embeddings=true alone is "
            "computed.",
        ),
        (
            {"rope_scaling": {"type": "yarn"}},
            'rope_scaling={"type": "yarn"}: no such variant here, rope_scaling=null alone is '
            "computed.",
        ),
        (
            {"rope_parameters": {FULL: {"rope_type": "yarn"}}},
            'rope_parameters.full_attention.rope_type="yarn": no such variant here, '
            'rope_parameters.full_attention.rope_type="default" alone is computed.',
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0}},
            'rope_parameters={"rope_theta": 5.0}: an object with full_attention and '
            "sliding_attention was expected.",
        ),
        (
            {"rope_parameters": {LOCAL: 5}},
            "rope_parameters.sliding_attention=5: an object was expected.",
        ),
        (
            {"global_rope_theta": 9.0, "rope_parameters": {FULL: {"rope_theta": 5.0}}},
            "global_rope_theta=9.0 and rope_parameters.full_attention.rope_theta=5.0: two values "
            "of one setting.  Take the wrong one out.",
        ),
        (
            {"global_attn_every_n_layers": 3, "layer_types": [FULL, LOCAL] * 11},
            "layer_types differs from global_attn_every_n_layers=3: two values of one setting.  "
            "Take the wrong one out.",
        ),
        (
            {"layer_types": [FULL] * 2},
            'layer_types=["full_attention", "full_attention"]: a list of 22 kinds, one for each '
            "layer, was expected.",
        ),
        (
            {"layer_types": [{}] * 22},
            "layer_types has {}: no such variant here, known are full_attention, "
            "sliding_attention.",
        ),
        ({"local_attention": 0}, "local_attention=0: a whole number of 1 or more was expected."),
        (
            {"global_attn_every_n_layers": 0},
            "global_attn_every_n_layers=0: a whole number of 1 or more was expected.",
        ),
        (
            {"num_hidden_layers": 10**9},
            "num_hidden_layers=1000000000: 100,000 or fewer were expected.",
        ),
        (
            {"hidden_activation": "relu"},
            "hidden_activation=relu: no such variant here, known are gelu, gelu_python, silu, "
            "swish.",
        ),
        (
            {"classifier_pooling": "max"},
            "classifier_pooling=max: no such variant here, known are cls, mean.",
        ),
        (
            {"norm_bias": "no"},
            "norm_bias='no': expected a value such as False, the default of transformers.",
        ),
        (
            {"vocab_size": 100},
            "pad_token_id=50283: of 100 tokens (vocab_size) none has this id.  Set it to the id "
            "of the token that pads.",
        ),
    ],
)
def test_what_is_not_computed_is_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        FORMAT.read(fields)
    assert str(caught.value) == f"config.json: {message}"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": (0, 16), "rotary_base": 7.0, "dropout": 0.25},
        {"window": (16, 0, 0, 16)},
        {"window": (0,), "norm_bias": True, "has_output_bias": False},
        {"has_mlm_head": False, "has_pooler": False, "activation": "swiglu"},
    ],
)
def test_fields_written_open_in_transformers_and_read_back_the_same(transformers, changes):
    config = ModernBertConfig(num_layers=4, dim=24, num_heads=3, **changes)
    fields = FORMAT.write(config, VOCAB)
    opened = transformers.AutoConfig.for_model(**fields)
    theirs = getattr(transformers, fields["architectures"][0])(opened)
    read = FORMAT.adapt(FORMAT.read(opened.to_dict()), set(theirs.state_dict()))
    assert read == FORMAT.adapt(FORMAT.read(fields), set(theirs.state_dict()))
    assert read.windows() == config.windows()
    assert msgspec.structs.replace(read, window=config.window) == config


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {"window": (8, 4, 0)},
            {"window": (8, 8, 0)},
            "model.window=[8,4,0]: modernbert checkpoints have one size for all layers with a "
            "window only.",
        ),
        (
            {"norm": "post"},
            {"norm": "pre"},
            "model.norm=post: modernbert checkpoints have pre only.",
        ),
        (
            {"activation": "gelu"},
            {"activation": "geglu"},
            "model.activation=gelu: modernbert checkpoints have geglu, swiglu only.",
        ),
        (
            {"pooler_activation": "relu"},
            {"pooler_activation": "gelu"},
            "model.pooler_activation=relu: modernbert checkpoints have gelu only.",
        ),
    ],
)
def test_a_model_that_the_format_cannot_express_is_not_written(changes, settings, message):
    with pytest.raises(SettingError) as caught:
        FORMAT.write(ModernBertConfig(num_layers=3, **changes), VOCAB)
    assert str(caught.value) == message
    assert caught.value.settings == settings
