"""``regard classify``: text, a file or standard input; one label out for each line in."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter

from regard.errors import ConfigError

Flag = Parameter(negative=())


def classify(
    model: str,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    top: int = 1,
    as_text: Annotated[bool, Parameter(name="--text", negative=())] = False,
    encoding: str = "utf-8",
    json: Annotated[bool, Flag] = False,
) -> int:
    """Tell the label of a text, or of every line of a file.

    Parameters
    ----------
    model
        Folder of a trained classifier.
    text
        A file if one of that name exists, else the text itself; - or nothing reads standard input.
    top
        Number of labels to show for each line, most probable first.
    as_text
        Take TEXT as text even where a file of that name exists.
    encoding
        Of the input.
    json
        One JSON object a line, with the probabilities of all labels.
    """
    from regard.cli.inputs import input_lines
    from regard.tasks.classifier import TextClassifier

    if top < 1:
        raise ConfigError(f"top must be 1 or more, not {top}.")
    classifier = TextClassifier.open(model)
    lines = input_lines(text, encoding, as_text=as_text)
    for number, (line, found) in enumerate(classifier.stream(lines), start=1):
        if json:
            entry = {"line": number, "text": line, **msgspec.to_builtins(found)}
            sys.stdout.write(msgspec.json.encode(entry).decode() + "\n")
        else:
            ranked = list(found.probabilities.items())[:top]
            cells = [f"{label}\t{probability:.3f}" for label, probability in ranked]
            sys.stdout.write("\t".join(cells) + "\n")
        sys.stdout.flush()
    return 0
