"""The method of attribution that is shown first for each task: the most faithful one."""

from __future__ import annotations

# Occlusion has the largest comprehensiveness minus sufficiency in small trials on all of these;
# `benchmarks/explain.py MODEL TEST` prints the comparison for a model.
FIRST_METHOD: dict[str, str] = {
    "translation": "occlusion",
    "summarization": "occlusion",
    "question-answering": "occlusion",
    "classification": "occlusion",
    "language-modeling": "occlusion",
    "image-classification": "occlusion",
    "audio-classification": "occlusion",
    "series-classification": "occlusion",
    "forecasting": "occlusion",
}
"""Names of methods by the names of tasks."""
