"""``regard info``: a description of a model folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from regard.cli.outputs import as_json, escape, replacing
from regard.cli.parameters import Flag, Name, Output
from regard.cli.wording import command_text
from regard.errors import ConfigError
from regard.settings.validation import require_range

if TYPE_CHECKING:
    from regard.explain.layer_table import LayerRow
    from regard.runs.information import FolderInformation

_PRINTED_LABELS = _PRINTED_LANGUAGES = 10
_OF_PRECISION = {"int8": (" in int8", "; sizes are those of float32")}
"""What the lines of weights and of parts say of their type; float32 goes without saying."""
_LONGEST = 10**9  # tokens


def info(
    model: Annotated[str, Name],
    *,
    diagram: Literal["mermaid", "svg", "png", "pdf"] | None = None,
    output: Annotated[str | None, Output] = None,
    length: int | None = None,
    stability: Annotated[bool, Flag] = False,
    curvature: Annotated[bool, Flag] = False,
    accept: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Describe a model folder: architecture, data, figures, cost.

    Parameters
    ----------
    model
        Folder of a model: one of your own, or one in Hugging Face's format.
    diagram
        Draw the architecture instead: mermaid writes the text of a flowchart, which documentation
        pages show; svg, png and pdf are pictures.
    output
        File for the diagram, standard output by default; with --stability or --curvature, a
        picture.
    length
        Length in tokens for which costs are computed; by default the longest in training.
    stability
        Show how stable training was instead: gradients and updates by layer over time, and where
        they vanished, exploded or oscillated.
    curvature
        Show the curvature of the training loss instead: largest eigenvalues, trace by layer, and
        spectrum of its Hessian. It reads the training data again and takes minutes.
    accept
        Accept the present files of the folder, after an intended change by hand.
    json
        One JSON object instead of text.
    """
    if accept:
        _accept(model)
    if stability:
        text = "--stability goes with -o and --json only."
        _require_unset(text, diagram, length, curvature or None)
        _show_stability(model, output, json=json)
    elif curvature:
        _require_unset("--curvature goes with -o and --json only.", diagram, length)
        _show_curvature(model, output, json=json)
    elif diagram is not None:
        text = "--diagram goes with -o only.  Leave --json and --length out."
        _require_unset(text, json or None, length)
        _draw(model, diagram, output)
    elif output is not None:
        suffix = output.rpartition(".")[2]
        kind = {"svg": "svg", "png": "png", "pdf": "pdf"}.get(suffix, "mermaid")
        raise ConfigError(f"-o {output}: is the file of a diagram.  Add --diagram {kind}.")
    else:
        _show_information(model, length, json=json)


def _require_unset(message: str, *values: object) -> None:
    """Raise ConfigError where an option is set that does not go with another one."""
    if any(value is not None for value in values):
        raise ConfigError(message)


def _show_information(model: str, length: int | None, *, json: bool) -> None:
    """Print what a folder holds, and what its model costs at a length."""
    from regard.explain.layer_table import layer_table, training_flops_per_token
    from regard.runs.information import inspect_folder

    require_range("--length", length, 1, _LONGEST)
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
            "uses": [command_text(step) for step in information.commands],
        }
        print(as_json(fields))
    else:
        _print(information, layers, flops_per_token, length)


def _show_stability(model: str, output: str | None, *, json: bool) -> None:
    """Print what the record of a run says of its stability, and draw it where a file is named."""
    from regard.plots.output_files import require_writable
    from regard.runs.stability import format_stability, stability_of, stability_picture

    if output is not None:
        require_writable(output)
    record = stability_of(model)
    if output is not None:
        stability_picture(record).draw(output)
    if json:
        print(as_json(record))
    else:
        for line in format_stability(record):
            print(escape(line))


def _show_curvature(model: str, output: str | None, *, json: bool) -> None:
    """Print the curvature of the training loss of a model, and draw it where a file is named."""
    from regard.cli.progress import show_progress
    from regard.explain.curvature import curvature
    from regard.plots.output_files import require_writable
    from regard.tasks.opening import open_model

    if output is not None:
        require_writable(output)
    predictor = open_model(model)
    with show_progress() as on_progress:
        result = curvature(predictor, on_progress)
    if output is not None:
        result.picture(Path(model).resolve().name).draw(output)
    if json:
        print(as_json(result))
    else:
        for line in result.lines():
            print(escape(line))


def _accept(model: str) -> None:
    from regard.hub.model_folder import ModelFolder

    folder = ModelFolder(model)
    folder.require_model()
    changed = folder.manifest.accept()
    names = ", ".join(changed) or "no file had changed"
    print(f"{model}: accepted: {names}", file=sys.stderr)


