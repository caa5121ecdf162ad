"""The method of attribution that is shown first for each task: the most faithful one.

`benchmarks/explain.py MODEL TEST` compares the methods for a model; docs/explain.md has figures.
"""

from __future__ import annotations

from regard.models import Transformer
from regard.tasks import Predictor

# Small trials of 10 rows, comprehensiveness minus sufficiency in percent of probability:
# translation en-de integrated gradients 51.4, occlusion 50.6, attention 38.5, gradient x input
# 37.2, rollout 26.8, random 12.0; sentiment 3.0, 3.0, 0.9, 0.9, -0.1, 0.2. The first two are
# equal within their intervals. Where the ids of tokens matter, too, such as for words that are
# copied or marked, no gradient sees the change of an id, but occlusion does: 32 against 21 by a
# translator that copies (4 rows, 12 outputs), 100 against 8 on questions (3 rows, 6 outputs).
# Other inputs than texts were not tried.
FIRST_METHOD: dict[str, str] = {
    "translation": "integrated_gradients",
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
        That of its task; occlusion for a model that copies words.
    """
    model = predictor.model
    if isinstance(model, Transformer) and model.config.has_copy:
        return "occlusion"
    return FIRST_METHOD.get(predictor.config.task, "integrated_gradients")
