"""The verbs with their examples; the module of a verb is imported when the verb is called.

The overview is written here, without cyclopts: importing that takes 0.2 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import regard

if TYPE_CHECKING:
    from cyclopts import App

_PURPOSE = "Transformers you can train, solve, scale and see, on your own text."


class Verb(NamedTuple):
    """Help of a verb.

    Args:
        meaning: What it does, in one line.
        examples: Commands.
    """

    meaning: str
    examples: tuple[str, ...]


VERBS = {
    "train": Verb(
        "Train a model on a file of text.",
        (
            "regard train pairs.tsv -o ende",
            "zcat pairs.tsv.gz | regard train - -o ende --minutes 15",
            "regard train reviews.jsonl --from bert-folder -o mood --set training.epochs=3",
            "regard train pairs.tsv --dry-run --json",
            "regard train -o ende --resume",
        ),
    ),
    "translate": Verb(
        "Translate text, a file, or standard input.",
        (
            'regard translate ende "Good morning"',
            'echo "A cat sat." | regard translate ende -',
            "regard translate ende letter.txt -o letter.de.txt --beam 8",
            'regard translate ende "Good morning" --nbest 3 --align --json',
        ),
    ),
    "summarize": Verb(
        "Summarize a document, a table of documents, or standard input.",
        (
            "regard summarize news article.txt",
            "regard summarize news articles.jsonl -o summaries.txt",
            "cat lines.txt | regard summarize news - --beam 8 --json",
        ),
    ),
    "classify": Verb(
        "Classify a text, or every line of a file.",
        (
            'regard classify mood "What a lovely day"',
            "regard classify mood - < lines.txt",
            "regard classify digits scans/ --top 3 --json",
        ),
    ),
    "answer": Verb(
        "Answer a question by a text.",
        (
            'regard answer manual --context manual.md "How do I reset it?"',
            "regard answer manual --context manual.md - < questions.txt",
            "regard answer manual - < questions.jsonl > answers.jsonl",
        ),
    ),
    "generate": Verb(
        "Continue a text.",
        (
            'regard generate tales "Once upon a time"',
            "regard generate tales - --max-tokens 50 < opening.txt",
            'regard generate tales "Once" --top-p 0.9 --num 3 --seed 1 --json',
        ),
    ),
    "forecast": Verb(
        "Forecast the series of a file.",
        (
            "regard forecast demand series.csv",
            "regard forecast demand series.csv --horizon 48 -o forecast.svg",
            "regard forecast demand - --json < series.csv",
        ),
    ),
    "evaluate": Verb(
        "Score a model on a file, next to baselines and another model.",
        (
            "regard evaluate ende test.tsv",
            "regard evaluate ende test.tsv --compare ende-small --worst 5",
            "regard evaluate mood test.jsonl --plot mood.svg",
            "zcat test.tsv.gz | regard evaluate ende - --json",
        ),
    ),
    "explain": Verb(
        "Explain an output of a model, and how far to trust the explanation.",
        (
            'regard explain ende "The bank by the river" -o bank.html',
            'regard explain ende "The bank by the river" --contrast "Das Ufer"',
            "regard explain mood - --method ig,occlusion --json < line.txt",
            'regard explain manual "How do I reset it?" --context manual.md -o why.html',
            "regard explain ende --evaluate test.tsv",
        ),
    ),
    "check": Verb(
        "Report on a data file, without training.",
        (
            "regard check pairs.tsv",
            "regard check table.csv --columns English,French --lang en-fr",
            "zcat pairs.tsv.gz | regard check - --json",
        ),
    ),
    "export": Verb(
        "Export a model to the format of another library.",
        (
            "regard export ende -o ende-hf",
            "regard export ende --to hf -o ende-hf --json",
        ),
    ),
    "quantize": Verb(
        "Write a model folder with weights of 8 bits.",
        (
            "regard quantize ende -o ende8",
            "regard quantize ende -o ende8 --json",
        ),
    ),
    "info": Verb(
        "Describe a model folder.",
        (
            "regard info ende",
            "regard info ende --length 512 --json",
            "regard info ende --diagram svg -o ende.svg",
            "regard info ende --diagram mermaid -o ende.mmd",
        ),
    ),
    "demo": Verb(
        "Train and try a model on the embedded corpus, in minutes.",
        (
            "regard demo",
            "regard demo -o dates --minutes 1 --json",
        ),
    ),
}

BENCHES = {
    "attention": Verb(
        "Measure time and memory of attention, next to other libraries.",
        (
            "regard bench attention --lengths 128,1024",
            "regard bench attention --patterns 'full;local:256|global:0' --no-memory",
            "regard bench attention --lengths 512 --peers sdpa --json",
        ),
    ),
}


_BENCH = Verb(
    "Measure what parts of a model cost on this machine.",
    tuple(verb.examples[0] for verb in BENCHES.values()),
)


def overview() -> str:
    """Return the help of ``regard`` without a verb."""
    meanings = {name: verb.meaning for name, verb in (VERBS | {"bench": _BENCH}).items()}
    meanings["--help"] = "Show this overview; after a verb, its options."
    meanings["--version"] = "Show the version."
    lines = [f"  {name:10s} {meaning}" for name, meaning in meanings.items()]
    examples = ["  regard demo", "  regard train pairs.tsv -o mymodel"]
    parts = ["Usage: regard VERB", "", _PURPOSE, "", *lines, "", "Examples:", "", *examples]
    return "\n".join(parts)


def build_app() -> App:
    """Build the application."""
    from cyclopts import App, Parameter

    from regard.cli.parameters import convert_typed

    app = App(
        name="regard",
        help=_PURPOSE,
        version=lambda: regard.__version__,
        suppress_keyboard_interrupt=False,  # a signal has an exit code of its own
        default_parameter=Parameter(converter=convert_typed),
    )
    bench = App(
        name="bench",
        help=_BENCH.meaning,
        help_format="markdown",
        help_epilogue=_epilogue(_BENCH),
    )
    app.command(bench)
    for group, verbs in ((app, VERBS), (bench, BENCHES)):
        for name, verb in verbs.items():
            module = name if group is app else "bench"
            group.command(
                f"regard.cli.{module}:{name}",
                name=name,
                help=verb.meaning,
                help_format="markdown",
                help_epilogue=_epilogue(verb),
            )
    return app


def _epilogue(verb: Verb) -> str:
    """Return the examples of a verb in Markdown, where a backslash ends a line."""
    return "Examples:\n\n" + "\\\n".join(verb.examples)
