"""The tasks by name, and which one a file is for."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from regard.data.readers.idx import find_idx, is_idx
from regard.data.readers.labeled_folders import AUDIO_SUFFIXES, IMAGE_SUFFIXES, count_suffixes
from regard.data.readers.series import is_number
from regard.data.readers.tables import read_cells, read_lines
from regard.data.readers.text_lines import TextFile
from regard.errors import DataError
from regard.hub.hugging_face.checkpoint import is_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.runs.published_models import open_published
from regard.setup.base_task import Task
from regard.setup.config import RunConfig, TaskName
from regard.setup.published_images import reads_images
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.input_task import InputClassification
from regard.tasks.classification.modalities import KINDS
from regard.tasks.classification.task import TextClassification
from regard.tasks.language_modeling.task import LanguageModeling
from regard.tasks.masked_language_modeling.task import MaskedLanguageModeling
from regard.tasks.translation.task import Translation

TASKS: dict[TaskName, Task] = {
    "translation": Translation(),
    "language-modeling": LanguageModeling(),
    "masked-language-modeling": MaskedLanguageModeling(),
    "classification": TextClassification(),
    **{kind.task: InputClassification(kind) for kind in KINDS},
}

_INPUTS = AUDIO_SUFFIXES | IMAGE_SUFFIXES
_LAYOUTS = "{}/LABEL/FILE.wav or FILE.png, or MNIST's train-images-idx3-ubyte.gz."
_RUNNING = (".txt", ".md", ".text")
_FEWEST_CELLS = 4  # of a row that is taken for a series though no column is called "label"
_KEY = re.compile(r'"(\w+)"\s*:')


def guess_task(path: str | Path, *, has_targets: bool = False, encoding: str = "utf-8") -> TaskName:
    """Tell which task a file is for, by its first line, or a folder, by the files in it.

    Args:
        path: The file or folder; one that cannot be read is left to the task to complain about.
        has_targets: Whether a second file holds translations.
        encoding: Of the file.

    Raises:
        DataError: It is a folder of none of the known layouts, or one image or recording.
    """
    if has_targets:
        return "translation"
    if Path(path).is_dir():
        return _guess_by_files(Path(path))
    if Path(path).is_file() and (is_idx(path) or Path(path).suffix.lower() in _INPUTS):
        raise DataError(
            f"{path}: one file of images or sound.  Name the folder: {_LAYOUTS.format('FOLDER')}"
        )
    try:
        first = next((line for line in read_lines(path, encoding=encoding) if line.strip()), "")
    except DataError:
        return "translation"
    return _guess_by_line(first, path, encoding)


def _guess_by_line(first: str, path: str | Path, encoding: str) -> TaskName:
    """Tell the task by the first line of a file, and by numbers below it."""
    keys = set(_KEY.findall(first)) if first.lstrip().startswith("{") else set()
    columns = keys or set(re.split(r"[\t,;]", first.strip()))
    if columns >= {"text", "label"}:
        return "classification"
    if keys and "text" in keys:
        return "language-modeling"
    if "label" in columns and not keys and _holds_numbers(path, encoding):
        return "series-classification"
    if Path(path).suffix.lower() in _RUNNING and "\t" not in first:
        return "language-modeling"
    is_series = not keys and _looks_like_series(path, encoding)
    return "series-classification" if is_series else "translation"


def _guess_by_files(folder: Path) -> TaskName:
    """Tell what lies in the folders of a folder; a folder without any is left to complain about."""
    if find_idx(folder):
        return "image-classification"
    counts = count_suffixes(folder)
    num_images = sum(counts[suffix] for suffix in IMAGE_SUFFIXES)
    num_recordings = sum(counts[suffix] for suffix in AUDIO_SUFFIXES)
    if num_images or num_recordings:
        is_audio = num_recordings >= num_images
        return "audio-classification" if is_audio else "image-classification"
    flat = Counter(entry.suffix.lower() for entry in folder.iterdir() if entry.is_file())
    if not flat.keys() & _INPUTS and not any(entry.is_dir() for entry in folder.iterdir()):
        return "translation"
    raise DataError(
        f"{folder}: no WAV files and no images in folders named for their labels.  "
        f"Expected {_LAYOUTS.format(folder)}"
    )


def _holds_numbers(path: str | Path, encoding: str) -> bool:
    """Tell whether the first row of a file has numbers beside its label."""
    records = read_cells(TextFile(str(path), encoding, None, problems=[]))
    _, header = next(records, (1, []))
    _, cells = next(records, (1, []))
    names = [name.strip() for name in header]
    others = [c for name, c in zip(names, cells, strict=False) if name != "label" and c.strip()]
    return "label" in names and bool(others) and all(map(is_number, others))


def _looks_like_series(path: str | Path, encoding: str) -> bool:
    """Tell whether a row has numbers and one text at most; the column of labels is to be named."""
    records = read_cells(TextFile(str(path), encoding, None, problems=[]))
    next(records, None)
    _, cells = next(records, (1, []))
    given = [cell for cell in cells if cell.strip()]
    return len(given) >= _FEWEST_CELLS and sum(map(is_number, given)) >= len(given) - 1


def open_model(folder: str | Path) -> Any:
    """Open a model folder by the task it was trained for, or one in Hugging Face's layout."""
    if is_hugging_face(Path(folder)) and reads_images(folder):
        return InputClassifier.open_published(folder)
    if is_hugging_face(Path(folder)):
        return open_published(folder)
    config = ModelFolder(folder).read_config(RunConfig)
    return TASKS[config.task].open(folder)
