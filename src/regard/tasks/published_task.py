"""What a published encoder-decoder of several tasks is used for: by a verb, languages, or data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from regard.errors import ConfigError, DataError
from regard.hub.hugging_face.recognize import is_hugging_face
from regard.tasks import DEFAULT_TASK, claiming_task

if TYPE_CHECKING:
    from regard.data.readers.source import DataSource

_TASKS_OF_VERBS = {"summarize": "summarization", "answer": "question-answering"}
"""Tasks of published encoder-decoders but translation, by the verbs that use them."""


def task_of_verb(folder: str | Path, verb: str | None, languages: str | None = None) -> str | None:
    """Return what a published encoder-decoder is for by a verb and by languages.

    Args:
        folder: Any; only published encoder-decoders have several tasks.
        verb: Such as summarize; None is that of the model.
        languages: As `task_of_languages` has them.

    Returns:
        A name for `open_published`; None is the model's own task.

    Raises:
        ConfigError: The folder does not translate between the languages.
    """
    task = _TASKS_OF_VERBS.get(verb or "")
    return task_of_languages(folder, languages) if task is None else task


def task_of_data(
    folder: str | Path, read_data: Callable[[], DataSource], languages: str = ""
) -> str | None:
    """Return what a published encoder-decoder is for by the data that it is evaluated on.

    The languages of pairs are guessed where they decide it, which a warning says.

    Args:
        folder: Any.
        read_data: Returns the data; only called for a published folder, which exists.
        languages: As `task_of_languages` has them; empty guesses.

    Returns:
        A name for `open_published`; None is the model's own task.

    Raises:
        ConfigError: The folder does not translate between the languages that are named.
    """
    if languages or not is_hugging_face(Path(folder)):
        return task_of_languages(folder, languages)
    from regard.data.languages import guess_pair
    from regard.data.readers.shape import inspect_shape
    from regard.data.readers.tables import read_pairs

    source = read_data()
    try:
        task = claiming_task(inspect_shape(source)) or DEFAULT_TASK
        if task != DEFAULT_TASK:
            return task if task in _TASKS_OF_VERBS.values() else None
        directions = _translations(folder)
        pair = guess_pair(read_pairs(source), source.path) if len(directions) > 1 else (None, None)
    except DataError:
        return None  # the evaluation says what is wrong with it
    name = next((name for name, languages in directions.items() if languages == pair), None)
    if name is not None:
        text = "-".join(filter(None, pair))
        warnings.warn(
            f"{source.path}: pairs of {' and '.join(filter(None, pair))}, a guess.  Otherwise: "
            f"`lang={text}`",
            stacklevel=2,
        )
    return name


def task_of_languages(folder: str | Path, languages: str | None) -> str | None:
    """Return a published folder's own name of a translation, such as translation_en_to_de.

    Args:
        folder: Any.
        languages: Codes or names such as ``en-de``; that of the target alone is enough where one
            translation writes it.

    Returns:
        The name; None where the folder has no names of translations.

    Raises:
        ConfigError: It has such names, and none, or several, for the languages.
    """
    if not languages or not is_hugging_face(Path(folder)):
        return None
    from regard.tasks.translation.languages import means_pair

    directions = _translations(folder)
    if not directions:
        return None
    names = [name for name, pair in directions.items() if means_pair(languages, *pair)]
    if len(names) == 1:
        return names[0]
    pairs = ", ".join(map("-".join, directions.values()))
    raise ConfigError(f"`lang={languages}`: {folder} translates {pairs}.")


def _translations(folder: str | Path) -> dict[str, tuple[str, str]]:
    """Return the languages of the translations that a published folder names, by their names."""
    from regard.hub.hugging_face.sentence_transformers import transformer_folder
    from regard.hub.hugging_face.task_prefixes import languages_of_use, read_uses

    names = read_uses(transformer_folder(Path(folder)))
    return {name: pair for name in names if (pair := languages_of_use(name)) is not None}
