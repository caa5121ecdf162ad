"""What a command such as curl sends to a model, for the page and the console."""

from __future__ import annotations

from regard.tasks import Predictor
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.translation.languages import Languages

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


def example_request(predictor: Predictor, languages: Languages | None = None) -> str:
    """Return the options of curl for a request for an output.

    Args:
        predictor: The model.
        languages: Those of a translator, whose text begins with the tag of the first one.
    """
    if isinstance(predictor, InputClassifier):
        return _FILES[predictor.unit]
    body = _BODIES[predictor.verb]
    tag = next(iter(languages.tags.values()), "") if languages is not None else ""
    if tag:
        body = body.replace("Good", f"{tag} Good")
    return f"--json '{body}'"
