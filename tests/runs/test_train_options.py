"""Options and arguments are named as they were typed in what a run refuses."""

from __future__ import annotations

import pytest
from tests.cli.commands import run

import regard
from regard.errors import ConfigError, DataError
from regard.runs.train_options import argument_text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "-1"], "--minutes must be above 0, not -1.0"),
        (
            ["--preset", "smal"],
            "--preset smal: one of auto, tiny, small, base was expected.  Did you mean small?",
        ),
        (
            ["--set", "preset=smal"],
            "preset=smal: one of auto, tiny, small, base was expected.  Did you mean small?",
        ),
        (["--horizon", "0"], "--horizon must be 1 or more, not 0"),
    ],
)
def test_the_command_line_names_an_option_as_typed(
    capsys, few_pairs_file, tmp_path, words, message
):
    code, _, err = run(capsys, "train", few_pairs_file, "-o", tmp_path / "m", *words)
    assert (code, err) == (2, f"regard: {message}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": "1"}, "`minutes`: a number was expected, not '1' (str)."),
        ({"seed": 1.0}, "`seed`: a whole number was expected, not 1.0 (float)."),
        ({"horizon": True}, "`horizon`: a whole number was expected, not True (bool)."),
        ({"drop_overlap": "no"}, "`drop_overlap`: True or False was expected, not 'no' (str)."),
        ({"lang": 5}, "`lang`: a text was expected, not 5 (int)."),
        ({"targets": 5}, "`targets`: a text or a path was expected, not 5 (int)."),
        ({"known": {"a"}}, "`known`: a text or a list of texts was expected, not {'a'} (set)."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_argument_of_another_type_is_refused_before_the_data_is_read(tmp_path, options, message):
    with pytest.raises(ConfigError) as caught:
        regard.train(tmp_path / "absent.tsv", tmp_path / "m", **options)
    assert str(caught.value) == message


def test_python_names_an_argument(few_pairs_file, tmp_path):
    with pytest.raises(ConfigError) as caught:
        regard.train(few_pairs_file, tmp_path / "m", preset="smal")
    assert str(caught.value).startswith('`preset="smal"`: one of auto, tiny, small, base was')
    with pytest.raises(ConfigError) as caught:
        regard.train(few_pairs_file, tmp_path / "m", minutes=-1)
    assert str(caught.value) == "`minutes` must be above 0, not -1.0"


@pytest.mark.parametrize(
    ("setting", "argument"),
    [
        ("data.drop_overlap=true", "drop_overlap=True"),
        ("data.allow_overlap=true", "allow_overlap=True"),
        ("data.valid=FILE", 'valid="FILE"'),
        ("training.minutes=3", "minutes=3"),
        ("task=classification", 'task="classification"'),
        ("data.encoding", "encoding"),
        ("model.has_copy=true", "model.has_copy=true"),
        ("output", "output"),
    ],
)
def test_a_setting_with_an_argument_becomes_that(setting, argument):
    assert argument_text(f"Take `{setting}`") == f"Take `{argument}`"


def test_evaluation_in_python_names_the_argument_that_drops_overlap(trained, pairs_file):
    with pytest.raises(DataError) as caught:
        regard.evaluate(trained, pairs_file)
    assert "Drop them: `drop_overlap=True`;  keep: `allow_overlap=True`" in str(caught.value)


def test_a_configuration_that_is_not_there_is_named_plainly(capsys, few_pairs_file, tmp_path):
    words = ("train", few_pairs_file, "-o", tmp_path / "m", "--config")
    (tmp_path / "small.toml").touch()
    code, _, err = run(capsys, *words, tmp_path / "smal.toml")
    assert (code, err) == (
        2,
        f"regard: {tmp_path / 'smal.toml'}: no such file.  Did you mean {tmp_path / 'small.toml'}?"
        "\n",
    )
    code, _, err = run(capsys, *words, tmp_path)
    assert (code, err) == (
        2,
        f"regard: {tmp_path}: a folder, not a file.  Name a file: --config "
        f"{tmp_path / 'config.toml'}\n",
    )
