"""The tasks by name, and which one a file is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regard.data.files import read_lines
from regard.errors import DataError
from regard.interchange.folder import ModelFolder
from regard.interchange.hugging_face import is_hugging_face
from regard.tasks.classification_task import TextClassification
from regard.tasks.language_modeling_task import LanguageModeling
from regard.tasks.masked_language_modeling import MaskedLanguageModeling
from regard.tasks.published import open_published
from regard.tasks.run_config import RunConfig, TaskName
from regard.tasks.task import Task
from regard.tasks.translation_task import Translation

TASKS: dict[TaskName, Task] = {
    "translation": Translation(),
    "language-modeling": LanguageModeling(),
    "masked-language-modeling": MaskedLanguageModeling(),
    "classification": TextClassification(),
}

_RUNNING = (".txt", ".md", ".text")
_KEY = re.compile(r'"(\w+)"\s*:')


def guess_task(path: str | Path, *, has_targets: bool = False, encoding: str = "utf-8") -> TaskName:
    """Tell which task a file is for, by its first line.

    Args:
        path: The file; one that cannot be read is left to the task to complain about.
        has_targets: Whether a second file holds translations.
        encoding: Of the file.
    """
    if has_targets:
        return "translation"
    try:
        first = next((line for line in read_lines(path, encoding=encoding) if line.strip()), "")
    except DataError:
        return "translation"
    keys = set(_KEY.findall(first)) if first.lstrip().startswith("{") else set()
    columns = keys or set(re.split(r"[\t,;]", first.strip()))
    if columns >= {"text", "label"}:
        return "classification"
    if keys and "text" in keys:
        return "language-modeling"
    is_running = Path(path).suffix.lower() in _RUNNING and "\t" not in first
    return "language-modeling" if is_running else "translation"


def open_model(folder: str | Path) -> Any:
    """Open a model folder by the task it was trained for, or one in Hugging Face's layout."""
    if is_hugging_face(Path(folder)):
        return open_published(folder)
    config = ModelFolder(folder).read_config(RunConfig)
    return TASKS[config.task].open(folder)
