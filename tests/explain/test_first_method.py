"""The method that is shown first: one for every task, occlusion for models that copy."""

import msgspec
from tests.explain import predictors

from regard.explain.attribution import DEFAULT_METHODS
from regard.explain.first_method import FIRST_METHOD, first_method
from regard.models import Transformer
from regard.tasks import TASKS


def test_every_task_that_is_explained_has_a_method_that_is_shown_first():
    assert set(FIRST_METHOD) == set(TASKS) - {"masked-language-modeling"}
    assert set(FIRST_METHOD.values()) <= set(DEFAULT_METHODS)


def test_a_model_that_copies_words_is_explained_by_leaving_them_out():
    config = msgspec.structs.replace(predictors.TRANSFORMER, has_copy=True)
    copying = Transformer(config, len(predictors.tokenizer())).eval()
    assert first_method(predictors.translator()) == "integrated_gradients"
    assert first_method(predictors.translator(copying)) == "occlusion"
