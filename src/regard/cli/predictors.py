"""Opening a model for a verb, which refuses models of other tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from regard.cli.garbage import collect_as_usual
from regard.cli.model_options import ComputeOptions, WritingOptions
from regard.errors import ConfigError, NextStep, WeightsError

if TYPE_CHECKING:
    from regard.tasks import Predictor

P = TypeVar("P")
"""The predictor that a verb needs."""


def open_predictor(
    model: str,
    kind: type[P],
    action: str,
    compute: ComputeOptions,
    task: str | None = None,
) -> P:
    """Return the predictor of a model folder for a verb.

    Args:
        model: The folder.
        kind: Predictor that the verb needs.
        action: What the verb does, for the message, such as ``translate``.
        compute: What computes.
        task: What a published encoder-decoder is for, see `open_published`.

    Raises:
        ConfigError: The folder holds no model that can be read or that writes in this precision, or
            the machine lacks the device.
        WeightsError: The model is missing or damaged, or its predictor is of another kind.
    """  # noqa: DOC501 - other_task makes it
    from regard.tasks.opening import open_model, set_precision
    from regard.training.device import on_one_thread, use_threads

    use_threads(compute.threads)
    with on_one_thread():
        predictor = open_model(model, compute.device, task=task)
    collect_as_usual()
    if not isinstance(predictor, kind):
        raise other_task(model, predictor.config.task, action)
    if isinstance(compute, WritingOptions):
        set_precision(predictor, compute.precision)
    return predictor


def open_for_verb(
    model: str, device: str, verb: str | None, lang: str | None, threads: int | None = None
) -> Predictor:
    """Return the predictor of a model folder as a verb uses it, between two languages.

    Args:
        model: The folder.
        device: What computes.
        verb: What a published encoder-decoder is for, such as summarize; None is as it opens.
        lang: Languages such as en-fr of a model that has several; None sets none.
        threads: Threads of the processor.

    Raises:
        ConfigError: The folder does not do this, or has no languages, or not these.
    """
    from regard.tasks.opening import open_model
    from regard.tasks.published_task import task_of_verb
    from regard.tasks.translation.languages import find_direction
    from regard.tasks.translation.predictor import Translator

    task = task_of_verb(model, verb, lang)
    predictor = open_model(model, device, task=task, threads=threads)
    if verb is not None and predictor.verb != verb:
        raise ConfigError(f"{model}: does not {verb}: it is a model for {predictor.config.task}.")
    is_translator = isinstance(predictor, Translator)
    if lang is None or (is_translator and task is not None):
        return predictor
    if not is_translator or predictor.tokenizer.languages is None:
        raise ConfigError(f"--lang {lang}: for a translator of many languages.  Leave it out.")
    return predictor.between(*find_direction(predictor.tokenizer.languages, lang))


def other_task(model: str, task: str, action: str) -> WeightsError:
    """Return the refusal of a model for another task, with the verb that uses it."""
    from regard.tasks import task_named

    verbs = task_named(task).verbs or (("info", None),)
    verb, word = verbs[0]
    arguments = (model,) if word is None else (model, word)
    return WeightsError(
        f"{model}: does not {action}: it is a model for {task}.",
        NextStep("Use", verb, arguments),
    )
