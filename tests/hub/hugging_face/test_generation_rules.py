"""Generation settings of a published folder that are not what they should be are named once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regard.errors import ConfigError
from regard.hub.hugging_face.generation_rules import (
    forbidden_ids,
    read_generation_rules,
    read_sampling,
)


def write(folder: Path, **fields: Any) -> Path:
    """Write both files of a folder, and return the path of the one with the settings."""
    (folder / "config.json").write_text("{}")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_p": "0.9"}, 'top_p="0.9": a number was expected.'),
        ({"top_p": 2.0}, "top_p must be above 0 and at most 1, not 2.0."),
        ({"bad_words_ids": 5}, "bad_words_ids=5: a list was expected."),
        ({"suppress_tokens": 7}, "suppress_tokens=7: a list was expected."),
        ({"max_new_tokens": 0}, "max_new_tokens=0: more than 0 was expected."),
    ],
)
def test_a_wrong_setting_of_sampling_is_named_with_its_file_once(fields, message, tmp_path):
    path = write(tmp_path, **fields)
    with pytest.raises(ConfigError) as error:
        read_sampling(tmp_path, 9, max_positions=None)
    assert str(error.value) == f"{path}: {message}"


def test_own_settings_that_are_no_object_are_refused(tmp_path):
    path = write(tmp_path, regard=["beam"])
    with pytest.raises(ConfigError) as error:
        read_generation_rules(tmp_path)
    assert str(error.value) == f'{path}: regard=["beam"]: an object was expected.'


def test_a_limit_of_prompt_and_output_is_at_most_the_positions_of_the_model(tmp_path):
    write(tmp_path, max_length=50)
    assert read_sampling(tmp_path, 9, max_positions=20).max_length == 20
    assert read_sampling(tmp_path, 9, max_positions=None).max_length == 50


def test_a_limit_of_new_tokens_counts_before_one_of_prompt_and_output(tmp_path):
    write(tmp_path, max_length=50, max_new_tokens=7)
    config = read_sampling(tmp_path, 9, max_positions=20)
    assert (config.max_tokens, config.max_length) == (7, None)


def test_a_translation_counts_its_end_and_not_its_begin(tmp_path):
    write(tmp_path, max_length=50, min_new_tokens=3)
    rules = read_generation_rules(tmp_path)
    assert (rules.max_length, rules.min_length) == (49, 4)


def test_an_end_is_forbidden_by_the_field_that_transformers_obeys(tmp_path):
    write(tmp_path, bad_words_ids=[[3], [4]], suppress_tokens=[6, 7], eos_token_id=[4, 6])
    assert forbidden_ids(tmp_path, 9) == (3, 6, 7)


def test_tokens_beyond_the_table_are_left_out_aloud(tmp_path):
    path = write(tmp_path, bad_words_ids=[[3], [12]], suppress_tokens=[5, 3], eos_token_id=4)
    with pytest.warns(UserWarning, match="left out") as warned:
        assert forbidden_ids(tmp_path, 9) == (3, 5)
    text = f"{path}: the forbidden tokens 12 left out: the model has 9 tokens."
    assert [str(warning.message) for warning in warned] == [text]
