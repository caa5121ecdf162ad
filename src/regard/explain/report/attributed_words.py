"""What a prediction looked at, as one line of colored words for each of a few rows.

The scores are those of the output as a whole: how much a word speaks for it, in nats of its
probability, by the method of attribution that is shown first for the task. Cost: that method once a
row, for one output; a long input takes a method of one pass.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from regard.data.languages import has_spaces_between_words
from regard.errors import RegardError
from regard.explain.attribution import METHODS, Budget
from regard.explain.open_prediction import predict
from regard.explain.own_warnings import record_own_warnings
from regard.explain.report.markup import Markup, join, tag
from regard.explain.report.whole_output import WholeOutput
from regard.setup.evaluation_details import ExplainedInput
from regard.tasks import Predictor
from regard.tasks.translation.predictor import Translator

_LONG_METHOD = "gradient_input"
_LONG = 512  # features of an input from which on a pass for each would take minutes
_MOST_FEATURES = 160  # shown; the strongest and those around them are
_MOST_CHARS = 2000  # of an output, which is read in every pass
_NUM_SHADES = 8
_MOST_CELLS = 1024  # of an image, or of a recording
_MOST_IMAGE_BYTES = 100_000
_IMAGE_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
_CONTINUED = "##"


class WordScore(NamedTuple):
    """A part of the input with its score.

    Args:
        text: The token.
        part: Which input it is of.
        score: For the output as a whole, in the prediction's unit.
    """

    text: str
    part: str
    score: float

    def continues_with(self, piece: WordScore) -> bool:
        """Return whether a token after it is of the same word."""
        is_end = self.text[-1:] == "\n" or self.part != piece.part
        return not (is_end or piece.text.startswith(" "))


class AttributedWords(NamedTuple):
    """The scores of one prediction.

    Args:
        method: Title of the method.
        unit: Unit of the scores.
        words: In order, without special tokens.
        notes: What was cut.
    """

    method: str
    unit: str
    words: list[WordScore]
    notes: list[str]

    @property
    def largest(self) -> float:
        """The largest magnitude of a score."""
        return max((abs(w.score) for w in self.words if math.isfinite(w.score)), default=0.0)

    def draw_notes(self) -> Iterator[Markup]:
        """Yield the notes as paragraphs."""
        for note in self.notes:
            yield tag("p", f"Note: {note}", class_="note")


def attribute_words(predictor: Predictor, row: ExplainedInput) -> AttributedWords | str:
    """Compute the scores of the words of an input.

    Args:
        predictor: The model.
        row: The input.

    Returns:
        The scores, or why there are none.
    """
    if row.output is not None and len(row.output) > _MOST_CHARS:
        return f"not explained: the output has more than {_MOST_CHARS:,} characters."
    try:
        if row.languages is not None and isinstance(predictor, Translator):
            predictor = predictor.between(*row.languages)
        with record_own_warnings() as notes:
            prediction = predict(predictor, row.text, context=row.context, output=row.output)
        method = METHODS[
            _LONG_METHOD if len(prediction.features) > _LONG else prediction.first_method
        ]
        scores = method.compute(WholeOutput(prediction), Budget()).scores  # [outputs, features]
    except RegardError as error:
        return f"not explained: {error}"
    totals = torch.nan_to_num(scores.double()).sum(0).tolist()
    pairs = zip(prediction.features, totals, strict=True)
    pieces = [
        WordScore(feature.text, feature.part, total)
        for feature, total in pairs
        if not (feature.is_special or feature.is_written)
    ]
    words = pieces if row.is_file else merge_pieces(pieces)
    return AttributedWords(method.title, method.unit or prediction.unit, words, notes)


def merge_pieces(pieces: Sequence[WordScore]) -> list[WordScore]:
    """Return the words of tokens, with the sums of their scores, where spaces separate words."""
    if not has_spaces_between_words(["".join(piece.text for piece in pieces)]):
        return list(pieces)
    words: list[WordScore] = []
    for piece in _mark_beginnings(pieces):
        if words and words[-1].continues_with(piece):
            last = words[-1]
            words[-1] = last._replace(text=last.text + piece.text, score=last.score + piece.score)
        else:
            words.append(piece)
    return words


def _mark_beginnings(pieces: Sequence[WordScore]) -> Sequence[WordScore]:
    """Return tokens of WordPiece, which marks what continues a word, with a space before words."""
    if not any(piece.text.startswith(_CONTINUED) for piece in pieces):
        return pieces
    texts = (f" {piece.text}".removeprefix(f" {_CONTINUED}") for piece in pieces)
    return [piece._replace(text=text) for piece, text in zip(pieces, texts, strict=True)]


def draw_words(attributed: AttributedWords) -> Markup:
    """Return the words of an input, colored by their scores."""
    words, largest = attributed.words, attributed.largest
    first, last = _shown(words)
    parts: list[Markup] = [tag("span", "… ", class_="muted")] if first else []
    for index, word in enumerate(words[first:last], first):
        if index and word.part != words[index - 1].part:
            parts.append(tag("span", f" {word.part} ", class_="muted small"))
        if index > first and word.text.startswith(" "):
            parts.append(Markup(" "))
        title = f"{word.score:+.3g} {attributed.unit}"
        text, color = word.text.strip() or "␣", _shade(word, largest)
        parts.append(tag("span", text, class_=color, title=title))
    if last < len(words):
        parts.append(tag("span", f" … {len(words) - last:,} more", class_="muted"))
    return join([tag("p", *parts, class_="words", dir="auto"), *attributed.draw_notes()])


def draw_cells(attributed: AttributedWords, file: Path) -> Markup:
    """Return the patches of an image, or the rows of a recording, colored by their scores.

    Args:
        attributed: Scores of the patches or rows.
        file: The input; a small image is shown next to them.
    """
    rows: dict[str, list[Markup]] = {}
    largest = attributed.largest
    for word in attributed.words[:_MOST_CELLS]:
        line = word.text.partition(", ")[0] if word.part == "image" else ""
        title = f"{word.text}: {word.score:+.3g} {attributed.unit}"
        rows.setdefault(line, []).append(tag("td", class_=_shade(word, largest), title=title))
    cells = tag("table", *(tag("tr", *row) for row in rows.values()), class_="cells")
    scroll = tag("div", cells, class_="scroll", tabindex="0")
    return tag("div", _picture(file), scroll, *attributed.draw_notes(), class_="input")


def _picture(file: Path) -> Markup | None:
    """Return a small image of a browser's formats; None for another file."""
    kind = _IMAGE_TYPES.get(file.suffix.lower())
    if kind is None or file.stat().st_size > _MOST_IMAGE_BYTES:
        return None
    data = base64.b64encode(file.read_bytes()).decode()
    return tag("img", src=f"data:image/{kind};base64,{data}", alt=file.name)


def _shade(word: WordScore, largest: float) -> str:
    """Return the class of a word's color, by its score next to the largest one."""
    shade = 0
    if largest > 0 and math.isfinite(word.score):
        shade = round(_NUM_SHADES * abs(word.score) / largest)
    return f"w {'against' if word.score < 0 else 'for'}{shade}" if shade else "w"


def _shown(words: Sequence[WordScore]) -> tuple[int, int]:
    """Return first and last word of the part that is shown: it holds the strongest one."""
    if len(words) <= _MOST_FEATURES:
        return 0, len(words)
    strongest = max(range(len(words)), key=lambda index: abs(words[index].score))
    first = max(0, min(strongest - _MOST_FEATURES // 2, len(words) - _MOST_FEATURES))
    return first, first + _MOST_FEATURES
