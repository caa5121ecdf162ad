"""Fields of ``config.json`` count under the other names that ``transformers`` takes them by."""

from __future__ import annotations

import json

import pytest

from regard.errors import ConfigError
from regard.models import CHECKPOINT_FORMATS

OWN_NAMES = {
    "gpt2": {
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    "distilbert": {"hidden_size": "dim", "num_attention_heads": "n_heads"},
    "bart": {"hidden_size": "d_model", "num_attention_heads": "encoder_attention_heads"},
    "marian": {
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    },
}
SIZES = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
OTHERS = {  # which the formats need for a size that is not their default
    "bart": {"decoder_attention_heads": 3, "normalize_embedding": True},
    "marian": {"decoder_attention_heads": 3, "d_model": 24},
}


@pytest.mark.parametrize("model_type", OWN_NAMES)
def test_a_size_counts_under_its_other_name(model_type):
    read, others = CHECKPOINT_FORMATS[model_type].read, OTHERS.get(model_type, {})
    names = OWN_NAMES[model_type]
    config = read(others | {name: SIZES[name] for name in names})
    assert config == read(others | {own: SIZES[name] for name, own in names.items()})
    assert config.num_heads == 3


def test_transformers_takes_the_same_names(tmp_path):
    library = pytest.importorskip("transformers")
    for model_type, names in OWN_NAMES.items():
        fields = {"model_type": model_type, **{name: SIZES[name] for name in names}}
        (tmp_path / "config.json").write_text(json.dumps(fields))
        config = library.AutoConfig.from_pretrained(tmp_path)
        assert [getattr(config, own) for own in names.values()] == [SIZES[name] for name in names]


def test_two_values_of_one_size_are_refused():
    with pytest.raises(ConfigError, match="n_head=2 and num_attention_heads=4: two values"):
        CHECKPOINT_FORMATS["gpt2"].read({"n_head": 2, "num_attention_heads": 4})
    CHECKPOINT_FORMATS["gpt2"].read({"n_head": 4, "num_attention_heads": 4})
