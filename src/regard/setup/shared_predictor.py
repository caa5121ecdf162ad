"""The predictor of a trained model on all processes of a run, which share its batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.training.distribution import ALONE

if TYPE_CHECKING:
    from regard.setup.base_task import Task
    from regard.setup.training_setup import TrainingSetup


@contextmanager
def shared_predictor(task: Task, folder: Path, setup: TrainingSetup) -> Iterator[Any]:
    """Open a model folder on every process; rank 0 reads it and sends the weights to the others.

    Within the context the processes share the batches of the predictor; after it each has a
    predictor of its own.

    Args:
        task: The task of the run.
        folder: The folder, which rank 0 alone has to see.
        setup: The run; names its processes.

    Yields:
        The predictor, as `Task.open` returns it.

    Raises:
        WeightsError: The folder is incomplete or damaged.
    """
    world = setup.world

    def build() -> Any:
        if world.is_first:
            predictor = task.open(folder)
            predictor.model.to(setup.device)
            return predictor
        vocab_size = 0 if setup.tokenizer is None else len(setup.tokenizer)
        model = task.build(setup.config, vocab_size)
        return task.predictor(model.eval().to(setup.device), setup.tokenizer, setup.config)

    predictor = world.together(build)
    if not world.is_shared:
        yield predictor
        return
    for parameter in predictor.model.parameters():
        world.send(parameter.data)
    predictor.world = world
    try:
        yield predictor
    finally:
        predictor.world = ALONE
