"""The application: an overview, and the verbs, whose modules are imported when they are called.

The overview is written here, without cyclopts: importing that takes 0.2 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import regard
from regard.cli import BENCHES, VERBS, Verb

if TYPE_CHECKING:
    from cyclopts import App

_PURPOSE = "Transformers you can train, solve, scale and see, on your own text."


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
