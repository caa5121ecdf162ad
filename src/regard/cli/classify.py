"""``regard classify``: text, files or standard input; one label out for each line or file in."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.inputs import input_lines
from regard.cli.parameters import AsText, Flag, Input
from regard.errors import ConfigError, NextStep, WeightsError

if TYPE_CHECKING:
    from regard.tasks.classification.input_predictor import InputClassifier
    from regard.tasks.classification.predictor import Classification


def classify(
    model: str,
    text: Annotated[str | None, Input] = None,
    /,
    *,
    top: int = 1,
    as_text: Annotated[bool, AsText] = False,
    encoding: str = "utf-8",
    json: Annotated[bool, Flag] = False,
) -> int:
    """Tell the label of a text, of every line of a file, or of images, recordings or series.

    Parameters
    ----------
    model
        Folder of a trained classifier.
    text
        A file if one of that name exists, else the text itself; - or nothing reads standard input.
        For a model of images or recordings a file, a folder, or - for names of files; for one of
        series a file of rows of numbers.
    top
        Number of labels to show for each line, most probable first.
    as_text
        Take TEXT as text even where a file of that name exists.
    encoding
        Of the input.
    json
        One JSON object a line, with the probabilities of all labels.
    """
    from regard.tasks.classification.input_predictor import InputClassifier
    from regard.tasks.classification.predictor import TextClassifier
    from regard.tasks.loading import open_model

    if top < 1:
        raise ConfigError(f"--top {top}: must be 1 or more.")
    classifier = open_model(model)
    if isinstance(classifier, InputClassifier):
        _classify_inputs(classifier, "-" if text is None else text, top, json=json)
        return 0
    if not isinstance(classifier, TextClassifier):
        raise WeightsError(f"{model}: does not classify texts.", NextStep("See", "info", (model,)))
    lines = input_lines(text, encoding, as_text=as_text)
    for number, (line, found) in enumerate(classifier.stream(lines), start=1):
        if json:
            entry = {"line": number, "text": line, **msgspec.to_builtins(found)}
            sys.stdout.write(msgspec.json.encode(entry).decode() + "\n")
        else:
            sys.stdout.write(_ranked(found, top) + "\n")
        sys.stdout.flush()
    return 0


def _classify_inputs(classifier: InputClassifier, path: str, top: int, *, json: bool) -> None:
    """Classify images, recordings or series; what comes from several files is told with its name.

    Of images and recordings, standard input names the files.
    """
    from regard.data.readers.text_lines import read_lines

    is_named = path == "-" and classifier.modality.reads_files
    paths = (line for line in read_lines(path) if line.strip()) if is_named else [path]
    for number, (place, found) in enumerate(_found(classifier, paths), start=1):
        if json:
            entry = {"number": number, "input": place, **msgspec.to_builtins(found)}
            sys.stdout.write(msgspec.json.encode(entry).decode() + "\n")
        else:
            shown = f"{place}\t" if is_named or Path(path).is_dir() else ""
            sys.stdout.write(shown + _ranked(found, top) + "\n")
        sys.stdout.flush()


def _found(
    classifier: InputClassifier, paths: Iterable[str]
) -> Iterator[tuple[str, Classification]]:
    for path in paths:
        yield from classifier.stream(path)


def _ranked(found: Classification, top: int) -> str:
    ranked = list(found.probabilities.items())[:top]
    return "\t".join(f"{label}\t{probability:.3f}" for label, probability in ranked)
