"""``regard translate``: text, a file or standard input; one line out for each line in."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.inputs import input_lines
from regard.cli.parameters import AsText, Flag, Input, Output
from regard.errors import ConfigError, NextStep, WeightsError

if TYPE_CHECKING:
    from regard.tasks.translation.predictor import Translation, Translator


def translate(
    model: str,
    text: Annotated[str | None, Input] = None,
    /,
    *,
    output: Annotated[str | None, Output] = None,
    beam: int | None = None,
    nbest: int = 1,
    length_penalty: float | None = None,
    align: Annotated[bool, Flag] = False,
    as_text: Annotated[bool, AsText] = False,
    encoding: str = "utf-8",
    json: Annotated[bool, Flag] = False,
) -> int:
    """Translate text, a file, or standard input.

    Parameters
    ----------
    model
        Folder of a trained model.
    text
        A file if one of that name exists, else the text itself; - or nothing reads standard input.
    output
        File to write instead of standard output.
    beam
        Hypotheses kept in the search; 1 is greedy. Left out, as the model says: 4, or what a
        published folder has.
    nbest
        Number of translations for each line, best first, at most the beam.
    length_penalty
        0 favours short output, 1 is neutral, more favours long output. Left out, as the model
        says.
    align
        Add which source word each output word attended to most, as source-target pairs from 0.
    as_text
        Take TEXT as text even where a file of that name exists.
    encoding
        Of the input.
    json
        One JSON object a line, with scores.
    """
    from regard.tasks.loading import open_model
    from regard.tasks.translation.predictor import Translator, search_config

    translator = open_model(model)
    if not isinstance(translator, Translator):
        raise WeightsError(f"{model}: does not translate.", NextStep("See", "info", (model,)))
    usual = translator.config.search
    search_config(usual, beam=beam, num_best=nbest, length_penalty=length_penalty)
    lines = input_lines(text, encoding, as_text=as_text)
    found = translator.stream(lines, beam=beam, num_best=nbest, length_penalty=length_penalty)
    rows = _format(translator, found, align=align, json=json, numbered=nbest > 1)
    if output is None:
        _write(rows, sys.stdout.write)
    else:
        _write_file(Path(output), rows)
    return 0


def _format(
    translator: Translator,
    found: Iterable[tuple[str, list[Translation]]],
    *,
    align: bool,
    json: bool,
    numbered: bool,
) -> Iterator[str]:
    """Write each line's translations: plain, tab-separated with scores, or as JSON."""
    for number, (source, translations) in enumerate(found, start=1):
        aligned = [
            translator.align(source, best.text).words() if align else None for best in translations
        ]
        if json:
            yield _json_line(number, source, translations, aligned)
            continue
        for translation, pairs in zip(translations, aligned, strict=True):
            fields = [str(number), f"{translation.score:.4f}"] if numbered else []
            fields.append(translation.text.replace("\n", " "))
            if pairs is not None:
                fields.append(" ".join(f"{s}-{t}" for s, t in pairs))
            yield "\t".join(fields)


def _json_line(
    number: int,
    source: str,
    translations: list[Translation],
    aligned: list[list[tuple[int, int]] | None],
) -> str:
    outputs = []
    for translation, pairs in zip(translations, aligned, strict=True):
        entry = msgspec.to_builtins(translation)
        outputs.append(entry if pairs is None else {**entry, "alignment": pairs})
    return msgspec.json.encode({"line": number, "source": source, "outputs": outputs}).decode()


def _write(rows: Iterable[str], write) -> None:
    for row in rows:
        write(row + "\n")
        sys.stdout.flush()


def _write_file(path: Path, rows: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            _write(rows, stream.write)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from error
