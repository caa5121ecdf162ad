"""``regard check``: what data holds, and everything that is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from regard.cli.data_options import UNSET, DataOptions
from regard.cli.parameters import Flag, Input, Settings
from regard.cli.wording import command_text, message_text
from regard.errors import DataError, NextStep

if TYPE_CHECKING:
    from regard.setup.base_task import ReadOptions

_SHOWN_DROPS = 10
_SHOWN_PROBLEMS = 100


def check(
    data: Annotated[str, Input],
    *,
    settings: Annotated[tuple[str, ...], Settings] = (),
    options: DataOptions = UNSET,
    json: Annotated[bool, Flag] = False,
) -> int:
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
    request = Request.parse(typed).with_paths({"path": data})
    sources = open_sources(request.bind_all_but_model(RunConfig()).data)
    task = choose_task(request, sources["path"])
    draft = request.check(task.defaults)
    read_options = ReadOptions.from_request(request, draft, sources, has_sizes=False)
    if task.name == "translation":
        _refuse_problems(read_options, json=json)
    dataset = task.read(read_options)
    if json:
        _print_json(task.name, dataset)
        return 0
    _print(task.name, dataset)
    if not any(source.is_stream for source in sources.values()):
        values = [(name, value) for name, _, value in (text.partition("=") for text in typed)]
        step = NextStep("Train", "train", (data,), (*values, ("output", "FOLDER")))
        print(f"Next    {command_text(step)}")
    return 0


def _refuse_problems(options: ReadOptions, *, json: bool) -> None:
    """Print all rows of sentence pairs that cannot be read; raise DataError if there are some."""
    from regard.data.readers.problems import group_problems
    from regard.data.readers.tables import parse_pairs
    from regard.tasks.translation.data import columns_of

    path = options.sources["path"].path
    _, problems = parse_pairs(
        options.sources["path"],
        targets=options.sources.get("targets"),
        encoding=options.data.encoding,
        columns=columns_of(options.data),
    )
    if not problems:
        return
    if json:
        found = [row._asdict() | {"remedy": message_text(row.remedy)} for row in problems]
        print(msgspec.json.encode({"path": path, "problems": found}).decode())
    else:
        for problem in problems[:_SHOWN_PROBLEMS]:
            print(message_text(str(problem)))
        if len(problems) > _SHOWN_PROBLEMS:
            print(f"... and {len(problems) - _SHOWN_PROBLEMS:,} more (all of them: --json):")
            for kind in group_problems(problems):
                lines = ", ".join(f"{line:,}" for line in kind.lines)
                print(f"{kind.num_problems:,} such as line {lines}: {kind.first.reason}")
    rows = "1 row" if len(problems) == 1 else f"{len(problems):,} rows"
    raise DataError(f"{path}: {rows} cannot be read, as listed above.")


def _print_json(task: str, dataset: Any) -> None:
    """Print the report as an object, with all rows that were left out."""
    from regard.tasks.classification.input_data import InputClassificationData
    from regard.tasks.translation.data import TranslationData, summarize_lengths

    report = {"task": task, **msgspec.to_builtins(dataset.summary())}
    if isinstance(dataset, TranslationData):
        report["num_pairs"] = sum(map(len, (dataset.train, dataset.valid, dataset.test)))
        report["lengths"] = summarize_lengths(dataset)
    elif isinstance(dataset, InputClassificationData):
        report |= {"labels": dataset.label_counts(), "sizes": dataset.describe_inputs()}
    report["drops"] = [msgspec.to_builtins(row) for row in dataset.dropped]
    print(msgspec.json.encode(report).decode())


def _print(task: str, dataset: Any) -> None:
    """Print the report as text, with the first rows that were left out."""
    from regard.cli.console import describe
    from regard.tasks.classification.input_data import InputClassificationData
    from regard.tasks.translation.data import TranslationData, summarize_lengths

    print(f"Task    {task}")
    for line in describe(dataset.summary()):
        print(line)
    if isinstance(dataset, TranslationData):
        for side, figures in summarize_lengths(dataset).items():
            values = "   ".join(f"{name} {value:,.0f}" for name, value in figures.items())
            print(f"Length  {side}: {values}   (characters)")
    elif isinstance(dataset, InputClassificationData):
        counts = ", ".join(f"{label} {count:,}" for label, count in dataset.label_counts().items())
        print(f"Labels  {counts}\nSizes   {dataset.describe_inputs()}")
    for row in dataset.dropped[:_SHOWN_DROPS]:
        print(f"        {dataset.path}:{row.line}: {row.reason}: {row.text[:60]}")
    if len(dataset.dropped) > _SHOWN_DROPS:
        more = len(dataset.dropped) - _SHOWN_DROPS
        print(f"        ... and {more:,} more (all of them: --json)")
