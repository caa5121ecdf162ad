"""What a folder of T5 says of its tasks: the text that each begins with, and its search.

The first words of a text say what T5 is to write (Raffel et al. 2020, section 2.4). ``config.json``
has them for the tasks that a model was trained for (``task_specific_params``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from regard.errors import ConfigError
from regard.hub.file_names import EXPORTER, HF_CONFIG
from regard.hub.hugging_face.weight_files import read_json
from regard.models import ENCODER_DECODERS

CONTEXT_PREFIX = "context_prefix"
"""Field of ``config.json`` for what is between a question and its text, next to ``prefix``."""
USES = "task_specific_params"
_QUESTIONS, _TRANSLATION = "question-answering", "translation"


class QuestionWords(NamedTuple):
    """The words around a question and its text, where a model reads them as one text.

    Args:
        question: Before a question.
        context: Between a question and its text; empty where a token separates them.
    """

    question: str = ""
    context: str = ""


_T5_QUESTIONS = QuestionWords("question: ", " context: ")


def read_uses(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read what a folder of T5 says of its tasks.

    Each has a ``prefix``, which texts begin with, and fields of ``generation_config.json`` that
    count for it. ``transformers`` obeyed them in pipelines until version 5. Tasks without a prefix,
    which folders of BART have, say nothing that ``generation_config.json`` does not.

    Args:
        folder: Folder with ``config.json``.

    Returns:
        The fields by the names of the tasks, such as summarization and translation_en_to_de.

    Raises:
        ConfigError: They have another form.
    """
    path = folder / HF_CONFIG
    uses = read_json(path).get(USES) or {}
    is_known = isinstance(uses, dict) and all(
        isinstance(fields, dict) and isinstance(fields.get("prefix") or "", str)
        for fields in uses.values()
    )
    if not is_known:
        text = json.dumps(uses)[:80]
        raise ConfigError(
            f"{path}: {USES}={text}: an object for each task was expected, with the prefix as text."
        )
    return {name: fields for name, fields in uses.items() if fields.get("prefix")}


def read_prefixes(folder: Path) -> dict[str, str]:
    """Return what texts begin with, by the names of `read_uses`; "" is for all other tasks.

    Args:
        folder: Folder with ``config.json``.

    Returns:
        The prefixes that there are; that of questions is from `read_question_words`.
    """
    named: dict[str, Any] = {_QUESTIONS: read_question_words(folder).question}
    named |= {name: fields.get("prefix") for name, fields in read_uses(folder).items()}
    named[""] = read_json(folder / HF_CONFIG).get("prefix")
    return {name: prefix for name, prefix in named.items() if isinstance(prefix, str) and prefix}


def read_question_words(folder: Path) -> QuestionWords:
    """Read how a question and its text are joined.

    Folders of T5 do not say it: theirs are the words of SQuAD in the mixture of tasks that they
    were trained on (Raffel et al. 2020, appendix D.15). A model that learned one task with regard
    has the words that it learned.

    Args:
        folder: Folder with ``config.json``.

    Returns:
        The words; empty ones where a token separates the two.
    """
    fields = read_json(folder / HF_CONFIG)
    if fields.items() >= EXPORTER.items() and not fields.get(USES):
        return QuestionWords(*(str(fields.get(name) or "") for name in ("prefix", CONTEXT_PREFIX)))
    model_types = [form.model_type for form in ENCODER_DECODERS["t5"].formats]
    return _T5_QUESTIONS if fields.get("model_type") in model_types else QuestionWords()


def name_of_use(task: str, languages: str) -> str:
    """Return the name that a folder gives a task, of translation with its languages.

    >>> name_of_use("translation", "en-de"), name_of_use("summarization", "en")
    ('translation_en_to_de', 'summarization')
    """
    if task != _TRANSLATION or not languages:
        return task
    return f"{_TRANSLATION}_{languages.replace('-', '_to_', 1)}"


def languages_of_use(name: str) -> tuple[str, str] | None:
    """Return the languages that a translation is between; None for the name of another task.

    >>> languages_of_use("translation_en_to_de"), languages_of_use("summarization")
    (('en', 'de'), None)
    """
    prefix = f"{_TRANSLATION}_"
    source, _, target = name.removeprefix(prefix).partition("_to_")
    return (source, target) if name.startswith(prefix) and source and target else None
