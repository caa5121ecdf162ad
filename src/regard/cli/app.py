"""The list of verbs."""

from __future__ import annotations

from cyclopts import App

from regard import __version__

VERBS = {
    "train": "Train a model on a file of text.",
    "translate": "Translate text, a file, or standard input.",
    "classify": "Tell the label of a text, or of every line of a file.",
    "generate": "Continue a text.",
    "evaluate": "Score a model on a file, beside floors and another model.",
    "check": "Report on a data file, without training.",
    "export": "Write a model for others to open.",
    "info": "Tell what a model folder holds.",
    "demo": "Train and try a model on the embedded corpus, in minutes.",
}

BENCHES = {"attention": "Time and memory of attention by pattern and length, beside peers."}


def build_app() -> App:
    """Build the application; a verb's module is imported when the verb is called."""
    app = App(
        name="regard",
        help="Transformers you can train, solve, scale and see, on your own text.",
        version=__version__,
        help_epilogue="First steps:  regard demo;  regard train pairs.tsv -o mymodel",
    )
    for verb, meaning in VERBS.items():
        app.command(f"regard.cli.{verb}:{verb}", name=verb, help=meaning)
    bench = App(name="bench", help="Measure what parts of a model cost on this machine.")
    for part, meaning in BENCHES.items():
        bench.command(f"regard.cli.bench:{part}", name=part, help=meaning)
    app.command(bench)
    return app
