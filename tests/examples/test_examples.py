"""Every example runs, and does what its first line says."""

import math
from pathlib import Path

import pytest

from examples import (
    curvature,
    language_model_loop,
    minimize_function,
    newton_cg,
    own_pattern,
    own_task,
    published_weights,
    train_translator,
)
from regard.tasks import TASKS


@pytest.mark.slow
def test_a_translator_learns_pairs_in_memory(tmp_path):
    assert train_translator.main(tmp_path) > 90


@pytest.mark.slow
def test_a_language_model_learns_a_text_in_a_loop_of_ones_own():
    loss, text = language_model_loop.main()
    assert loss < 0.5  # nats a byte, of about 3 at the beginning
    assert text.startswith("She sells sea shells")


def test_a_pattern_of_ones_own_equals_its_mask():
    assert own_pattern.main() < 1e-12


@pytest.mark.slow
def test_every_method_finds_the_minimum_of_a_function():
    results = minimize_function.main()
    assert {name: result.success for name, result in results.items()} == {
        "cg": True,
        "lbfgs": True,
        "newton-cg": True,
    }
    assert all(result.fun < 1e-12 for result in results.values())


@pytest.mark.slow
def test_newton_cg_trains_a_module():
    first, last = newton_cg.main()
    assert last < 0.1 * first


@pytest.mark.slow
def test_published_weights_give_the_logits_of_transformers(tmp_path, transformers):
    published_weights.write_tiny_gpt2(tmp_path)
    assert published_weights.main(tmp_path) < 1e-5


@pytest.mark.slow
def test_the_curvature_of_a_model_has_a_positive_largest_eigenvalue():
    eigenvalues, trace = curvature.main()
    assert eigenvalues[0] > eigenvalues[1] > eigenvalues[2] > 0
    assert math.isfinite(trace)


@pytest.mark.slow
def test_a_task_of_ones_own_is_trained_and_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "restoration", None)  # what the example registers goes afterwards
    restored = own_task.main(tmp_path)
    assert restored.startswith("No, Clara")
    assert restored.endswith("from Oslo!")


def test_every_example_is_tested():
    examples = {path.stem for path in (Path(__file__).parents[2] / "examples").glob("*.py")}
    assert examples == {name for name in globals() if name in examples}
