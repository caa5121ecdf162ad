"""``regard explain``: why a model gave an output, and how far to trust the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from regard.cli.answer import open_answerer, read_context
from regard.cli.inputs import (
    TEXT_DEFAULTS,
    TextOptions,
    input_documents,
    input_lines,
    refuse_text_options,
)
from regard.cli.model_options import COMPUTE_DEFAULTS, ComputeOptions
from regard.cli.outputs import as_json, print_note, replacing
from regard.cli.parameters import Flag, Name, Output, Text
from regard.cli.predictors import open_for_verb
from regard.data.listing import pluralize
from regard.errors import ConfigError, DataError
from regard.settings.validation import LARGEST, require_range

if TYPE_CHECKING:
    from regard.explain.document import Explanation
    from regard.explain.faithfulness import MethodFaithfulness
    from regard.explain.influence.influence_options import InfluenceOptions
    from regard.tasks import Predictor

Format = Literal["text", "html", "svg", "json"]
_FORMATS: dict[str, Format] = {".html": "html", ".htm": "html", ".svg": "svg", ".json": "json"}
_MEGABYTE = 1024**2
_SIGNIFICANT = 0.05  # probability of a difference between equal methods


@Parameter(name="*")
@dataclass(frozen=True)
class OutputOptions:
    """Where an explanation is written, and in which format.

    Attributes:
        output: File to write: a page (.html), a picture (.svg) or all numbers (.json).
        format: Format: text, html, svg or json; the default is that of the file's
            name, and text without a file.
        json: The same as --format json.
    """

    output: Annotated[str | None, Output] = None
    format: Format | None = None
    json: Annotated[bool, Flag] = False

    @property
    def file(self) -> str | None:
        """Name of the file; None is standard output."""
        return None if self.output == "-" else self.output

    def resolve_format(self) -> Format:
        """Return the format, by the options and the name of the file.

        Raises:
            ConfigError: They do not go together.
        """
        by_option = self._format_of_options()
        if self.file is None:
            return by_option or "text"
        by_name = _FORMATS.get(Path(self.file).suffix.lower())
        kind = by_option or by_name
        if kind is None:
            raise ConfigError(
                f"-o {self.file}: an explanation has no format of this suffix.  Take "
                f"{', '.join(_FORMATS)}, or add --format."
            )
        if by_name not in (None, kind):
            option = "--json" if self.json else "--format"
            raise ConfigError(f"-o {self.file}: not the suffix of {kind}.  Leave {option} out.")
        return kind

    def _format_of_options(self) -> Format | None:
        """Return the format that the options name; None where they name none."""
        if not self.json:
            return self.format
        if self.format not in (None, "json"):
            raise ConfigError(f"--json and --format {self.format}: leave one out.")
        return "json"


_TO_STANDARD_OUTPUT = OutputOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class SubjectOptions:
    """Which output is explained; by default the model's own.

    Attributes:
        contrast: Another output: why this one, and not that? Of a translation, summary or
            continuation the first token where the two differ is explained, of a classifier the
            label.
        target: Output that is explained in place of the model's own: a text, a label, an answer.
        verb: What a published encoder-decoder does, which its folder does not say: translate by
            default, answer with --context.
        lang: Languages such as en-de of a translator of many, whose texts else begin with a tag, or
            of a T5.
    """

    contrast: str | None = None
    target: str | None = None
    verb: Literal["translate", "summarize", "answer"] | None = None
    lang: str | None = None


_OWN_OUTPUT = SubjectOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class RowOptions:
    """What the output owes to rows of the training data.

    Attributes:
        influence: List as many training rows without which the output would be less probable, and
            as many without which it would be more probable. It reads the training data again and
            takes minutes.
        retrain: Train again as many times with all rows, without the most influential 1 % of them,
            and without as many random ones, to see whether influence is right.
    """

    influence: int | None = None
    retrain: int | None = None

    def options(self, kind: Format) -> InfluenceOptions | None:
        """Return how influence is computed; None where it is not.

        Args:
            kind: Format of the explanation.

        Raises:
            ConfigError: A number is out of range, there is nothing to check, or the format shows no
                training rows.
        """
        from regard.explain.influence.influence_options import InfluenceOptions

        require_range("--influence", self.influence, 1, LARGEST)
        require_range("--retrain", self.retrain, 1, LARGEST)
        if self.influence is not None and kind == "svg":
            raise ConfigError("a picture shows no training rows.  --influence: html, json or text.")
        if self.influence is not None:
            return InfluenceOptions(num_rows=self.influence, num_retrainings=self.retrain or 0)
        if self.retrain is not None:
            raise ConfigError("--retrain checks the influence of training rows: add --influence N.")
        return None


_NO_ROWS = RowOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class TestOptions:
    """How faithful each method is on test data, in place of the explanation of a text.

    Attributes:
        evaluate: File of test data: print how faithful each method is on its rows.
        rows: Most rows of the test data, drawn from all of it; 200 where it is not set.
    """

    evaluate: Annotated[str | None, Name] = None
    rows: int | None = None

    def check(self) -> None:
        """Raise ConfigError where the number of rows is out of range, or no file has them."""
        require_range("--rows", self.rows, 2, LARGEST)
        if self.rows is not None and self.evaluate is None:
            raise ConfigError("--rows goes with --evaluate FILE.  Leave it out, or name the file.")


_NO_TEST = TestOptions()


def explain(
    model: Annotated[str, Name],
    text: Annotated[str | None, Text] = None,
    /,
    *,
    outputs: OutputOptions = _TO_STANDARD_OUTPUT,
    method: str | None = None,
    subject: SubjectOptions = _OWN_OUTPUT,
    context: Annotated[str | None, Name] = None,
    line: int = 1,
    test: TestOptions = _NO_TEST,
    memory: int = 512,
    training_rows: RowOptions = _NO_ROWS,
    compute: ComputeOptions = COMPUTE_DEFAULTS,
    text_options: TextOptions = TEXT_DEFAULTS,
) -> None:
    """Explain an output of a model: which parts of the input it depends on, by several methods.

    Each method is printed with its error and with its measured faithfulness, next to that of random
    scores. Attention shows where information may flow, not why.

    Parameters
    ----------
    model
        Folder of a model.
    text
        A file if one of that name exists, else the text itself; - or nothing reads standard input.
        Of several lines or rows one is explained, see --line. For a model of images, recordings or
        series the file of one. Text that begins with a dash goes behind --.
    outputs
        Where the explanation is written, and in which format.
    method
        Methods, separated by commas; by default all that fit the model.
    subject
        Which output is explained.
    context
        File of the text that has the answer to a question.
    line
        Line or row of a file that is explained, or the number of the image, recording or series.
    test
        How faithful each method is on test data, in place of the explanation of a text.
    memory
        Megabytes that a computation may use at once.
    training_rows
        What the output owes to rows of the training data.
    compute
        What computes the explanation.
    text_options
        How TEXT is read.
    """  # noqa: DOC501 - functions of this module raise it
    from regard.cli.progress import show_progress
    from regard.explain.attribution import method_names
    from regard.explain.explanation import ModelFacts
    from regard.explain.explanation import explain as explain_text
    from regard.plots.output_files import require_writable_file
    from regard.runs.information import hash_weights

    require_range("--line", line, 1, LARGEST)
    test.check()
    require_range("--memory", memory, 1, LARGEST)
    kind = outputs.resolve_format()
    influence = training_rows.options(kind)
    methods = None if method is None else method_names(method.split(","))
    if test.evaluate is not None:
        options = {
            "TEXT": text,
            "--contrast": subject.contrast,
            "--target": subject.target,
            "--context": context,
            "--line": None if line == 1 else line,
            "-o": outputs.file,
            "--influence": training_rows.influence,
            "--text": text_options.as_text or None,
            "--encoding": None if text_options == TEXT_DEFAULTS else text_options.encoding,
        }
        _refuse_with_rows(options, kind)
        predictor = _open_for_rows(model, test.evaluate, subject, compute)
        _evaluate(predictor, test.evaluate, methods, test.rows, memory, json=kind == "json")
        return
    if outputs.file is not None:
        require_writable_file(outputs.file)
    question_on = None
    if context is not None and subject.verb in (None, "answer") and subject.lang is None:
        predictor = open_answerer(model, compute)
        question_on = read_context(context, text_options.encoding)
    elif context is not None:
        option = f"--lang {subject.lang}" if subject.lang else f"--verb {subject.verb}"
        raise ConfigError(f"--context is of a question.  Leave {option} out.")
    else:
        predictor = _open(model, subject, compute)
    explained, row = _read_text(predictor, text, text_options, line)
    with show_progress() as on_progress:
        explanation = explain_text(
            predictor,
            explained,
            context=question_on,
            output=subject.target,
            contrast=subject.contrast,
            row=row,
            methods=methods,
            memory=memory * _MEGABYTE,
            influence=influence,
            draws_model=kind == "html",
            facts=ModelFacts(Path(model).resolve().name, hash_weights(model)),
            on_progress=on_progress,
        )
    _write(explanation, kind, outputs.file)


def _open(model: str, subject: SubjectOptions, compute: ComputeOptions) -> Predictor:
    """Return the model of a folder, as its output is explained."""
    return open_for_verb(model, compute.device, subject.verb, subject.lang, compute.threads)


def _open_for_rows(
    model: str, data: str, subject: SubjectOptions, compute: ComputeOptions
) -> Predictor:
    """Return the model of a folder for rows of test data, which say what it is to do."""
    from regard.data.readers.source import as_source
    from regard.tasks.opening import open_model
    from regard.tasks.published_task import task_of_data

    if subject.verb is not None or subject.lang is not None:
        return _open(model, subject, compute)
    task = task_of_data(model, lambda: as_source(data, "test"))
    return open_model(model, compute.device, task=task, threads=compute.threads)


def _refuse_with_rows(options: Mapping[str, object], kind: Format) -> None:
    """Raise ConfigError for what does not go with the rows of a file of test data."""
    if set_options := [option for option, value in options.items() if value is not None]:
        raise ConfigError(f"--evaluate goes with rows of a file.  Leave {set_options[0]} out.")
    if kind in ("html", "svg"):
        raise ConfigError(f"--evaluate prints a table: text or json, not {kind}.")


def _read_text(
    predictor: Predictor, text: str | None, options: TextOptions, line: int
) -> tuple[str, int]:
    """Return the one text, document or question that is explained, or the name of a file.

    Returns:
        It, and the row of the file that is explained; 1 for a text.

    Raises:
        ConfigError: Options of texts are set for a model of other inputs.
        DataError: The file has fewer lines, or the text is empty.
    """
    from regard.tasks.classification.input_predictor import InputClassifier
    from regard.tasks.forecasting.predictor import Forecaster

    if isinstance(predictor, InputClassifier | Forecaster):
        unit = predictor.unit if isinstance(predictor, InputClassifier) else "series"
        refuse_text_options(options, unit)
        return "-" if text is None else text, line
    name = "standard input" if text is None or text == "-" else text
    return _choose_line(list(_texts_of(predictor, text, options)), name, line), 1


def _choose_line(texts: Sequence[str], name: str, line: int) -> str:
    """Return one of some lines, and note on standard error which, where it is not named."""
    if not texts:
        raise DataError(f"{name} is empty: there is nothing to explain.")
    if len(texts) < line:
        lines = pluralize(len(texts), "line")
        raise DataError(f"{name} has {lines}: there is no line {line:,} to explain.")
    if line == 1 < len(texts):
        print_note(f"{name}: the first of {len(texts):,} lines is explained; another one: --line")
    return texts[line - 1]


def _texts_of(predictor: Predictor, text: str | None, options: TextOptions) -> Iterable[str]:
    """Return the inputs in a word of the command line: documents, or lines."""
    from regard.tasks.language_modeling.predictor import TextGenerator
    from regard.tasks.summarization.predictor import Summarizer
    from regard.tasks.translation.predictor import Translator

    if isinstance(predictor, Summarizer | TextGenerator):
        return input_documents(text, options)
    role = "source" if isinstance(predictor, Translator) else "text"
    return input_lines(text, options, role=role)


def _write(explanation: Explanation, kind: Format, output: str | None) -> None:
    """Write an explanation to a file; None is standard output."""
    from regard.explain.page import explanation_svg, format_text, page_html, terminal_text

    if kind == "text" and output is None:  # with colors on a terminal
        Console(highlight=False, soft_wrap=True).print(terminal_text(explanation))
        return
    if kind == "html":
        content = page_html(explanation)
    elif kind == "svg":
        content = explanation_svg(explanation)
    elif kind == "json":
        content = as_json(explanation) + "\n"
    else:
        content = format_text(explanation)
    if output is None:
        print(content, end="" if content.endswith("\n") else "\n")
        return
    with replacing(output) as stream:
        stream.write(content)
    print(f"{output}: written", file=sys.stderr)


def _evaluate(
    predictor: Predictor,
    data: str,
    methods: list[str] | None,
    num_rows: int | None,
    memory: int,
    *,
    json: bool,
) -> None:
    """Print how faithful methods are on rows of test data, the best first."""
    from regard.cli.progress import show_progress
    from regard.data.readers.source import open_source
    from regard.explain.attribution import Budget
    from regard.explain.faithfulness import compare_methods, open_rows
    from regard.explain.faithfulness.evaluated_rows import NUM_ROWS
    from regard.tasks import task_of
    from regard.tasks.other_data import explain_other_data

    source = open_source(data, "test")
    with explain_other_data(source, task_of(predictor.config), str(predictor.folder)):
        rows = open_rows(predictor, source, num_rows=num_rows or NUM_ROWS)
    with show_progress() as on_progress:
        comparison = compare_methods(
            rows,
            methods,
            budget=Budget(memory * _MEGABYTE),
            on_progress=partial(on_progress, "Test data"),
        )
    if json:
        print(as_json(comparison))
        return
    for line in comparison.lines():
        print(line)
    ties = [
        name
        for name, method in comparison.methods.items()
        if name != comparison.best and not _is_clearly_behind(method)
    ]
    print(f"Best    {comparison.best}" + (f", not clearly ahead of {', '.join(ties)}" * bool(ties)))


def _is_clearly_behind(method: MethodFaithfulness) -> bool:
    """Return whether a method is less faithful than the best one; random scores may be more."""
    behind, p_value = method.behind_best, method.p_behind_best
    return (
        behind is not None and p_value is not None and behind.value > 0 and p_value <= _SIGNIFICANT
    )
