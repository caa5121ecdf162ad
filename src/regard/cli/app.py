"""The list of verbs, each with examples; a verb's module is imported when the verb is called."""

from __future__ import annotations

from typing import NamedTuple

from cyclopts import App

import regard


class Verb(NamedTuple):
    """What the help says about a verb."""

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
    "classify": Verb(
        "Tell the label of a text, or of every line of a file.",
        (
            'regard classify mood "What a lovely day"',
            "regard classify mood - < lines.txt",
            "regard classify digits scans/ --top 3 --json",
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
    "evaluate": Verb(
        "Score a model on a file, beside floors and another model.",
        (
            "regard evaluate ende test.tsv",
            "regard evaluate ende test.tsv --compare ende-small --worst 5",
            "zcat test.tsv.gz | regard evaluate ende - --json",
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
        "Write a model for others to open.",
        (
            "regard export ende -o ende-hf",
            "regard export ende --to hf -o ende-hf --json",
        ),
    ),
    "info": Verb(
        "Tell what a model folder holds.",
        (
            "regard info ende",
            "regard info ende --length 512 --json",
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
        "Time and memory of attention by pattern and length, beside peers.",
        (
            "regard bench attention --lengths 128,1024",
            "regard bench attention --patterns 'full;local:256|global:0' --no-memory",
            "regard bench attention --lengths 512 --peers sdpa --json",
        ),
    ),
}


def build_app() -> App:
    """Build the application."""
    app = App(
        name="regard",
        help="Transformers you can train, solve, scale and see, on your own text.",
        version=lambda: regard.__version__,
        help_format="plaintext",  # Markdown would take a fifth of the time
        help_epilogue="Examples:\n\nregard demo\nregard train pairs.tsv -o mymodel",
    )
    for name, verb in VERBS.items():
        _add(app, name, verb, f"regard.cli.{name}:{name}")
    bench = App(
        name="bench",
        help="Measure what parts of a model cost on this machine.",
        help_format="markdown",
        help_epilogue=_examples(*(verb.examples[0] for verb in BENCHES.values())),
    )
    for name, verb in BENCHES.items():
        _add(bench, name, verb, f"regard.cli.bench:{name}")
    app.command(bench)
    return app


def _add(app: App, name: str, verb: Verb, import_path: str) -> None:
    examples = _examples(*verb.examples)
    app.command(
        import_path,
        name=name,
        help=verb.meaning,
        help_format="markdown",
        help_epilogue=examples,
    )


def _examples(*commands: str) -> str:
    """Write commands in Markdown, where a backslash ends a line."""
    return "Examples:\n\n" + "\\\n".join(commands)
