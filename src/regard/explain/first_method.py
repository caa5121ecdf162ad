"""The method of attribution that is shown first for each task: the most faithful one.

`benchmarks/explain.py MODEL TEST` compares the methods for a model; docs/explain.md has figures.
"""

from __future__ import annotations

# Small trials, comprehensiveness minus sufficiency in percent of probability: translation en-de (12
# rows, 36 outputs) integrated gradients 36.7, occlusion 36.6, gradient x input 19.6, random 1.2;
# sentiment (10 rows) 3.03, 2.95, 0.87, 0.16, attention 0.94, rollout -0.07. The first two are equal
# within their intervals. Where the ids of tokens matter, too, such as for a question's words that
# are marked in the text, no gradient sees the change of an id: occlusion does. Other inputs than
# texts were not tried.
FIRST_METHOD: dict[str, str] = {
    "translation": "integrated_gradients",
    "summarization": "integrated_gradients",
    "classification": "integrated_gradients",
    "language-modeling": "integrated_gradients",
    "question-answering": "occlusion",
    "image-classification": "occlusion",
    "audio-classification": "occlusion",
    "series-classification": "occlusion",
    "forecasting": "occlusion",
}
"""Names of methods by the names of tasks."""
