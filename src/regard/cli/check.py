"""``regard check``: what a data file holds, and everything that is wrong with it."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter

from regard.errors import DataError

Flag = Parameter(negative=())


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
        TSV, CSV or JSONL file of sentence pairs, or - for standard input.
    targets
        File of target sentences, when DATA holds the source sentences only.
    encoding
        Of the files.
    lang
        Language codes, such as en-de.
    json
        One JSON object instead of text.
    """
    from regard.data.files import find_problems
    from regard.tasks.corpus import read_corpus, summarize_lengths
    from regard.tasks.preparation import describe_corpus
    from regard.tasks.run_config import DataConfig

    if data == "-":
        data = _stored_input()
    problems = find_problems(data, targets=targets, encoding=encoding)
    if problems:
        if json:
            print(msgspec.json.encode({"path": data, "problems": problems}).decode())
        for problem in [] if json else problems:
            print(problem)
        raise DataError(f"{data}: {len(problems):,} rows cannot be read; they are listed above.")
    corpus = read_corpus(
        DataConfig(path=data, targets=targets, encoding=encoding, languages=lang), seed=1
    )
    event, lengths = describe_corpus(corpus), summarize_lengths(corpus)
    if json:
        drops = [msgspec.to_builtins(drop) for drop in corpus.dropped]
        report = {**msgspec.to_builtins(event), "lengths": lengths, "drops": drops}
        print(msgspec.json.encode(report).decode())
        return 0
    from regard.cli.console import describe

    for line in describe(event):
        print(line)
    for side, figures in lengths.items():
        shown = "   ".join(f"{name} {value:,.0f}" for name, value in figures.items())
        print(f"Length  {side}: {shown}   (characters)")
    for drop in corpus.dropped[:10]:
        print(f"        {data}:{drop.line}: {drop.reason}: {drop.text[:60]}")
    if len(corpus.dropped) > 10:
        print(f"        ... and {len(corpus.dropped) - 10:,} more (all of them: --json)")
    print(f"Next    regard train {data} -o FOLDER")
    return 0


def _stored_input() -> str:
    """Keep standard input in a temporary file, since it is read twice."""
    import tempfile

    content = sys.stdin.buffer.read()
    suffix = ".jsonl" if content.lstrip().startswith(b"{") else ".tsv"
    with tempfile.NamedTemporaryFile(delete=False, suffix=suffix) as stream:
        stream.write(content)
    return stream.name
