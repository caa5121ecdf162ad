"""What a command such as curl sends to a model, for the page and the console."""

from __future__ import annotations

from regard.tasks import Predictor
from regard.tasks.classification.input_predictor import InputClassifier

_FILES = {
    "images": "--data-binary @scan.png -H 'Content-Type: image/png'",
    "recordings": "--data-binary @word.wav -H 'Content-Type: audio/wav'",
    "series": """--json '{"series": [[[0.5, 1.5], [0.7, 1.2]]]}'""",
}
_BODIES = {
    "translate": '{"text": "Good morning"}',
    "summarize": '{"text": "A long document ..."}',
    "classify": '{"text": "What a lovely day"}',
    "answer": '{"question": "Where?", "context": "The text with the answer."}',
    "generate": '{"text": "Once upon a time"}',
    "forecast": '{"rows": [{"time": "2026-01-01", "value": 1.5}, ...]}',
    "embed": '{"text": "A sentence"}',
}


def example_request(predictor: Predictor) -> str:
    """Return the options of curl for a request for an output."""
    if isinstance(predictor, InputClassifier):
        return _FILES[predictor.unit]
    return f"--json '{_BODIES[predictor.verb]}'"
