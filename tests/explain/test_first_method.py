"""The method that is shown first: one for every task."""

from tests.explain import predictors

from regard.explain.attribution import DEFAULT_METHODS
from regard.explain.first_method import FIRST_METHOD, first_method
from regard.tasks import TASKS


def test_every_task_that_is_explained_has_a_method_that_is_shown_first():
    assert set(FIRST_METHOD) == set(TASKS) - {"masked-language-modeling"}
    assert set(FIRST_METHOD.values()) <= set(DEFAULT_METHODS)


def test_the_method_shown_first_is_the_one_that_won_for_the_task():
    assert first_method(predictors.translator()) == "occlusion"
    assert first_method(predictors.text_classifier()) == "integrated_gradients"
