"""Images, recordings and series with labels, and batches of them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.data.batching import LengthBatches
from regard.data.dropped_rows import DroppedRow
from regard.data.rows import Rows
from regard.errors import DataError

_COARSE = 1e-3  # of a standard deviation: more rounding than that would be seen
_FAR = 1000  # standard deviations
_SMALLEST_STD = 1e-6  # a feature that is constant becomes zero


class LabeledInputs(Rows, frozen=True, kw_only=True):
    """Inputs with their labels.

    Args:
        path: File or folder as named.
        values: For each input an image ``[channels, height, width]``, or ``[length, features]``.
        labels: Label of each input.
        locations: Location of each input in `path`, such as ``yes/a.wav`` or ``line 12``.
        num_frames: Number of frames or pages of each input's file, of which the first is read.
    """

    values: list[NDArray]
    labels: list[str]
    locations: list[str]
    num_frames: list[int]

    def several_frames(self) -> dict[str, int]:
        """Return the number of frames of each file that has several, by its location."""
        frames = zip(self.locations, self.num_frames, strict=True)
        return {location: count for location, count in frames if count > 1}

    def keys(self) -> tuple[list[str], list[str]]:
        """Return hashes of the inputs twice: equal inputs must not be in different parts."""
        hashes = [
            hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest() for value in self.values
        ]
        return hashes, hashes

    def describe(self, row: int) -> str:
        """Return where an input is in its folder or file, which is what can be said of it."""
        return self.locations[row]

    def locate(self, row: int) -> str:
        """Return where an input is, for messages."""
        return f"{self.path}: {self.locations[row]}"

    def drop(self, row: int, reason: str) -> DroppedRow:
        """Return the entry of an input that was left out."""
        return DroppedRow(line=1 + row, reason=reason, text=self.locations[row])


def label_names(inputs: LabeledInputs) -> tuple[str, ...]:
    """Return the labels in the order of their numbers where all are numbers, else of the alphabet.

    Raises:
        DataError: There are fewer than two labels, or one of them has one input only.
    """
    counts = Counter(inputs.labels)
    if len(counts) < 2:
        raise DataError(
            f'{inputs.path}: every input has the label "{inputs.labels[0]}".  '
            "A classifier needs two or more."
        )
    rare = next((label for label, count in counts.items() if count == 1), None)
    if rare is not None:
        location = inputs.locations[inputs.labels.index(rare)]
        raise DataError(
            f'{inputs.path}: the label "{rare}" has one input only ({location}).  '
            "Two or more are needed, one of them to test on.  Add some, or leave it out."
        )
    if all(name.isdecimal() for name in counts):
        return tuple(sorted(counts, key=int))
    return tuple(sorted(counts))


def feature_statistics(inputs: LabeledInputs) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel or feature; a tiny deviation is 1."""
    is_image = inputs.values[0].ndim == 3
    axes, shape = ((1, 2), (-1, 1, 1)) if is_image else ((0,), (1, -1))
    count = sum(math.prod(value.shape[axis] for axis in axes) for value in inputs.values)
    sums = np.stack([value.sum(axes, dtype=np.float64) for value in inputs.values])
    mean = sums.sum(0) / count
    centre = mean.reshape(shape)
    squares = np.stack([np.square(value - centre).sum(axes) for value in inputs.values])
    std = np.sqrt(squares.sum(0) / count)
    return tuple(mean.tolist()), tuple(np.where(std < _SMALLEST_STD, 1.0, std).tolist())


def precision_of(values: Sequence[NDArray]) -> type[np.float32] | type[np.float64]:
    """Return float32, or float64 where numbers differ by little more than float32 rounds them.

    Times in seconds since 1970, or measurements around a billion, would all be one number.
    """
    largest = max(float(np.abs(value).max()) for value in values)
    count = sum(map(np.size, values))
    mean = sum(float(value.sum(dtype=np.float64)) for value in values) / count
    squares = sum(float(np.square(value - mean).sum(dtype=np.float64)) for value in values)
    spread = math.sqrt(squares / count)
    is_coarse = largest * np.finfo(np.float32).eps > _COARSE * spread
    return np.float64 if is_coarse and spread > 0 else np.float32


