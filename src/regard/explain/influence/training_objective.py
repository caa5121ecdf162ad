"""The loss of a trained model on the data that it learned from, and its derivatives.

The data is read again by the settings in the model's folder, and arranged in the batches of its
training. A pass over all rows gives the derivative of each row's loss along one direction, by
forward-mode differentiation: about two evaluations of the loss, and no gradient of a row is ever
held. Dropout is off, and everything is computed in float32 at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from regard.data.readers.source import DataSource
from regard.errors import ConfigError, DataError
from regard.hub.model_folder import ModelFolder
from regard.optim.curvature.operators import (
    CurvatureOperator,
    gauss_newton_operator,
    hessian_operator,
)
from regard.optim.objectives.full_batch import evenly_spaced
from regard.setup.config import HELD_OUT, DataConfig
from regard.setup.dataset import ReadOptions
from regard.setup.fine_tuning import trained_names
from regard.setup.inspect import open_sources
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks import DEFAULT_TASK, Predictor, task_of
from regard.training.train_step import RowwiseLoss


class RowDerivatives(NamedTuple):
    """Derivatives of the losses of all training rows along a direction.

    Args:
        values: Derivatives of the sums over the tokens of each row, in the order of the batches,
            ``[batch rows]``, float64.
        num_tokens: Tokens of all rows: the training loss is the sum over rows divided by it.
    """

    values: NDArray[np.float64]
    num_tokens: int


def open_training(predictor: Predictor) -> TrainingSetup:
    """Read the data that a model was trained on, and arrange it as in its training.

    Args:
        predictor: From `regard.load` or `regard.train`.

    Returns:
        Batches, loss and rows of the training, with the model as it is.

    Raises:
        ConfigError: The model was not trained here, or not for a task that has training rows.
        DataError: The data is missing, or is not what the model was trained on.
    """
    config = predictor.config
    is_published = config.tokenizer.kind == "published" and config.start_from is None
    if config.data.path is None and (is_published or config.task != DEFAULT_TASK):
        raise ConfigError(
            "these weights were published without the data that they were trained on.  Fine-tune "
            "them on data of your own first."
        )
    task = task_of(config)
    opened = open_sources(config.data)
    _require_same(config.data, opened, predictor.folder)
    dataset = task.read(ReadOptions.from_config(config, opened))
    tokenizer = getattr(predictor, "tokenizer", None)  # models of images and series have none
    parts = RunParts(config=config, dataset=dataset, tokenizer=tokenizer, model=predictor.model)
    return task.set_up(parts, lambda _: None)


def _require_same(data: DataConfig, opened: Mapping[str, DataSource], folder: Path | None) -> None:
    """Check that data is that of a training.

    Args:
        data: The settings.
        opened: The data by the name of its setting.
        folder: Of the model; None where it is in memory only.

    Raises:
        DataError: It has changed: training data, or held-out data by which rows of it are dropped.
    """
    names = sorted(name for name in opened if name not in HELD_OUT)
    hashes = dict(zip(names, data.sha256.split("-"), strict=False))
    if data.drop_overlap and folder is not None:
        hashes = {**ModelFolder(folder).manifest.sources(), **hashes}
    for name, source in opened.items():
        if source.sha256 != hashes.get(name, source.sha256):
            raise DataError(
                f"{getattr(data, name)}: is not the data that the model was trained on (sha256 "
                "differs).  Restore the file, or train again."
            )


class TrainingObjective:
    """The training loss as a function of the weights that were trained.

    Rows are those of its batches, such as texts, ``[batch, length]``.

    Args:
        setup: Of the model, whose weights are those at which derivatives are computed.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup, self.model = setup, setup.model
        self._loss = setup.loss()
        self._rows = setup.batches.in_sequence()
        self.batch_rows: NDArray[np.int64] = np.concatenate(self._rows)
        """All rows of the batches, ``[batch rows]``."""
        numbers = setup.dataset.numbers_of(self.batch_rows)
        self.owners: NDArray[np.int64] = np.unique(numbers, return_inverse=True)[1]
        """Index of the training row of each, ``[batch rows]``, among those that are in batches."""
        names = trained_names(setup.model, setup.config)
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in setup.model.named_parameters() if name in names
        }

    def _rowwise_loss(self) -> RowwiseLoss:
        """Return the loss; raise ConfigError where it has no rows."""
        if isinstance(self._loss, RowwiseLoss):
            return self._loss
        task = self.setup.config.task
        raise ConfigError(f"{task}: its training loss is not a sum over rows of the data.")

    @property
    def num_rows(self) -> int:
        """Rows of all batches."""
        return sum(map(len, self._rows))

    def gradient(self, value: Callable[[], Tensor]) -> Tensor:
        """Compute the gradient of a scalar by the weights, ``[n]``."""
        with self._exactly():
            return self._flat_gradient(value())

    def _flat_gradient(self, value: Tensor) -> Tensor:
        """Return the gradient of a scalar, ``[n]``."""
        parameters = list(self.parameters.values())
        gradients = torch.autograd.grad(
            value, parameters, allow_unused=True, materialize_grads=True
        )
        return torch.cat([gradient.flatten() for gradient in gradients])

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Return a vector, ``[n]``, as tensors of the shapes of the weights."""
        parameters = list(self.parameters.values())
        parts = vector.split([parameter.numel() for parameter in parameters])
        return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]

    def row_derivatives(self, direction: Tensor, on_batch: Callable[[int], None]) -> RowDerivatives:
        """Compute the derivative of the loss of every training row along a direction.

        Args:
            direction: Change of the weights, ``[n]``.
            on_batch: Called with the number of rows of each batch.

        Returns:
            The derivatives.

        Raises:
            ConfigError: The losses of the task have no rows.
        """
        module = RowLosses(self.model, self._rowwise_loss())
        values, num_tokens = [], 0
        with self._exactly(), torch.no_grad(), forward_ad.dual_level():
            weights = {
                f"model.{name}": forward_ad.make_dual(parameter.detach(), tangent)
                for (name, parameter), tangent in zip(
                    self.parameters.items(), self.unflatten(direction), strict=True
                )
            }
            for rows in self._rows:
                batch = self.setup.batches.batch(rows)
                losses, count = functional_call(module, weights, (batch,))
                derivatives = forward_ad.unpack_dual(losses).tangent
                assert derivatives is not None  # every loss depends on the weights
                values.append(derivatives.cpu().double().numpy())
                num_tokens += count
                on_batch(len(rows))
        return RowDerivatives(np.concatenate(values), num_tokens)

    @contextmanager
    def gauss_newton(
        self, most_tokens: int, on_batch: Callable[[int], None]
    ) -> Iterator[CurvatureOperator]:
        """Provide the Gauss-Newton matrix of the training loss within ``with``.

        For cross-entropy it is the Fisher information of the model's own predictions, and does not
        depend on the labels.

        Args:
            most_tokens: Products are taken over evenly spaced batches of about as many tokens.
            on_batch: Called with the number of rows of each batch of a product.

        Yields:
            The matrix, ``[n, n]``, of the weights one after another.

        Raises:
            ConfigError: The losses of the task have no rows.
        """
        batches, loss = self.setup.batches, self._rowwise_loss()

        def logits(rows: NDArray[np.int64]) -> Tensor:
            on_batch(len(rows))
            return loss.logits(self.model, batches.batch(rows))

        with self._exactly():
            yield gauss_newton_operator(
                logits, _log_partition, self._spread(most_tokens), self.parameters.values()
            )

    @contextmanager
    def hessian(
        self, most_tokens: int, on_batch: Callable[[int], None]
    ) -> Iterator[CurvatureOperator]:
        """Provide the Hessian of the training loss within ``with``.

        Args:
            most_tokens: Products are taken over evenly spaced batches of about as many tokens.
            on_batch: Called with the number of rows of each batch of a product.

        Yields:
            The matrix, ``[n, n]``, of the weights one after another.
        """

        def loss(rows: NDArray[np.int64]) -> tuple[Tensor, int]:
            on_batch(len(rows))
            result = self._loss(self.model, self.setup.batches.batch(rows))
            return result.loss * result.num_tokens, result.num_tokens

        with self._exactly():
            yield hessian_operator(loss, self._spread(most_tokens), self.parameters.values())

    def loss_and_gradient(self, most_tokens: int) -> tuple[float, Tensor]:
        """Compute the mean training loss of evenly spaced batches, and its gradient, ``[n]``."""
        total, count, gradient = 0.0, 0, torch.zeros(())
        for rows in self._spread(most_tokens):
            with self._exactly():
                batch_loss = self._loss(self.model, self.setup.batches.batch(rows))
                part = self._flat_gradient(batch_loss.loss)
            gradient = gradient.to(part) + part * batch_loss.num_tokens
            total += float(batch_loss.loss.detach()) * batch_loss.num_tokens
            count += batch_loss.num_tokens
        return total / count, gradient / count

    def num_spread(self, most_tokens: int) -> int:
        """Return the number of rows of the batches that a product is taken over."""
        return sum(map(len, self._spread(most_tokens)))

    def _spread(self, most_tokens: int) -> list[NDArray[np.int64]]:
        """Return evenly spaced batches of about this many tokens; batches are sorted by length."""
        num_tokens = sum(map(self.setup.batches.size, self._rows))
        fraction = min(1.0, most_tokens / num_tokens)
        return [self._rows[index] for index in evenly_spaced(len(self._rows), fraction)]

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        """Compute without dropout and in float32 at least within ``with``."""
        model = self.model
        before, was_training = model.compute_dtype, model.training
        model.compute_dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        model.eval()
        try:
            with torch.enable_grad():
                yield
        finally:
            model.compute_dtype = before
            model.train(was_training)


class RowLosses(nn.Module):
    """The losses of the rows of a batch, ``[batch, length]``, as a module of replaceable weights.

    Args:
        model: That has the weights.
        loss: Of its training.
    """

    def __init__(self, model: nn.Module, loss: RowwiseLoss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> tuple[Tensor, int]:
        """Compute the losses of the rows of a batch, ``[batch]``, and their tokens."""
        return self._loss.row_losses(self.model, batch)


def _log_partition(logits: Tensor, _batch: object) -> tuple[Tensor, int]:
    """Compute what has the second derivatives of the cross-entropy, whatever the labels are.

    Args:
        logits: Of a batch, of shape ``[predictions, classes]``.

    Returns:
        The sum of ``log sum exp``, and the number of predictions.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.logsumexp(-1).sum(), len(wide)
