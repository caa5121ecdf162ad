"""``regard check``: what a data file holds, and everything that is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from regard.errors import DataError

if TYPE_CHECKING:
    from regard.setup.config import TaskName
    from regard.tasks.translation.data import Corpus

Flag = Parameter(negative=())
_SHOWN_DROPS = 10
_SHOWN_PROBLEMS = 100


def check(
    data: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    targets: str | None = None,
    encoding: str = "utf-8",
    lang: str = "",
    json: Annotated[bool, Flag] = False,
) -> int:
    """Report on a data file, without training.

    Parameters
    ----------
    data
        Sentence pairs, texts or rows of numbers with labels, running text, or a folder of images or
        recordings; - reads sentence pairs from standard input.
    targets
        File of target sentences, when DATA holds the source sentences only.
    encoding
        Of the files.
    lang
        Language codes, such as en-de.
    json
        One JSON object instead of text.
    """
    if data != "-":
        _report(data, targets, encoding, lang, json=json)
        if not json:
            print(f"Next    regard train {data} -o FOLDER")
        return 0
    stored = _store_input()
    try:
        _report(str(stored), targets, encoding, lang, json=json)
    finally:
        stored.unlink()
    return 0


def _report(data: str, targets: str | None, encoding: str, lang: str, *, json: bool) -> None:
    """Report on a file."""
    from regard.data.readers.tables import find_problems
    from regard.runs.registry import guess_task
    from regard.setup.config import DataConfig
    from regard.tasks.translation.data import read_corpus

    task = guess_task(data, has_targets=targets is not None, encoding=encoding)
    if task != "translation":
        _check_text(data, task, encoding, json=json)
        return
    problems = find_problems(data, targets=targets, encoding=encoding)
    if problems:
        _print_problems(data, problems, json=json)
        raise DataError(f"{data}: {len(problems):,} rows cannot be read, as listed above.")
    config = DataConfig(path=data, targets=targets, encoding=encoding, languages=lang)
    corpus = read_corpus(config, seed=1)
    if json:
        _print_json(corpus)
    else:
        _print_corpus(corpus)


def _check_text(data: str, name: TaskName, encoding: str, *, json: bool) -> None:
    """Report on running text, or on what has labels."""
    from regard.cli.console import describe
    from regard.runs.registry import TASKS
    from regard.tasks.classification.input_task import InputData

    task = TASKS[name]
    replace = msgspec.structs.replace
    defaults = task.defaults
    text = task.read(replace(defaults, data=replace(defaults.data, path=data, encoding=encoding)))
    found = task.describe(text)
    facts = text.facts() if isinstance(text, InputData) else {}
    if json:
        print(msgspec.json.encode({"task": name, **msgspec.to_builtins(found), **facts}).decode())
        return
    print(f"Task    {name}")
    for line in describe(found):
        print(line)
    if isinstance(text, InputData):
        shown = ", ".join(f"{label} {count:,}" for label, count in text.label_counts().items())
        print(f"Labels  {shown}")
        print(f"Sizes   {text.sizes()}")
    for drop in text.dropped[:_SHOWN_DROPS]:
        print(f"        {text.path}:{drop.line}: {drop.reason}: {drop.text[:60]}")


def _print_problems(data: str, problems: list[str], *, json: bool) -> None:
    if json:
        print(msgspec.json.encode({"path": data, "problems": problems}).decode())
        return
    for problem in problems[:_SHOWN_PROBLEMS]:
        print(problem)
    if len(problems) > _SHOWN_PROBLEMS:
        print(f"... and {len(problems) - _SHOWN_PROBLEMS:,} more (all of them: --json)")


def _print_json(corpus: Corpus) -> None:
    from regard.tasks.translation.data import summarize_lengths
    from regard.tasks.translation.task import Translation

    drops = [msgspec.to_builtins(drop) for drop in corpus.dropped]
    facts = msgspec.to_builtins(Translation().describe(corpus))
    num_pairs = sum(map(len, (corpus.train, corpus.valid, corpus.test)))
    report = {**facts, "num_pairs": num_pairs, "lengths": summarize_lengths(corpus), "drops": drops}
    print(msgspec.json.encode(report).decode())


def _print_corpus(corpus: Corpus) -> None:
    from regard.cli.console import describe
    from regard.tasks.translation.data import summarize_lengths
    from regard.tasks.translation.task import Translation

    for line in describe(Translation().describe(corpus)):
        print(line)
    for side, figures in summarize_lengths(corpus).items():
        shown = "   ".join(f"{name} {value:,.0f}" for name, value in figures.items())
        print(f"Length  {side}: {shown}   (characters)")
    for drop in corpus.dropped[:_SHOWN_DROPS]:
        print(f"        {corpus.path}:{drop.line}: {drop.reason}: {drop.text[:60]}")
    if len(corpus.dropped) > _SHOWN_DROPS:
        more = len(corpus.dropped) - _SHOWN_DROPS
        print(f"        ... and {more:,} more (all of them: --json)")


def _store_input() -> Path:
    """Keep standard input in a temporary file, since it is read twice."""
    import tempfile

    content = sys.stdin.buffer.read()
    suffix = ".jsonl" if content.lstrip().startswith(b"{") else ".tsv"
    with tempfile.NamedTemporaryFile(delete=False, suffix=suffix) as stream:
        stream.write(content)
    return Path(stream.name)
