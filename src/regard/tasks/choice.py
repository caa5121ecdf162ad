"""The task of a run, as set or by the data; what it does not read is refused."""

from __future__ import annotations

from regard.data.listing import spell_number
from regard.data.readers.source import DataSource
from regard.errors import ConfigError
from regard.settings.values import word_of
from regard.setup.base_task import Task
from regard.setup.config import RunConfig
from regard.setup.request import Request
from regard.tasks import DEFAULT_TASK, TASKS, guess_task, task_named


def choose_task(request: Request, source: DataSource | None) -> Task:
    """Return the task of a request, by default the task of the data.

    Args:
        request: What the user set.
        source: The data; None for the embedded corpus.

    Raises:
        ConfigError: The task is unknown, or does not read a setting that is set.
        DataError: No task can use the data.
    """
    draft = request.bind_all_but_model(RunConfig())
    if request.task is not None:
        name = request.task
    elif source is None:
        name = DEFAULT_TASK
    elif draft.data.label_separator:
        name = "classification"
    else:
        data = request.table.get("data", {})
        encoding = str(data.get("encoding", "utf-8"))
        has_targets = data.get("targets", "none") != "none"
        columns = draft.data.columns
        name = guess_task(source, has_targets=has_targets, encoding=encoding, columns=columns)
    task = task_named(name)
    kind = draft.qa.kind
    if request.is_explicit("qa.kind") and task.for_config(draft).defaults.qa.kind != kind:
        raise ConfigError(
            f"qa.kind={kind}: a kind of question answering; the data is for {name}.  Rows with "
            "context, question and answers are for `task=question-answering`"
        )
    if source is None or request.is_explicit("data.multi_label"):
        task = task.for_config(draft)
    else:
        task = task.for_data(draft, source)
    _require_read(request, draft, task)
    if len(draft.data.columns) > task.most_columns:
        names = ",".join(draft.data.columns)
        raise ConfigError(
            f"data.columns={names}: {spell_number(len(draft.data.columns))} names; the data is for "
            f"{task.name}, which reads {spell_number(int(task.most_columns))} at most.  A text and "
            "a column of 0 and 1 for each of its labels are for `task=classification`"
        )
    return task


def _require_read(request: Request, draft: RunConfig, task: Task) -> None:
    """Raise ConfigError where a setting differs from its default that only other tasks read."""
    all_sections = frozenset(name for other in TASKS.values() for name in other.sections)
    refused = {(section, None) for section in all_sections - task.sections}
    refused |= {("data", name) for name in task.unread}
    for section, name in sorted(refused, key=str):
        table = request.explicit.get(section)
        names = table if isinstance(table, dict) else {}
        for key in names if name is None else {name} & names.keys():
            value = getattr(getattr(draft, section), key)
            if value == getattr(getattr(RunConfig(), section), key):
                continue
            readers = [
                other.name
                for other in TASKS.values()
                if (section in other.sections if name is None else name not in other.unread)
            ]
            raise ConfigError(
                f"`{section}.{key}={word_of(value)}`: a setting of {', '.join(readers)}; the data "
                f"is for {task.name}.  Leave it out."
            )


__all__ = ["choose_task"]
