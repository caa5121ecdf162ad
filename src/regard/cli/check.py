"""``regard check``: what data holds, and everything that is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from regard.cli.data_options import UNSET, DataOptions
from regard.cli.parameters import Flag, Input, Settings
from regard.cli.wording import message_text
from regard.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regard.data.readers.problems import RowProblem
    from regard.data.readers.source import DataSource
    from regard.setup.base_task import ReadOptions
    from regard.tasks.translation.data import Corpus

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

    request = Request.of([*options.settings(), *settings]).with_paths({"path": data})
    sources = open_sources(request.bind_all_but_model(RunConfig()).data)
    task = choose_task(request, sources["path"])
    draft = request.check(task.defaults)
    read_options = ReadOptions.of_request(request, draft, sources, has_sizes=False)
    if task.name == "translation":
        _check_pairs(read_options, sources, json=json)
    else:
        _check_other(task.name, task.read(read_options), json=json)
    if not json and not sources["path"].is_stream:
        print(f"Next    regard train {data} -o FOLDER")
    return 0


def _check_pairs(options: ReadOptions, sources: Mapping[str, DataSource], *, json: bool) -> None:
    """Report on sentence pairs: every row that cannot be read, or what there is."""
    from regard.data.readers.tables import parse_pairs
    from regard.tasks.translation.data import columns_of, read_corpus

    path = sources["path"].path
    _, problems = parse_pairs(
        sources["path"],
        targets=sources.get("targets"),
        encoding=options.data.encoding,
        columns=columns_of(options.data),
    )
    if problems:
        _print_problems(path, problems, json=json)
        raise DataError(f"{path}: {len(problems):,} rows cannot be read, as listed above.")
    corpus = read_corpus(options)
    if json:
        _print_json(corpus)
    else:
        _print_corpus(corpus)


def _check_other(task: str, dataset: Any, *, json: bool) -> None:
    """Report on running text, or on what has labels."""
    from regard.cli.console import describe
    from regard.tasks.classification.input_data import InputData

    summary = dataset.summary()
    facts = {}
    if isinstance(dataset, InputData):
        facts = {"labels": dataset.label_counts(), "sizes": dataset.sizes()}
    if json:
        print(msgspec.json.encode({"task": task, **msgspec.to_builtins(summary), **facts}).decode())
        return
    print(f"Task    {task}")
    for line in describe(summary):
        print(line)
    if isinstance(dataset, InputData):
        counts = ", ".join(f"{label} {count:,}" for label, count in dataset.label_counts().items())
        print(f"Labels  {counts}")
        print(f"Sizes   {dataset.sizes()}")
    _print_dropped(dataset)


def _print_problems(path: str, problems: list[RowProblem], *, json: bool) -> None:
    texts = [message_text(str(problem)) for problem in problems]
    if json:
        print(msgspec.json.encode({"path": path, "problems": texts}).decode())
        return
    for text in texts[:_SHOWN_PROBLEMS]:
        print(text)
    if len(texts) > _SHOWN_PROBLEMS:
        print(f"... and {len(texts) - _SHOWN_PROBLEMS:,} more (all of them: --json)")


def _print_json(corpus: Corpus) -> None:
    from regard.tasks.translation.data import summarize_lengths

    report = {
        **msgspec.to_builtins(corpus.summary()),
        "num_pairs": sum(map(len, (corpus.train, corpus.valid, corpus.test))),
        "lengths": summarize_lengths(corpus),
        "drops": [msgspec.to_builtins(row) for row in corpus.dropped],
    }
    print(msgspec.json.encode(report).decode())


def _print_corpus(corpus: Corpus) -> None:
    from regard.cli.console import describe
    from regard.tasks.translation.data import summarize_lengths

    for line in describe(corpus.summary()):
        print(line)
    for side, figures in summarize_lengths(corpus).items():
        values = "   ".join(f"{name} {value:,.0f}" for name, value in figures.items())
        print(f"Length  {side}: {values}   (characters)")
    _print_dropped(corpus)


def _print_dropped(dataset: Any) -> None:
    for row in dataset.dropped[:_SHOWN_DROPS]:
        print(f"        {dataset.path}:{row.line}: {row.reason}: {row.text[:60]}")
    if len(dataset.dropped) > _SHOWN_DROPS:
        more = len(dataset.dropped) - _SHOWN_DROPS
        print(f"        ... and {more:,} more (all of them: --json)")
