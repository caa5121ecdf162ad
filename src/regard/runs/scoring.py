"""Evaluation of a trained model of any task on new data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from regard.data.readers.memory import InMemory, source_of_rows
from regard.data.readers.source import DataSource, open_source
from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.plots.output_files import require_writable
from regard.plots.style import require_matplotlib
from regard.runs.start_checks import require_same, weights_checksum
from regard.settings.values import DecodingPrecision
from regard.setup.base_task import Task
from regard.setup.evaluation_report import EvaluationOptions, EvaluationReport
from regard.setup.inspect import warn_of_other_data
from regard.tasks import Predictor, task_of
from regard.tasks.opening import open_model, set_precision
from regard.tasks.other_data import explain_other_data
from regard.tasks.published_task import task_of_data
from regard.tasks.sequence_to_sequence.predictor import TargetWriter
from regard.training.distribution import ALONE, World


class Decoding(NamedTuple):
    """How the outputs of models that write texts are decoded.

    Args:
        beam: Hypotheses in the beam search; None uses the setting of each model.
        precision: Type of the weights; None is each model's own.
        lang: Languages such as ``en-de`` of sentence pairs, for a model of many; empty guesses
            them.
    """

    beam: int | None = None
    precision: DecodingPrecision | None = None
    lang: str = ""


class Evaluation(NamedTuple):
    """The evaluation of a model.

    Args:
        report: The scores.
        task: The task of the model, of a published encoder-decoder that of the data.
        predictor: The model, opened for that task.
    """

    report: EvaluationReport
    task: str
    predictor: Predictor


DEFAULT_DECODING = Decoding()
"""As each model says."""


def evaluate(
    model: str | Path,
    data: str | Path | InMemory,
    *,
    compare: str | Path | None = None,
    decoding: Decoding = DEFAULT_DECODING,
    device: str = "auto",
    num_worst: int = 20,
    drop_overlap: bool = False,
    allow_overlap: bool = False,
    plot: str | Path | None = None,
    has_details: bool = False,
    world: World = ALONE,
) -> Evaluation:
    """Score a model on a file, next to floors and another model.

    Args:
        model: Folder of a trained model.
        data: Data of the kind that the model was trained on: a file of sentence pairs, running text
            or labeled rows, a folder of images or recordings, or rows in memory.
        compare: Folder of another model.
        decoding: How outputs are decoded.
        device: What computes: cpu, cuda, cuda:N, or auto, a GPU where there is one.
        num_worst: Number of worst rows to list.
        drop_overlap: Drop rows that are also in the training data.
        allow_overlap: Keep rows that are also in the training data.
        plot: File of the picture that the report is going to be drawn into; checked, not written.
        has_details: Collect what a page shows beyond the scores.
        world: The processes that share the batches; every one opens the folders and the data,
            which must be the same.

    Returns:
        The scores, with the task and the predictor.

    Raises:
        ConfigError: The model has no scores, the two are for different tasks, `beam` or `lang` is
            set for one that does not use it, or there can be no picture.
        DataError: The data cannot be read, or overlaps with the training data.
        WeightsError: A folder holds no model.
    """
    world.on_first(lambda: _require_drawable(plot))
    beam, lang = decoding.beam, decoding.lang
    read_data = cache(lambda: _open_data(data))
    opened = world.together(lambda: _open_models(model, compare, device, read_data, lang))
    predictors = [predictor for _, predictor in opened]
    predictor, *compared = predictors
    task = task_of(predictor.config)
    if lang and task.name != "translation":
        raise ConfigError(f"`lang={lang}`: a model for {task.name} has no languages.")
    _decode_with(predictors, task, beam=beam, precision=decoding.precision)
    _require_picture(task, plot)
    if not allow_overlap:
        warn_of_other_data(predictor.config.data)
    options = EvaluationOptions(
        model=str(model),
        other=None if compare is None else str(compare),
        beam=beam,
        lang=lang,
        num_worst=num_worst,
        drop_overlap=drop_overlap,
        allow_overlap=allow_overlap,
        has_details=has_details,
        loss_rose=ModelFolder(model).loss_rose,
    )
    source = world.together(read_data)
    _share(world, source, opened)
    with explain_other_data(source, task, str(model)):
        report = task.evaluate(predictor, source, options, *compared)
    return Evaluation(report, task.name, predictor)


def _require_drawable(plot: str | Path | None) -> None:
    """Check that a picture can be drawn and written; None is none."""
    if plot is not None:
        require_writable(plot)
        require_matplotlib()


def _require_picture(task: Task, plot: str | Path | None) -> None:
    """Raise ConfigError where a picture is asked for, and the evaluation of a task has none."""
    if plot is not None and not task.has_picture:
        name = task.name
        raise ConfigError(f"`plot={plot}`: the evaluation of a model for {name} has no picture.")


def _open_data(data: str | Path | InMemory) -> DataSource:
    """Return a file, a folder, standard input, or rows in memory as a source."""
    return open_source(data, "test") if isinstance(data, str | Path) else source_of_rows(data)


def _open_models(
    model: str | Path,
    compare: str | Path | None,
    device: str,
    read_data: Callable[[], DataSource],
    lang: str,
) -> list[tuple[str, Predictor]]:
    """Return a model, and another one for the same task, with the names of their folders."""
    predictor = open_model(model, device, task=task_of_data(model, read_data, lang))
    if compare is None:
        return [(str(model), predictor)]
    other = open_model(compare, device, task=task_of_data(compare, read_data, lang))
    if other.config.task != predictor.config.task:
        raise ConfigError(f"{model} and {compare} were trained for different tasks.")
    if other.config.data.multi_label != predictor.config.data.multi_label:
        raise ConfigError(
            f"{model} and {compare}: one gives a text one label, the other any number of them."
        )
    return [(str(model), predictor), (str(compare), other)]


def _decode_with(
    predictors: Sequence[Predictor],
    task: Task,
    *,
    beam: int | None,
    precision: DecodingPrecision | None,
) -> None:
    """Set the precision of models that write text, where it is not None.

    Raises:
        ConfigError: A beam or a precision is set, and models for the task write no text, or one
            does not write in this precision.
    """
    writers = [predictor for predictor in predictors if isinstance(predictor, TargetWriter)]
    if not writers:
        if beam is not None:
            raise ConfigError(f"`beam={beam}`: a model for {task.name} has no beam search.")
        if precision is not None:
            raise ConfigError(f"`precision={precision}`: a model for {task.name} writes no text.")
    for writer in writers:
        set_precision(writer, precision)


def _share(world: World, source: DataSource, opened: Sequence[tuple[str, Predictor]]) -> None:
    """Let predictors share their batches between processes that have the same data and weights.

    Args:
        world: The processes; one alone has nothing to share.
        source: The data.
        opened: The folders of the predictors, and the predictors.

    Raises:
        ConfigError: A process has other data or other weights than rank 0.
    """
    if not world.is_shared:
        return
    contents = {f"the content of {source.path}": source.sha256}
    for folder, predictor in opened:
        checksum = weights_checksum(predictor.model)
        contents[f"the checksum of the weights of {folder}"] = f"{checksum:08x}"
    require_same(world, contents)
    for _, predictor in opened:
        predictor.world = world