def _draw(model: str, kind: Literal["mermaid", "svg", "png", "pdf"], output: str | None) -> None:
    """Draw a model as a text or a picture, into a file or, where it is text, on standard output."""
    from regard.explain.diagram import draw_diagram, save_diagram
    from regard.plots.output_files import FORMATS, picture_format, require_writable
    from regard.runs.information import inspect_folder

    if output in (None, "-"):
        if kind in ("png", "pdf"):
            raise ConfigError(f"--diagram {kind}: is not text.  Name its file: -o FILE.{kind}")
        print(draw_diagram(inspect_folder(model)[1], kind), end="")
        return
    if kind != "mermaid":
        if (suffix := picture_format(output)) != kind:
            raise ConfigError(f"-o {output}: not the suffix of {kind}.  Take --diagram {suffix}.")
        require_writable(output)
        save_diagram(inspect_folder(model)[1], output)
        return
    if (suffix := Path(output).suffix[1:].lower()) in FORMATS:
        raise ConfigError(f"-o {output}: not the suffix of {kind}.  Take --diagram {suffix}.")
    text = draw_diagram(inspect_folder(model)[1])
    with replacing(output) as stream:
        stream.write(text)


def _print(
    folder: FolderInformation, layers: list[LayerRow], flops_per_token: float, length: int
) -> None:
    from regard.explain.layer_table import format_table

    weights, parts = _OF_PRECISION.get(folder.precision, ("", ""))
    print(f"Model   {folder.summary}   {folder.num_parameters:,} parameters   sha {folder.sha}")
    if folder.layout:
        _print_published(folder)
    else:
        _print_data(folder)
    print(
        f"Cost    {flops_per_token / 1e6:.1f} MFLOP a token in training "
        f"(forward and backward, length {length:,}), "
        f"{folder.weight_bytes / 1e6:.1f} MB of weights{weights}"
    )
    if folder.layout:
        for index, step in enumerate(folder.commands):
            print(f"{'' if index else 'Use':8}{command_text(step)}")
    else:
        _print_run(folder)
    if folder.decoding:
        print(f"Writes  by {folder.decoding}")
    print(f"Parts   FLOP of a forward pass at length {length:,}{parts}")
    for line in format_table(layers):
        print(f"        {line}")


def _print_run(folder: FolderInformation) -> None:
    state = "finished" if folder.is_finished else "not finished"
    print(f"Run     {state}, {folder.num_evaluations} evaluations, {folder.step:,} steps")
    if folder.precision == "int8":
        print("        figures of the weights before int8; of these: regard evaluate")
    for name, value in folder.figures.items():
        print(f"        {name} {value:.3f}")


def _print_published(folder: FolderInformation) -> None:
    config, labels = folder.config, folder.config.data.labels
    note = "   no vocabulary in the folder: token ids only, no text"
    note = "" if folder.has_vocabulary else note
    print(f"Layout  {folder.layout} of transformers, for {config.task}")
    if folder.vocab_size:
        print(f"Tokens  {config.tokenizer.kind} {folder.vocab_size:,}{note}")
    if folder.tasks:
        print(f"Tasks   {', '.join(map(escape, folder.tasks))}")
    if folder.languages:
        print(f"Langs   {_describe_languages(folder.languages)}")
    if folder.search:
        print(f"Search  {folder.search}")
    if labels:
        more = ", ..." if len(labels) > _PRINTED_LABELS else ""
        print(f"Labels  {len(labels):,}: {', '.join(map(escape, labels[:_PRINTED_LABELS]))}{more}")


def _describe_languages(codes: Sequence[str]) -> str:
    """Return how many languages there are, and the first of their names."""
    from regard.data.language_codes import names_of

    names = names_of(codes)
    first = [names.get(code, code) for code in codes[:_PRINTED_LANGUAGES]]
    more = ", ... (all: --json)" if len(codes) > len(first) else ""
    return f"{len(codes):,}: {', '.join(first)}{more}"


def _print_data(folder: FolderInformation) -> None:
    config, data = folder.config, folder.config.data
    source = f"{data.path}   sha256 {data.sha256[:16]}" if data.path else "the embedded corpus"
    if folder.vocab_size:
        print(f"Tokens  {config.tokenizer.kind} {folder.vocab_size:,}")
    languages = f"   {data.languages}" if data.languages else ""
    if folder.languages:
        print(f"Langs   {_describe_languages(folder.languages)}")
    print(f"Data    {source}   {config.task}{languages}")
