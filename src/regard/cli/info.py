"""``regard info``: what a model folder holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from regard.cli.parameters import Flag, Output
from regard.cli.wording import command_text
from regard.errors import ConfigError

if TYPE_CHECKING:
    from regard.explain.layer_table import LayerRow
    from regard.runs.information import FolderInformation

_SHOWN_LABELS = 10


def info(
    model: str,
    *,
    diagram: Literal["mermaid"] | None = None,
    output: Annotated[str | None, Output] = None,
    length: int | None = None,
    accept: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> int:
    """Tell what a model folder holds: architecture, data, figures, cost.

    Parameters
    ----------
    model
        Folder of a model: one of your own, or one in Hugging Face's layout.
    diagram
        Draw the architecture instead: mermaid writes a flowchart that documentation pages show.
    output
        File for the diagram; without, it goes to standard output.
    length
        Tokens of the rows that costs are told for; without, the longest that it was trained on.
    accept
        Take the files of the folder as they are, after a change by hand that was intended.
    json
        One JSON object instead of text.
    """
    if accept:
        _accept(model)
    if diagram is not None:
        if json or length is not None:
            raise ConfigError("--diagram goes with -o only.  Leave --json and --length out.")
        return _draw(model, output)
    if output is not None:
        raise ConfigError(f"-o {output}: is the file of a diagram.  Add --diagram mermaid.")
    from regard.explain.layer_table import layer_table, training_flops_per_token
    from regard.runs.information import inspect_folder

    if length is not None and length < 1:
        raise ConfigError(f"--length {length}: must be 1 or more tokens.")
    information, without_weights = inspect_folder(model)
    length = information.length if length is None else length
    layers = layer_table(without_weights, length)
    flops_per_token = training_flops_per_token(layers)
    if json:
        fields = {
            **msgspec.to_builtins(information),
            "length": length,
            "flops_per_token": flops_per_token,
            "layers": msgspec.to_builtins(layers),
            "uses": [command_text(step) for step in information.uses],
        }
        print(msgspec.json.encode(fields).decode())
    else:
        _print(information, layers, flops_per_token, length)
    return 0


def _accept(model: str) -> None:
    from regard.hub.model_folder import ModelFolder

    folder = ModelFolder(model)
    folder.require_model()
    changed = folder.manifest.accept()
    names = ", ".join(changed) or "no file had changed"
    print(f"{model}: accepted as they are: {names}", file=sys.stderr)


def _draw(model: str, output: str | None) -> int:
    from regard.explain.diagram import draw_diagram
    from regard.runs.information import inspect_folder

    text = draw_diagram(inspect_folder(model)[1])
    if output is None:
        print(text, end="")
        return 0
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written ({error.strerror}).") from error
    return 0


def _print(
    found: FolderInformation, layers: list[LayerRow], flops_per_token: float, length: int
) -> None:
    from regard.explain.layer_table import format_table

    print(f"Model   {found.summary}   {found.num_parameters:,} parameters   sha {found.sha}")
    if found.layout:
        _print_published(found)
    else:
        _print_data(found)
    print(
        f"Cost    {flops_per_token / 1e6:.1f} MFLOP a token in training "
        f"(forward and backward, length {length:,}), "
        f"{found.weight_bytes / 1e6:.1f} MB of weights"
    )
    if found.layout:
        for index, step in enumerate(found.uses):
            print(f"{'' if index else 'Use':8}{command_text(step)}")
    else:
        _print_run(found)
    print(f"Parts   FLOP of a forward pass at length {length:,}")
    for line in format_table(layers):
        print(f"        {line}")


def _print_published(found: FolderInformation) -> None:
    print(f"Layout  {found.layout} of transformers, for {found.config.task}")
    has = "" if found.has_vocabulary else "   no vocabulary in the folder: token ids only, no text"
    print(f"Tokens  {found.config.tokenizer.kind} {found.vocab_size:,}{has}")
    if found.config.task == "translation":
        print(f"Search  {found.config.search.summary()}")
    if labels := found.config.data.labels:
        shown = ", ".join(labels[:_SHOWN_LABELS])
        print(f"Labels  {len(labels):,}: {shown}{', ...' if len(labels) > _SHOWN_LABELS else ''}")


def _print_data(found: FolderInformation) -> None:
    config = found.config
    data = config.data
    source = f"{data.path}   sha256 {data.sha256[:16]}" if data.path else "the embedded corpus"
    if found.vocab_size:
        print(f"Tokens  {config.tokenizer.kind} {found.vocab_size:,}")
    languages = data.languages or "languages guessed"
    about = languages if config.task == "translation" else config.task
    print(f"Data    {source}   {about}")


def _print_run(found: FolderInformation) -> None:
    state = "finished" if found.is_finished else "not finished"
    print(f"Run     {state}, {found.num_evaluations} evaluations, {found.step:,} steps")
    for name, value in found.figures.items():
        print(f"        {name} {value:.3f}")
