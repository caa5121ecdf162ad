"""What a few rows of the validation data become, always the same rows, for a page of the run."""

from __future__ import annotations

from regard.training.events import OutputExample

_EXAMPLES = 5
_CHARACTERS = 400  # of a text


def choose_examples(num_rows: int) -> list[int]:
    """Return a few of some rows, evenly spread.

    >>> choose_examples(12), choose_examples(2)
    ([0, 2, 4, 6, 8], [0, 1])
    """
    return list(range(0, num_rows, max(1, num_rows // _EXAMPLES)))[:_EXAMPLES]


def output_example(source: str, output: str, reference: str) -> OutputExample:
    """Return an example; the ends of long texts are cut off."""
    return OutputExample(
        source=_shorten(source), output=_shorten(output), reference=_shorten(reference)
    )


def _shorten(text: str) -> str:
    is_whole = len(text) <= _CHARACTERS
    return text if is_whole else text[: _CHARACTERS - 1].rstrip() + "…"
