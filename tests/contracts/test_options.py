"""What can be done at the command line and in Python has options of the same names."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import get_type_hints

import pytest
from tests.explain.predictors import question_answerer, text_classifier, text_generator, translator

import regard
from regard.cli.data_options import DataOptions
from regard.cli.evaluate import evaluate
from regard.cli.generate import generate
from regard.cli.model_options import BeamOptions, ComputeOptions, WritingOptions
from regard.cli.train import RunOptions
from regard.cli.wording import _OPTIONS
from regard.errors import ConfigError
from regard.runs import run
from regard.runs.train_options import SETTINGS, TrainOptions, settings_of
from regard.tasks.language_modeling.predictor import SamplingOptions
from regard.tasks.sequence_to_sequence.predictor import SearchOptions


def names(options):
    return {field.name for field in fields(options)}


def arguments(function):
    return set(signature(function).parameters)


def test_train_has_the_options_of_the_command_line():
    in_python = arguments(regard.train) | set(TrainOptions.__annotations__)
    assert names(DataOptions) | names(RunOptions) <= in_python
    assert set(SETTINGS) | {"threads"} <= in_python


def test_a_model_in_use_has_the_options_of_the_command_line():
    assert names(WritingOptions) <= arguments(regard.load) & arguments(regard.evaluate)
    assert names(ComputeOptions) <= arguments(regard.resume)
    assert names(BeamOptions) == set(SearchOptions.__annotations__)
    assert set(get_type_hints(SamplingOptions)) < arguments(generate)
    own = {"json", "plot", "html", "compute"}  # the report is an object that draws itself
    assert arguments(evaluate) - own <= arguments(regard.evaluate)


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"task"}))
def test_messages_name_the_option_of_a_setting(name):
    assert _OPTIONS[SETTINGS[name]] == {"start_from": "--from"}.get(
        name, f"--{name.replace('_', '-')}"
    )


def test_options_in_python_are_the_settings_of_a_run(monkeypatch):
    calls = []
    monkeypatch.setattr(run, "train", lambda *_, settings, **__: calls.append(settings))
    regard.train(
        "pairs.tsv",
        "ende",
        valid=0.1,
        columns=["a,b", "c"],
        lang="en-de",
        device="cpu",
        precision="float32",
        drop_overlap=True,
        allow_overlap=False,
        minutes=None,
        settings=["training.epochs=3"],
        report=None,
    )
    assert calls == [
        [
            "data.valid=10%",
            'data.columns=["a,b","c"]',
            "data.languages=en-de",
            "training.device=cpu",
            "training.precision=float32",
            "data.drop_overlap=true",
            "training.epochs=3",
        ]
    ]


def test_an_option_that_does_not_exist_is_answered_with_the_closest_one():
    with pytest.raises(ConfigError, match=r"^`minuts`: no such option\.  Did you mean minutes\?"):
        settings_of({"minuts": 3})


def test_threads_and_precisions_that_cannot_be_are_refused_in_python(trained):
    with pytest.raises(ConfigError, match=r"^`threads` must be 1 to 1,024, not 0\.$"):
        regard.load(trained, threads=0)
    with pytest.raises(ConfigError, match=r"^`threads`: a whole number was expected, not '2'"):
        regard.evaluate(trained, "test.tsv", threads="2")
    with pytest.raises(ConfigError, match=r"^`precision=int4` is unknown: it is one of float32"):
        regard.load(trained, precision="int4")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a cat", "lines: a list of texts was expected, not str."),
        (3, "lines: a text or a list of texts was expected, not int."),
        ({"a": "b"}, "lines: a text or a list of texts was expected, not dict."),
        (["a", None], "lines[1]: a text was expected, not NoneType."),
    ],
)
@pytest.mark.parametrize("predictor", [translator, text_classifier])
def test_a_stream_is_of_texts(predictor, rows, message):
    with pytest.raises(ConfigError) as caught:
        list(predictor().stream(rows))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["who"], "rows[0]: a question and its context were expected, not str."),
        ([("who", "a cat", "3")], "rows[0]: a question and its context were expected, not tuple."),
        ([("who", "a cat"), ("who", None)], "rows[1][1]: a text was expected, not NoneType."),
    ],
)
def test_a_stream_of_questions_is_of_pairs(rows, message):
    with pytest.raises(ConfigError) as caught:
        list(question_answerer().stream(rows))
    assert str(caught.value) == message


def test_numbers_beyond_those_of_a_computer_are_refused():
    model, rule = question_answerer(), r"must be -1,000,000,000,000 to 1,000,000,000,000, not 1000"
    with pytest.raises(ConfigError, match=f"^`threshold` {rule}"):
        model.threshold = 10**400
    with pytest.raises(ConfigError, match=f"^`seed` {rule}"):
        text_generator().generate("the cat", seed=10**400)
    for num in (1_001, 10**400, 10**5000):
        with pytest.raises(ConfigError, match=r"^num must be a whole number, 1 to 1,000, not"):
            text_generator().generate("the cat", num=num)


@pytest.mark.parametrize("name", ["drop_overlap", "allow_overlap"])
def test_overlap_is_dropped_or_kept_by_true_or_false(trained, name):
    with pytest.raises(ConfigError, match=f"^`{name}`: True or False was expected, not 'no'"):
        regard.evaluate(trained, "test.tsv", **{name: "no"})


def test_a_model_is_opened_with_a_precision_to_write_in(trained):
    translator = regard.load(trained, device="cpu", precision="bf16", threads=1)
    assert translator.precision == "bf16"
    assert isinstance(translator.translate("3 red cat"), str)
