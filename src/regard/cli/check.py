"""``regard check``: a report on data, with everything that is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from regard.cli.data_options import UNSET, DataOptions
from regard.cli.parameters import Flag, Input, Settings
from regard.cli.wording import command_text, message_text
from regard.errors import DataError, NextStep

if TYPE_CHECKING:
    from regard.data.readers.source import DataSource
    from regard.setup.base_task import ReadOptions
    from regard.setup.config import DataConfig

_PRINTED_DROPS = 10
_PRINTED_PROBLEMS = 100
_CONTENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "translation": ("sentence pairs", ("source", "target")),
    "classification": ("labelled text", ("text", "label")),
    "language-modeling": ("running text", ("text",)),
    "masked-language-modeling": ("running text", ("text",)),
    "image-classification": ("images, a folder for each label", ()),
    "audio-classification": ("recordings, a folder for each label", ()),
    "series-classification": ("rows of numbers with a label", ("label",)),
}
"""The content of the data of each task, and the roles of the columns that it reads."""


def check(
    data: Annotated[str, Input],
    *,
    settings: Annotated[tuple[str, ...], Settings] = (),
    options: DataOptions = UNSET,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Report on a data file, without training.

    Parameters
    ----------
    data
        Sentence pairs, texts or rows of numbers with labels, running text, or a folder of images or
        recordings; - reads standard input.
    settings
        section.key=value, such as task=masked-language-modeling or data.max_length=128.
    options
        Where the data is and how it is read.
    json
        One JSON object instead of text.
    """
    from regard.runs.run import choose_task
    from regard.setup.base_task import ReadOptions
    from regard.setup.config import RunConfig
    from regard.setup.inspect import open_sources
    from regard.setup.request import Request

    typed = (*options.settings(), *settings)
    request = Request.parse(typed, paths={"path": data})
    sources = open_sources(request.bind_all_but_model(RunConfig()).data)
    task = choose_task(request, sources["path"])
    draft = request.check(task.defaults)
    read_options = ReadOptions.from_request(request, draft, sources, has_sizes=False)
    columns = _columns(task.name, sources["path"], draft.data)
    read_as = _CONTENTS[task.name][0]
    read_as += f", columns {', '.join(columns)}" if columns else ""
    report: dict[str, Any] = {"read_as": read_as, "columns": columns, "problems": [], "next": None}
    if task.name == "translation":
        _refuse_problems(read_options, report, json=json)
    dataset = task.read(read_options)
    if not any(source.is_stream for source in sources.values()):
        values = [(name, value) for name, _, value in (text.partition("=") for text in typed)]
        step = NextStep("Train", "train", (data,), (*values, ("output", "FOLDER")))
        report["next"] = command_text(step)
    if json:
        _print_json(task.name, dataset, report)
        return
    print(f"Task    {task.name}   read as {read_as}")
    _print(dataset)
    if report["next"]:
        print(f"Next    {report['next']}")


def _columns(task: str, source: DataSource, data: DataConfig) -> list[str]:
    """Return the names of the columns that are read; empty for data without a header."""
    from regard.data.readers.columns import is_language_code
    from regard.data.readers.shape import inspect_shape

    if data.columns or data.targets or source.is_folder:
        return list(data.columns)
    shape = inspect_shape(source, data.encoding)
    if shape.kind not in ("records", "table"):
        return []
    columns = [shape.columns[role] for role in _CONTENTS[task][1] if role in shape.columns]
    # TSV has no header as a rule, and a word list may well begin with "so" and "da".
    is_tsv = shape.kind == "table" and source.suffix != ".csv"
    return [] if is_tsv and any(map(is_language_code, columns)) else columns


def _refuse_problems(options: ReadOptions, report: dict[str, Any], *, json: bool) -> None:
    """Print all rows of sentence pairs that cannot be read; raise DataError if there are some."""
    from regard.data.readers.problems import group_problems
    from regard.data.readers.tables import parse_pairs
    from regard.tasks.translation.data import columns_of

    path = options.sources["path"].path
    pairs, problems = parse_pairs(
        options.sources["path"],
        targets=options.sources.get("targets"),
        encoding=options.data.encoding,
        columns=columns_of(options.data),
    )
    if not problems:
        return
    if json:
        report["problems"] = [
            row._asdict() | {"remedy": message_text(row.remedy)} for row in problems
        ]
        report = {"path": path, "rows": len(pairs), "dropped": {}, **report}
        print(msgspec.json.encode(report).decode())
    else:
        for problem in problems[:_PRINTED_PROBLEMS]:
            print(message_text(str(problem)))
        if len(problems) > _PRINTED_PROBLEMS:
            print(f"... and {len(problems) - _PRINTED_PROBLEMS:,} more (all of them: --json):")
            for kind in group_problems(problems):
                lines = ", ".join(f"{line:,}" for line in kind.lines)
                print(f"{kind.num_problems:,} such as line {lines}: {kind.first.reason}")
    rows = "1 row" if len(problems) == 1 else f"{len(problems):,} rows"
    raise DataError(f"{path}: {rows} cannot be read, as listed above.")


def _print_json(task: str, dataset: Any, report: dict[str, Any]) -> None:
    """Print the report as an object, with all rows that were left out."""
    from regard.tasks.classification.input_data import InputClassificationData
    from regard.tasks.translation.data import TranslationData, summarize_lengths

    summary = dataset.summary()
    num_rows = summary.num_train + summary.num_valid + summary.num_test
    report = {"task": task, **msgspec.to_builtins(summary), "rows": num_rows, **report}
    if isinstance(dataset, TranslationData):
        report |= {"num_pairs": num_rows, "lengths": summarize_lengths(dataset)}
    elif isinstance(dataset, InputClassificationData):
        report |= {"labels": dataset.label_counts(), "sizes": dataset.describe_inputs()}
    report["drops"] = msgspec.to_builtins(dataset.dropped)
    print(msgspec.json.encode(report).decode())


def _print(dataset: Any) -> None:
    """Print the report as text, with the first rows that were left out."""
    from regard.cli.console import describe
    from regard.tasks.classification.input_data import InputClassificationData
    from regard.tasks.translation.data import TranslationData, summarize_lengths

    for line in describe(dataset.summary()):
        print(line)
    if isinstance(dataset, TranslationData):
        for language, figures in summarize_lengths(dataset).items():
            values = "   ".join(f"{name} {value:,.0f}" for name, value in figures.items())
            print(f"Length  {language}: {values}   (characters)")
    elif isinstance(dataset, InputClassificationData):
        counts = ", ".join(f"{label} {count:,}" for label, count in dataset.label_counts().items())
        print(f"Labels  {counts}\nSizes   {dataset.describe_inputs()}")
    for row in dataset.dropped[:_PRINTED_DROPS]:
        print(f"        {dataset.path}:{row.line}: {row.reason}: {row.text[:60]}")
    if len(dataset.dropped) > _PRINTED_DROPS:
        more = len(dataset.dropped) - _PRINTED_DROPS
        print(f"        ... and {more:,} more (all of them: --json)")
