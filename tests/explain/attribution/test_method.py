"""The budget of methods, and their names."""

import pytest
import torch
from tests.explain.tiny_predictions import Linear, translated

from regard.errors import ConfigError
from regard.explain.attribution import METHODS, Budget, method_names


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_score_to_each_feature_that_an_output_reads(name):
    prediction = translated()
    scores = METHODS[name].compute(prediction, Budget()).scores
    assert scores.shape == (len(prediction.outputs), len(prediction.features))
    assert torch.equal(scores.isnan(), ~prediction.reads)


def test_names_and_aliases_are_resolved_once_each():
    names = method_names(["IG", "occlusion", "integrated gradients", "gradient-input"])
    assert names == ["integrated_gradients", "occlusion", "gradient_input"]


def test_an_unknown_name_is_refused_with_a_proposal():
    with pytest.raises(ConfigError, match=r"'oclusion': one of .*Did you mean occlusion\?"):
        method_names(["oclusion"])


def test_more_memory_makes_larger_parts_and_passes_without_gradient_larger_ones():
    prediction = translated()

    def num_parts(memory, **options):
        return len(list(Budget(memory).chunks(prediction, 64, **options)))

    assert num_parts(1) == 64
    assert num_parts(1024**2) > num_parts(1024**2, has_gradient=False) > 1
    assert num_parts(512 * 1024**2) == 1


@pytest.mark.parametrize("number", [0, -1, 0.5, True])
@pytest.mark.parametrize("name", ["memory", "max_steps"])
def test_a_budget_is_of_whole_numbers_from_1_up(name, number):
    with pytest.raises(ConfigError, match=f"{name} must be a whole number, 1 or more, not"):
        Budget(**{name: number})


def test_many_outputs_of_many_classes_make_smaller_parts():
    one, many = Linear(torch.ones(1, 2)), Linear(torch.ones(500, 2))
    one.num_values = many.num_values = 8000
    parts = [len(list(Budget().chunks(each, 100))) for each in (one, many)]
    assert parts[0] == 1
    assert parts[1] > 10
