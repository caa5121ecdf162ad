"""``regard check``: a report on data, with everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from regard.cli.data_options import UNSET, DataOptions
from regard.cli.outputs import as_json, escape
from regard.cli.parameters import Flag, Name, Settings
from regard.cli.progress import show_stages
from regard.cli.wording import command_text, error_text, message_text
from regard.data.listing import pluralize, shorten_line
from regard.errors import DataError, NextStep
from regard.runs.train_options import option_errors

if TYPE_CHECKING:
    from regard.data.readers.problems import RowProblem
    from regard.setup.base_task import Task
    from regard.setup.dataset import Dataset, ReadOptions
    from regard.setup.facts import DataDetails

_PRINTED_DROPS = 10
_PRINTED_PROBLEMS = 100


def check(
    data: Annotated[str, Name],
    *,
    settings: Annotated[tuple[str, ...], Settings] = (),
    options: DataOptions = UNSET,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Report on a data file, without training.

    Parameters
    ----------
    data
        Sentence pairs, documents with summaries, texts or rows of numbers with labels, questions
        on texts, running text, series, or a folder of images or recordings; - reads standard input.
    settings
        section.key=value, such as task=masked-language-modeling or data.max_length=128.
    options
        Where the data is and how it is read.
    json
        One JSON object instead of text.
    """
    with option_errors(asdict(options)):
        _check(data, settings, options, json=json)


def _check(data: str, settings: tuple[str, ...], options: DataOptions, *, json: bool) -> None:
    """Read data with some settings, and report on it."""
    from regard.setup.config import RunConfig
    from regard.setup.dataset import ReadOptions
    from regard.setup.inspect import open_sources
    from regard.setup.request import Request
    from regard.tasks.choice import choose_task

    typed = (*options.settings(), *settings)
    request = Request.parse(typed, paths={"path": data})
    with show_stages():
        sources = open_sources(request.bind_all_but_model(RunConfig()).data)
    task = choose_task(request, sources["path"])
    draft = request.check(task.defaults)
    read_options = ReadOptions.from_request(request, draft, sources, has_sizes=False)
    dataset, details = _read(task, read_options, data, json=json)
    is_stream = any(source.is_stream for source in sources.values())
    next_command = None if is_stream else _training_command(data, typed)
    if json:
        _print_json(task.name, dataset, details, next_command)
        return
    _print(task.name, dataset, details)
    if next_command:
        print(f"Next    {next_command}")


def _training_command(data: str, settings: Sequence[str]) -> str:
    """Return the command that trains on some data."""
    values = [(name, value) for name, _, value in (text.partition("=") for text in settings)]
    filled = [(name, value) for name, value in values if value]
    return command_text(NextStep("Train", "train", (data,), (*filled, ("output", "FOLDER"))))


def _read(
    task: Task, options: ReadOptions, path: str, *, json: bool
) -> tuple[Dataset[Any], DataDetails]:
    """Read data, and collect what a report says about it; print every problem that it has."""
    from regard.data.readers.problems import RowProblem, UnreadableRowsError

    try:
        with show_stages():
            dataset = task.read(options)
            return dataset, dataset.details()
    except UnreadableRowsError as error:
        _report_problems(path, task.name, error.problems, error.num_rows, json=json)
        if json or len(error.problems) == 1:
            raise
        rows = _count(error.problems)
        raise DataError(f"{path}: {rows} cannot be read, as listed above.") from error
    except DataError as error:
        problem = RowProblem(path, None, error_text(error))
        _report_problems(path, task.name, [problem], 0, json=json)
        raise


def _count(problems: Sequence[RowProblem]) -> str:
    """Return the number of rows with problems, or of files where these are files."""
    noun = "files" if all(problem.is_of_file for problem in problems) else "rows"
    return f"{len(problems):,} {noun}"


def _report_problems(
    path: str, task: str, problems: Sequence[RowProblem], num_rows: int, *, json: bool
) -> None:
    """Print several problems of data, those of one kind once; as JSON, each of them."""
    from regard.data.readers.problems import list_problems

    if json:
        report = {
            "path": path,
            "task": task,
            "read_as": "",
            "columns": [],
            "rows": num_rows,
            "dropped": {},
            "problems": [row._asdict() | {"remedy": message_text(row.remedy)} for row in problems],
            "next": None,
        }
        print(as_json(report))
    elif len(problems) > 1:
        lines = list_problems(problems)
        for line in lines[:_PRINTED_PROBLEMS]:
            print(message_text(line))
        if len(lines) > _PRINTED_PROBLEMS:
            print(f"... and {len(lines) - _PRINTED_PROBLEMS:,} more (all of them: --json)")


def _print_json(
    task: str, dataset: Dataset[Any], details: DataDetails, next_command: str | None
) -> None:
    """Print the report as an object, with all rows that were left out."""
    summary = dataset.summary()
    num_rows = summary.num_train + summary.num_valid + summary.num_test
    report = {"task": task, **msgspec.to_builtins(summary), "rows": num_rows}
    report["warnings"] = [message_text(text) for text in summary.warnings]
    report |= {"problems": [], "next": next_command}
    report |= details.fields
    report["near_duplicates"] = details.num_near_duplicates
    report["drops"] = msgspec.to_builtins(dataset.dropped)
    print(as_json(report))


def _print(task: str, dataset: Dataset[Any], details: DataDetails) -> None:
    """Print the report as text, with the first rows that were left out."""
    from regard.cli.console import describe

    for line in describe(dataset.summary()):
        print(line)
    print(f"Task    {task}")
    for title, text in details.lines:
        print(escape(f"{title:<7} {text}"))
    if num_similar := details.num_near_duplicates:
        rows = pluralize(num_similar, "row differs", "rows differ")
        print(
            f"Similar {rows} from another only in punctuation, quotes or invisible characters; "
            "such rows are kept in one part"
        )
    for row in dataset.dropped[:_PRINTED_DROPS]:
        print(f"        {row.locate(dataset.path)}: {row.reason}: {shorten_line(row.text, 60)}")
    if len(dataset.dropped) > _PRINTED_DROPS:
        more = len(dataset.dropped) - _PRINTED_DROPS
        print(f"        ... and {more:,} more (all of them: --json)")
