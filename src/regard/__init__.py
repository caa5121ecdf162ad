"""regard: Transformers you can train, solve, scale and see, on your own text.

    >>> import regard                                              # doctest: +SKIP
    >>> translator = regard.train("pairs.tsv", "ende")             # doctest: +SKIP
    >>> regard.load("ende").translate("Good morning", beam=4)      # doctest: +SKIP
    'Guten Morgen'

`train`, `resume`, `load` and `evaluate` work on files and model folders. `attention`, `optim`,
`models`, `layers` and `explain` are libraries of their own, loaded when they are first used:
importing this package is light and loads no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Unpack

if TYPE_CHECKING:
    from regard import attention, explain, layers, models, optim
    from regard.data.readers.memory import InMemory
    from regard.runs.train_options import TrainOptions
    from regard.settings.values import DecodingPrecision
    from regard.setup.evaluation_report import EvaluationReport
    from regard.tasks.opening import Predictor
    from regard.training.events import Event

__version__: str  # of the installed package: pyproject.toml is the one place that names it
__all__ = [
    "__version__",
    "attention",
    "evaluate",
    "explain",
    "layers",
    "load",
    "models",
    "optim",
    "resume",
    "train",
]
_LIBRARIES = ("attention", "explain", "layers", "models", "optim")


def __getattr__(name: str) -> ModuleType | str:
    if name in _LIBRARIES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":
        from regard.version import installed_version

        return installed_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def train(
    data: str | Path | InMemory | None,
    output: str | Path,
    *,
    task: str | None = None,
    valid: str | Path | float | InMemory | None = None,
    test: str | Path | float | InMemory | None = None,
    start_from: str | Path | None = None,
    settings: Sequence[str] = (),
    report: Callable[[Event], None] | Literal["auto"] | None = "auto",
    **options: Unpack[TrainOptions],
) -> Predictor:
    """Train a model on your own data; what the data is for decides what is trained.

    Sentence pairs give a translator, texts with labels a classifier, running text a language model,
    folders of images or recordings and rows of numbers with labels a classifier of those.

    Args:
        data: A file (TSV, CSV, JSONL, Parquet, text), a folder with one folder a label, pairs or
            records or texts in memory, or a data frame; None is the embedded corpus of phrases.
            What is in memory is kept in the output folder, so that the run can be resumed.
        output: Folder of the new model; must not hold one yet.
        task: What to learn, such as ``masked-language-modeling``; None follows from the data.
        valid: Data to validate on, in the same forms, or the fraction of the data to hold out, such
            as ``"10%"`` or 0.1; None holds out 2.5 %, and more of small data.
        test: Data to test on, or a fraction, in the same forms.
        start_from: Model folder to start from: one of your own, or one in Hugging Face's format.
        settings: Further settings, ``section.key=value`` each, such as ``training.epochs=3``.
        report: Called with every event; ``"auto"`` shows progress in a terminal and in a notebook,
            None shows nothing.
        options: Those of the command line, by the same names: ``preset``, ``minutes``, ``seed``,
            ``device``, ``precision``, ``threads``, ``columns``, ``targets``, ``lang``,
            ``label_separator``, ``encoding``, ``drop_overlap``, ``allow_overlap``, ``horizon``,
            ``known``, ``tensorboard``; see `regard.runs.train_options.TrainOptions`.

    Returns:
        The trained model, as `load` would open it.

    Raises:
        regard.errors.ConfigError: A setting is wrong, or the folder already holds a model.
        regard.errors.DataError: The data cannot be used.
        regard.errors.ResourceError: There is not enough memory or disk space.
    """
    from regard.runs import run
    from regard.runs.train_options import argument_errors, option_errors, settings_of
    from regard.training.device import use_threads

    named, sources = run.separate_data({"path": data, "valid": valid, "test": test})
    path = named.pop("path", None)
    use_threads(options.pop("threads", None))
    values = {"task": task, **named, "start_from": start_from, **options}
    explicit = settings_of(values)
    with argument_errors(), option_errors(values), _events(report) as on_event:
        return run.train(
            path,
            output,
            settings=[*explicit, *settings],
            sources=sources,
            report=on_event,
        )


def resume(
    output: str | Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    report: Callable[[Event], None] | Literal["auto"] | None = "auto",
) -> Predictor:
    """Resume a run that was stopped or killed, from its last checkpoint.

    Args:
        output: The run's folder; a run that has finished is left as it is.
        device: What computes from here on; None is what the run began on, where the machine has it.
        threads: Threads of the processor, of the whole process; None leaves them unchanged.
        report: Called with every event; ``"auto"`` shows progress in a terminal and in a notebook,
            None shows nothing.

    Returns:
        The trained model, as `load` would open it.

    Raises:
        regard.errors.WeightsError: The folder holds no run, or its checkpoint is damaged.
        regard.errors.DataError: The training data has changed.
    """
    from regard.runs import run
    from regard.runs.train_options import argument_errors
    from regard.training.device import use_threads

    use_threads(threads)
    with argument_errors(), _events(report) as on_event:
        return run.resume(output, device=device, report=on_event)


def load(
    folder: str | Path,
    *,
    task: str | None = None,
    device: str = "auto",
    precision: DecodingPrecision | None = None,
    threads: int | None = None,
) -> Predictor:
    """Open a model folder for use: one that `train` wrote, or one in Hugging Face's format.

    Args:
        folder: The model folder.
        task: What a published encoder-decoder is for, which its files do not say: translation
            (None), summarization or question-answering; or one of its ``task_specific_params``,
            such as translation_en_to_de, whose prefix is then put before every text.
        device: What computes: cpu, cuda, cuda:N, or auto, a GPU where there is one.
        precision: Type of the weights of a model that writes text: float32, bf16 or int8; None is
            what ``regard info`` says.
        threads: Threads of the processor, of the whole process; None leaves them unchanged.

    Returns:
        By what the model does: an object that can ``translate``, ``generate``, ``classify``,
        ``answer`` or ``embed``; ``.model`` is the `torch.nn.Module`.

    Raises:
        TypeError: The folder is not a path.
        regard.errors.WeightsError: The folder is missing, incomplete or damaged.
        regard.errors.ConfigError: It holds a model of a kind that cannot be read, or for another
            task, or that does not write in this precision, or the machine has no such device.
    """
    from regard.errors import ConfigError
    from regard.runs.train_options import argument_errors
    from regard.tasks.opening import open_model

    with argument_errors():
        predictor = open_model(folder, device, task=task, precision=precision, threads=threads)
        made_for = predictor.config.task
        if task is not None and task.partition("_")[0] != made_for:
            raise ConfigError(f"`task={task}`: {folder} holds a model for {made_for}.")
        return predictor


def evaluate(
    model: str | Path,
    data: str | Path | InMemory,
    *,
    compare: str | Path | None = None,
    beam: int | None = None,
    lang: str = "",
    worst: int = 20,
    device: str = "auto",
    precision: DecodingPrecision | None = None,
    threads: int | None = None,
    drop_overlap: bool = False,
    allow_overlap: bool = False,
) -> EvaluationReport:
    """Score a model on data that it was not trained on, next to baselines and another model.

    Args:
        model: Folder of a trained model.
        data: What the model was trained on, in the forms of `train`: a file or folder, pairs or
            records or texts in memory, or a data frame.
        compare: Folder of another model.
        beam: Hypotheses kept in a beam search; None is as each model says.
        lang: Languages such as ``en-de`` of sentence pairs, for a translator of many; empty guesses
            them.
        worst: Number of worst outputs or lines, or of wrong labels, in the report.
        device: What computes: cpu, cuda, cuda:N, or auto, a GPU where there is one.
        precision: Type of the weights that outputs are written with: float32, bf16 or int8; None is
            each model's own.
        threads: Threads of the processor, of the whole process; None leaves them unchanged.
        drop_overlap: Leave out what is also in the training data.
        allow_overlap: Keep it.

    Returns:
        Scores with their intervals, and floors that need no model; each task has its own report.

    Raises:
        TypeError: A folder is not a path.
        regard.errors.DataError: The data cannot be read, or overlaps with the training data.
        regard.errors.WeightsError: A folder holds no model.
        regard.errors.ConfigError: The two models are for different tasks, or an option does not
            suit them.
    """
    from regard.option_checks import require_whole
    from regard.runs import scoring
    from regard.runs.train_options import argument_errors
    from regard.settings.validation import LARGEST, require_flag, require_path, require_range
    from regard.training.device import use_threads

    require_path("model", model, "a model folder")
    if compare is not None:
        require_path("compare", compare, "a model folder")
    require_flag("drop_overlap", drop_overlap)
    require_flag("allow_overlap", allow_overlap)
    require_whole("worst", worst, 0)
    require_range("worst", worst, 0, LARGEST)
    use_threads(threads)
    with argument_errors():
        return scoring.evaluate(
            model,
            data,
            compare=compare,
            decoding=scoring.Decoding(beam, precision, lang),
            device=device,
            num_worst=worst,
            drop_overlap=drop_overlap,
            allow_overlap=allow_overlap,
        )[0]


@contextmanager
def _events(
    report: Callable[[Event], None] | Literal["auto"] | None,
) -> Iterator[Callable[[Any], None]]:
    """Provide what a run reports to."""
    from regard.cli.console import is_interactive, make_report
    from regard.runs.run import ignore_events

    if callable(report):
        yield report
    elif report is None:
        yield ignore_events
    elif not isinstance(report, str) or report != "auto":
        kind = type(report).__name__
        raise TypeError(f'`report`: a function, "auto" or None was expected, not {kind}.')
    elif is_interactive():
        with make_report(json=False) as console:
            yield console
    else:
        yield ignore_events
