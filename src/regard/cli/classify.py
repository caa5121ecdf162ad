"""``regard classify``: text, files or standard input; a label for each line or file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from regard.cli.garbage import collect_as_usual
from regard.cli.inputs import TEXT_DEFAULTS, TextOptions, input_lines, refuse_text_options
from regard.cli.model_options import COMPUTE_DEFAULTS, ComputeOptions
from regard.cli.outputs import as_json, escape, print_warning
from regard.cli.parameters import Flag, Name, Text
from regard.cli.predictors import other_task
from regard.errors import ConfigError
from regard.settings.validation import LARGEST, require_range

if TYPE_CHECKING:
    from regard.tasks.classification.input_predictor import InputClassifier
    from regard.tasks.classification.predictor import Classification, LabelPredictor
    from regard.tasks.opening import Predictor


def classify(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    top: int | None = None,
    threshold: float | None = None,
    compute: ComputeOptions = COMPUTE_DEFAULTS,
    text_options: TextOptions = TEXT_DEFAULTS,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Classify a text, every line of a file, or images, recordings or series.

    Parameters
    ----------
    model
        Folder of a trained classifier.
    text
        A file if one of that name exists, else the text itself; - or nothing reads standard input.
        In JSONL, CSV, TSV and Parquet the column text (or source) is classified, of lines that
        begin with fastText's __label__NAME the rest; from standard input those of JSONL and
        fastText, other lines whole, all with --text. Text that begins with a dash goes behind --.
        For a model of images or recordings a file, a folder, or - for names of files; for one of
        series a file of rows of numbers.
    top
        Number of labels for each line, most probable first. By default one, or all that a text has
        where the model gives any number of them; a line of a text without labels is empty.
    threshold
        Probability above which a text has a label, where the model gives any number of them; the
        default is the best one on its validation data.
    compute
        What computes the probabilities.
    text_options
        How TEXT is read.
    json
        One JSON object a line, with the probabilities of all labels.
    """
    from regard.tasks.classification.input_predictor import InputClassifier
    from regard.tasks.classification.predictor import TextClassifier
    from regard.tasks.opening import open_model

    if top is not None:
        require_range("--top", top, 1, LARGEST)
    classifier = open_model(model, compute.device, threads=compute.threads)
    if threshold is not None:
        set_threshold(classifier, threshold)
    collect_as_usual()
    if isinstance(classifier, InputClassifier):
        refuse_text_options(text_options, classifier.unit)
        _classify_inputs(classifier, "-" if text is None else text, top, json=json)
        return
    if not isinstance(classifier, TextClassifier):
        raise other_task(model, classifier.config.task, "classify texts")
    lines = input_lines(text, text_options, role="text", columns=classifier.config.data.columns)
    number = num_cut = 0
    for number, (line, result) in enumerate(classifier.stream(lines), start=1):
        num_cut += result.truncated > 0
        _write({"line": number, "text": line}, result, top, json=json)
    _warn_of_cut(classifier, num_cut, number)


def set_threshold(classifier: Predictor, threshold: float) -> None:
    """Set the threshold of a label; raise ConfigError where each input has one label."""
    from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier

    if not isinstance(classifier, MultiLabelClassifier):
        raise ConfigError(
            "--threshold: this model gives each input one label, the most probable one.  Leave it "
            "out, or filter the probabilities of --json."
        )
    classifier.threshold = threshold


def _classify_inputs(
    classifier: InputClassifier, path: str, top: int | None, *, json: bool
) -> None:
    """Classify images, recordings or series; standard input names the files of the first two."""
    from regard.data.readers.text_lines import read_lines

    is_list = path == "-" and classifier.modality.reads_files
    paths = (line for line in read_lines(path) if line.strip()) if is_list else [path]
    prints_names = is_list or Path(path).is_dir()
    results = (result for item in paths for result in classifier.stream(item))
    number = num_cut = 0
    for number, (name, result) in enumerate(results, start=1):
        num_cut += result.truncated > 0
        prefix = f"{escape(name)}\t" if prints_names else ""
        _write({"number": number, "input": name}, result, top, json=json, prefix=prefix)
    _warn_of_cut(classifier, num_cut, number)


def _warn_of_cut(classifier: LabelPredictor[Any], num_cut: int, number: int) -> None:
    """Say on standard error that the end of some inputs was not read."""
    if num_cut:
        print_warning(f"{classifier.describe_cut(num_cut, number)}.")


def _write(
    entry: dict[str, object],
    result: Classification,
    top: int | None,
    *,
    json: bool,
    prefix: str = "",
) -> None:
    """Print a result: as JSON with an entry's fields, else the most probable labels."""
    if json:
        text = as_json({**entry, **msgspec.to_builtins(result)})
    else:
        if top is None:
            top = 1 if result.labels is None else len(result.labels)
        ranked = list(result.probabilities.items())[:top]
        text = prefix + "\t".join(f"{escape(label)}\t{value:.3f}" for label, value in ranked)
    print(text, flush=True)
