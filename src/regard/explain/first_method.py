"""The method of attribution that is shown first for each task: the most faithful one.

`benchmarks/explain.py MODEL TEST` compares the methods for a model; docs/explain.md has figures.
"""

from __future__ import annotations

from regard.models import Transformer
from regard.tasks import Predictor

# Small trials, comprehensiveness minus sufficiency in percent of probability: translation en-de (12
# rows, 36 outputs) integrated gradients 36.7, occlusion 36.6, gradient x input 19.6, random 1.2;
# sentiment (10 rows) 3.03, 2.95, 0.87, 0.16, attention 0.94, rollout -0.07. The first two are equal
# within their intervals. Where the ids of tokens matter, too, such as for words that are copied or
# marked, no gradient sees the change of an id, but occlusion does: 32 against 21 by a translator
# that copies (4 rows, 12 outputs). Other inputs than texts were not tried.
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
