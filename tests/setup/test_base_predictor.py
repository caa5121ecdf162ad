"""A trained model in use says what it is for where it is asked for what others do."""

import copy
import pickle
import re

import pytest

import regard
from regard.setup.base_predictor import BasePredictor
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import TextClassifier
from regard.tasks.forecasting.predictor import Forecaster
from regard.tasks.generative_question_answering.predictor import AnswerWriter
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.tasks.question_answering.predictor import QuestionAnswerer
from regard.tasks.summarization.predictor import Summarizer
from regard.tasks.translation.predictor import Translator


@pytest.fixture(scope="module")
def translator(trained):
    return regard.load(trained)


def test_a_method_of_another_task_is_refused_with_the_task_and_the_method(translator):
    message = (
        "'Translator' object has no attribute 'classify': it is a model for translation, used by "
        "`translate`."
    )
    with pytest.raises(AttributeError, match=re.escape(message)) as caught:
        translator.classify("a cat")
    assert (caught.value.name, caught.value.obj) == ("classify", translator)


def test_names_that_a_model_has_not_are_absent(translator):
    assert not hasattr(translator, "classify")
    assert getattr(translator, "embed", None) is None
    assert hasattr(translator, "precision")


def test_private_names_and_models_without_settings_have_pythons_own_error(translator):
    with pytest.raises(AttributeError, match=r"^'Translator' object has no attribute '_secret'$"):
        _ = translator._secret
    with pytest.raises(AttributeError, match=r"^'BasePredictor' object has no attribute 'config'$"):
        _ = BasePredictor().config


def test_the_error_of_a_property_is_not_hidden(translator):
    class Broken(BasePredictor):
        @property
        def longest(self):
            return self.config.nothing

    broken = Broken()
    broken.config = translator.config
    with pytest.raises(AttributeError, match="'RunConfig' object has no attribute 'nothing'"):
        _ = broken.longest


def test_models_are_copied(translator):
    assert copy.copy(translator).config is translator.config
    again = pickle.loads(pickle.dumps(BasePredictor()))
    assert isinstance(again, BasePredictor)


@pytest.mark.parametrize(
    ("kind", "verb"),
    [
        (Translator, "translate"),
        (Summarizer, "summarize"),
        (QuestionAnswerer, "answer"),
        (AnswerWriter, "answer"),
        (TextGenerator, "generate"),
        (TextClassifier, "classify"),
        (InputClassifier, "classify"),
        (Forecaster, "forecast"),
        (TextEncoder, "embed"),
    ],
)
def test_every_kind_names_the_method_that_its_models_have(kind, verb):
    assert kind.verb == verb
    assert callable(getattr(kind, verb))
