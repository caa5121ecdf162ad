"""The method of attribution that is shown first for each task: the most faithful one.

`benchmarks/explain.py MODEL TEST` compares the methods for a model; docs/explain.md has figures.
"""

from __future__ import annotations

from regard.tasks import Predictor

# 200 rows each, comprehensiveness minus sufficiency in percent of probability: translation en-de
# occlusion 47.3, integrated gradients 46.4, gradient x input 33.7, attention 33.4, rollout 15.3,
# random 2.9; sentiment integrated gradients 2.69, occlusion 2.50, then 0.99, 0.77, 0.62, 0.03.
# Where the ids of tokens matter, too, in the order of translation: a translator that copies 54.7,
# 48.5, 40.3 (24 rows), answers 67.1, 54.6, 52.8 (8 rows). Other inputs than texts were not tried.
FIRST_METHOD: dict[str, str] = {
    "translation": "occlusion",
    "summarization": "occlusion",
    "classification": "integrated_gradients",
    "language-modeling": "integrated_gradients",
    "question-answering": "occlusion",
    "image-classification": "occlusion",
    "audio-classification": "occlusion",
    "series-classification": "occlusion",
    "forecasting": "occlusion",
}
"""Names of methods by the names of tasks."""


def first_method(predictor: Predictor) -> str:
    """Return the name of the method that is shown first for a model.

    Args:
        predictor: From `regard.load`.

    Returns:
        That of its task.
    """
    return FIRST_METHOD.get(predictor.config.task, "integrated_gradients")