class InputCollator(msgspec.Struct, frozen=True, kw_only=True):
    """How inputs become a tensor: ``[batch, channels, height, width]`` or ``[batch, length, dim]``.

    Args:
        mean: Mean of each channel or feature in training; empty leaves values as they are.
        std: Standard deviation of each.
        num_patches: Patches of an image; 0 for features.
        longest: Maximum number of rows of features that are read; the rest of an input is cut off.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_patches: int
    longest: int

    def lengths(self, values: Sequence[NDArray]) -> NDArray[np.int64]:
        """Return the number of patches or rows that are read of each input, ``[inputs]``."""
        if self.num_patches:
            return np.full(len(values), self.num_patches, np.int64)
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        return np.minimum(lengths, self.longest)

    def count_truncated(self, values: Sequence[NDArray]) -> list[int]:
        """Return the number of rows of features of each input that are cut off."""
        if self.num_patches:
            return [0] * len(values)
        return [max(0, len(value) - self.longest) for value in values]

    def lay_out(self, values: Sequence[NDArray]) -> tuple[Tensor, Tensor | None]:
        """Put inputs into one tensor, with mean 0 and variance 1.

        Returns:
            float32 ``[batch, channels, height, width]`` and None; or ``[batch, length, features]``,
            padded at the end with zeros, and the lengths, ``[batch]``.
        """
        if self.num_patches:
            return self._standardized(np.stack(list(values)), (-1, 1, 1)), None
        lengths = self.lengths(values)
        out = torch.zeros(len(values), int(lengths.max()), values[0].shape[1])
        for row, (value, length) in enumerate(zip(values, lengths.tolist(), strict=True)):
            out[row, :length] = self._standardized(value[:length], (-1,))
        return out, torch.from_numpy(lengths)

    def _standardized(self, values: NDArray, shape: tuple[int, ...]) -> Tensor:
        """Return values with mean 0 and variance 1; `shape` aligns the statistics with them."""
        dtype = torch.float64 if self._is_far_from_zero else torch.float32
        tensor = torch.from_numpy(np.array(values)).to(dtype)  # a copy: some are read-only
        if not self.mean:
            return tensor
        mean, std = (torch.tensor(s, dtype=dtype).view(shape) for s in (self.mean, self.std))
        return ((tensor - mean) / std).float()

    @property
    def _is_far_from_zero(self) -> bool:
        """Whether values are so far from 0 that float32 would round their differences."""
        pairs = zip(self.mean, self.std, strict=True)
        return any(abs(mean) > _FAR * std for mean, std in pairs)


class InputBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of inputs.

    Args:
        inputs: ``[batch, channels, height, width]`` or ``[batch, length, features]``.
        lengths: Rows of each input's features, ``[batch]``; None for images.
        labels: Number of each input's label, ``[batch]``.
        rows: Row of each input in its data set, ``[batch]``.
    """

    on_host: ClassVar = frozenset({"lengths"})
    inputs: Tensor
    lengths: Tensor | None
    labels: Tensor
    rows: NDArray[np.int64]


class InputBatches(LengthBatches):
    """Batches of inputs, ``[batch, length, features]`` or images, in a fresh order every epoch.

    Args:
        values: The inputs.
        labels: Number of each input's label.
        layout: Puts inputs into one tensor.
        batch_tokens: Maximum number of patches or rows in a batch, padding and class tokens
            counted.
        seed: Seed of the order.
    """

    def __init__(
        self,
        values: Sequence[NDArray],
        labels: Sequence[int],
        layout: InputCollator,
        *,
        batch_tokens: int,
        seed: int = 0,
    ) -> None:
        super().__init__(layout.lengths(values), batch_tokens=batch_tokens, seed=seed)
        self.values, self.layout = values, layout
        self.truncated = layout.count_truncated(values)
        self.labels = torch.tensor(labels)

    def batch(self, rows: NDArray[np.int64]) -> InputBatch:
        """Build the batch of some rows, ``[batch]``."""
        inputs, lengths = self.layout.lay_out([self.values[row] for row in rows.tolist()])
        return InputBatch(inputs=inputs, lengths=lengths, labels=self.labels[rows], rows=rows)
