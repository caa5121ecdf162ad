"""Opening a model for a verb, which refuses models of other tasks."""

from __future__ import annotations

from typing import TypeVar

from regard.errors import NextStep, WeightsError

P = TypeVar("P")
"""The predictor that a verb needs."""


def open_predictor(model: str, kind: type[P], action: str) -> P:
    """Open a model folder for a verb.

    Args:
        model: The folder.
        kind: Predictor that the verb needs.
        action: What the verb does, for the message, such as ``translate``.

    Returns:
        The predictor.

    Raises:
        ConfigError: The folder holds no model that can be read.
        WeightsError: The model is missing or damaged, or its predictor is of another kind.
    """
    from regard.tasks.opening import open_model

    predictor = open_model(model)
    if not isinstance(predictor, kind):
        raise other_task(model, predictor.config.task, action)
    return predictor


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
