"""Data for another task than that of a model: what it was read as, and what the model takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from regard.data.listing import list_first
from regard.data.readers.shape import DataShape, inspect_shape
from regard.data.readers.source import DataSource
from regard.data.readers.tables import sample_records
from regard.errors import DataError, NextStep
from regard.tasks import DEFAULT_TASK, TASKS, claiming_task

if TYPE_CHECKING:
    from regard.setup.base_task import Task

_NUM_NAMED = 6  # columns in a message
_NUM_SAMPLED = 200  # rows whose texts are compared
_ALIKE = 0.5  # of the length of a source, from which a target is no summary of it


@contextmanager
def explain_other_data(source: DataSource, task: Task, model: str) -> Iterator[None]:
    """Explain an error of reading data by the task that it is for, where that is another one.

    A model of running text reads any text, and those that write targets any two columns: where
    they can read data for another task, they warn of it, and else it is refused.

    Args:
        source: The data.
        task: The task of the model.
        model: Its folder.

    Raises:
        DataError: The data is for another task.
    """  # noqa: DOC501 - _refusal makes it
    shape = _shape_of(source)
    other = None if shape is None or task.claims(shape) else claiming_task(shape)
    if shape is not None and other is not None and task.writes_targets:
        raise _refusal(source, shape, task, model, other)
    if shape is not None and (note := _note_rows(source, shape, task, model, other)):
        warnings.warn(note, stacklevel=3)
    try:
        yield
    except DataError as error:
        if shape is not None and other is not None:
            raise _refusal(source, shape, task, model, other) from error
        if shape is None or task.name == DEFAULT_TASK or not _holds_pairs(shape):
            raise
        raise DataError(
            f"{error}  Two columns without these names are sentence pairs, data for "
            f"{DEFAULT_TASK}; {model} is for {task.name}, and takes {task.training_data}.",
            *error.next_steps,
        ) from error


def _shape_of(source: DataSource) -> DataShape | None:
    """Return the shape of data; None where it is unknown."""
    try:
        return inspect_shape(source)
    except DataError:
        return None


def _holds_pairs(shape: DataShape) -> bool:
    """Return whether data that no task claims has two columns, or those of sentence pairs."""
    is_named = {"source", "target"} <= shape.columns.keys()
    return is_named or (shape.kind == "table" and len(shape.names) == 2)


def _note_rows(
    source: DataSource, shape: DataShape, task: Task, model: str, other: str | None
) -> str:
    """Return a note on rows of which a model for another task reads a part; empty for other data.

    Args:
        source: The data.
        shape: Its shape.
        task: The task of the model.
        model: Its folder.
        other: The task that the data is for, if one claims it.
    """
    if other is None:
        return _note_pairs(source, shape, task, model)
    if task.name == "language-modeling" and shape.columns.keys() - {"label"}:
        return (
            f"{source.path}: data for {other} ({TASKS[other].training_data}{_columns(shape)}): "
            f"{model} continues texts, and reads one of each row alone."
        )
    return ""


def _note_pairs(source: DataSource, shape: DataShape, task: Task, model: str) -> str:
    """Return a note on sentence pairs that a model for another task reads; empty for other data.

    Those of a summarizer may be documents and summaries without names of columns: they are pairs
    where the second text is about as long as the first, or both are named for languages.
    """
    if task.claims(shape) or not _holds_pairs(shape):
        return ""
    if task.name == "language-modeling" and "source" not in shape.columns:
        reading = "continues texts, and reads each line with its separator"
    elif task.name == "summarization" and _are_alike(source, shape):
        reading = "writes summaries, and reads a source as a document, a target as its summary"
    else:
        return ""
    return f"{source.path}: looks like sentence pairs, data for {DEFAULT_TASK}: {model} {reading}."


def _are_alike(source: DataSource, shape: DataShape) -> bool:
    """Return whether the texts of two columns have about the same length."""
    names = [shape.columns.get(role, number) for role, number in (("source", "1"), ("target", "2"))]
    rows = sample_records(source, names, num_rows=_NUM_SAMPLED)
    first, second = (sum(len(row[side]) for row in rows) for side in (0, 1))
    return second > _ALIKE * first


def _refusal(source: DataSource, shape: DataShape, task: Task, model: str, other: str) -> DataError:
    step = NextStep("A model for this data", "train", (source.path,), (("output", "FOLDER"),))
    return DataError(
        f"{source.path}: data for {other}; {model} is for {task.name}.  The data was read as "
        f"{TASKS[other].training_data}{_columns(shape)}; the model takes {task.training_data}.",
        *([] if source.is_stream else [step]),
    )


def _columns(shape: DataShape) -> str:
    """Return the names of the columns where the first row has them."""
    has_names = shape.kind == "records" or shape.columns or shape.has_time_column
    if not shape.names or not (has_names or shape.has_numbers_beside_label):
        return ""
    return f", columns {list_first(shape.names, _NUM_NAMED)}"
