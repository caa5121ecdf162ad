"""Messages of the library in the words of the command line: options for settings, and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from regard.errors import NextStep, RegardError

_OPTIONS = {
    "data.languages": "--lang",
    "output": "-o",
    "start_from": "--from",
    "texts_path": "--texts",
}
_OPTIONS |= {
    name: f"--{name.rpartition('.')[2].replace('_', '-')}"
    for name in (
        *("data.columns", "data.targets", "data.valid", "data.test", "data.encoding"),
        "data.label_separator",
        *("data.drop_overlap", "data.allow_overlap", "forecast.horizon", "forecast.known"),
        *("training.minutes", "training.seed", "training.device", "training.precision"),
        *("training.tensorboard", "preset", "config", "help_config", "resume", "data_from_rank_0"),
        *("lang", "horizon", "device", "precision", "threads", "seed", "context", "threshold"),
        *("beam", "nbest", "length_penalty", "min_length", "max_length"),
        *("max_tokens", "temperature", "top_k", "top_p", "stop"),
        *("to", "plot", "accept", "lengths", "patterns", "no_memory", "host", "port"),
    )
}
"""Options by setting or argument; other settings are written with ``--set``."""
VERBS_OF_OPTIONS = {
    "--columns": {"train", "check"},
    "--encoding": {
        *("train", "check", "translate", "summarize"),
        *("classify", "answer", "forecast", "explain"),
    },
}
"""Verbs that have an option of reading data, which the library proposes to all that read some."""
_SECTIONS = (
    "data|model|tokenizer|audio|attention|training|optimizer|search|sampling|qa|forecast"
    "|fine_tuning"
)
_SETTING = re.compile(rf"`((?:{_SECTIONS})\.[a-z0-9_.]+|[a-z0-9_]+)(?:=([^`]*))?`")


def error_text(error: RegardError) -> str:
    """Return an error with its commands, as the command line shows it."""
    return message_text(str(error), error.next_steps)


def message_text(message: str, next_steps: Iterable[NextStep] = ()) -> str:
    """Return a message of the library with options in place of settings, and commands at its end.

    >>> message_text("Scores would be too good.  Drop them: `data.drop_overlap=true`")
    'Scores would be too good.  Drop them: --drop-overlap'
    >>> message_text("Raise the limit: `data.max_length=1024`")
    'Raise the limit: --set data.max_length=1024'
    >>> message_text("A longer `optimizer.warmup`, with another `output`, helps.")
    'A longer optimizer.warmup, with another -o, helps.'
    >>> message_text("One column.", [NextStep("See all 3", "check", ("my pairs.tsv",))])
    'One column.  See all 3: regard check "my pairs.tsv"'
    """
    text = _SETTING.sub(lambda match: _option(match[1], match[2], match[0]), message)
    return "  ".join([text, *(f"{step.purpose}: {command_text(step)}" for step in next_steps)])


def without_missing_options(text: str, verb: str) -> str:
    """Return a message without advice to name options of reading that a verb does not have.

    >>> advice = "Columns seen: a, b.  Name it: --columns NAME"
    >>> without_missing_options(advice, "check"), without_missing_options(advice, "forecast")
    ('Columns seen: a, b.  Name it: --columns NAME', 'Columns seen: a, b.')
    >>> advice = "Convert: iconv -f latin1 old.txt > new.txt, or pass --encoding latin1"
    >>> without_missing_options(advice, "evaluate")
    'Convert: iconv -f latin1 old.txt > new.txt'
    """
    for option, verbs in VERBS_OF_OPTIONS.items():
        if option not in text or verb in verbs:
            continue
        sentences = re.sub(rf", or pass {option} \S+", "", text).split("  ")
        text = "  ".join(part for part in sentences if option not in part or "regard " in part)
    return text


def command_text(step: NextStep) -> str:
    """Return a command as it is typed.

    >>> command_text(NextStep("Resume", "train", (), (("output", "ende"), ("resume", ""))))
    'regard train -o ende --resume'
    """
    options = [_option(name, value and _quoted(value), name) for name, value in step.settings]
    return " ".join(["regard", step.verb, *map(_quoted, step.arguments), *options])


def _quoted(word: str) -> str:
    """Quote a word for a shell; a text of several words in double quotes."""
    if not word or shlex.quote(word) == word:
        return word
    return f'"{word}"' if " " in word and not set('"$`\\!') & set(word) else shlex.quote(word)


def _option(name: str, value: str | None, written: str) -> str:
    """Write one setting as an option, or its name alone; other names stay as written."""
    option = _OPTIONS.get(name)
    if option is not None:
        return option if value in (None, "true", "") else f"{option} {value}"
    if "." not in name and name != "task":
        return written
    return name if value is None else f"--set {name}={value}"
