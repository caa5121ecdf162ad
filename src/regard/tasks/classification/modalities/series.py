"""Series: rows of numbers with a label, as steps of one number or of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regard.data.listing import pluralize
from regard.data.readers.series import NumberRow
from regard.data.readers.shape import DataShape
from regard.data.readers.source import DataSource
from regard.errors import DataError
from regard.models.vit.model import VitConfig
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks.classification.modalities.base import (
    MOST_ROWS,
    InputFormat,
    LocatedInputs,
    Modality,
    Parts,
    labeled_rows,
    number_rows,
)


class Series(Modality):
    """Rows of numbers."""

    task = "series-classification"
    unit = "series"
    contents = "rows of numbers with a label"
    model = VitConfig(input="features", num_features=1)  # one number per step
    data = DataConfig(max_length=MOST_ROWS)
    reads_files = False

    def claims(self, shape: DataShape) -> bool:
        """Whether the data holds series."""
        is_row = shape.kind == "table" and shape.has_row_of_numbers
        return is_row or (
            shape.kind in ("table", "text", "records") and shape.has_numbers_beside_label
        )

    def fit(self, options: ReadOptions, source: DataSource) -> InputFormat:  # noqa: ARG002
        """Choose one number per step, where the user set no other."""
        return InputFormat.fitted(options, {"input": "features", "num_features": 1})

    def read(self, input_format: InputFormat, source: DataSource) -> Parts:
        """Read rows with their labels."""
        if source.is_folder:
            raise DataError(
                f"{source.path}: a directory, not a file.  Name one: CSV, TSV, JSONL or Parquet."
            )
        rows = number_rows(source, input_format.data)
        steps = [_steps(row, source.path, input_format) for row in rows]
        return {"train": labeled_rows(source.path, rows, steps)}

    def read_unlabeled(self, input_format: InputFormat, source: DataSource) -> LocatedInputs:
        """Read rows; a column of labels is ignored."""
        for row in number_rows(source, input_format.data, has_labels=False):
            yield f"line {row.line}", _steps(row, source.path, input_format)

    def describe(self, values: Sequence[NDArray], input_format: InputFormat) -> str:
        """Describe numbers per step and lengths of series of shape ``[length, features]``."""
        lengths = [len(value) for value in values]
        number = input_format.model.num_features
        return (
            f"{pluralize(number, 'number')} a step; {min(lengths):,} to "
            f"{max(lengths):,} steps long, median {np.median(lengths):,.0f}"
        )


def _steps(row: NumberRow, path: str, input_format: InputFormat) -> NDArray[np.float64]:
    """Return a row of numbers as steps, ``[length, features]``."""
    num_features = input_format.model.num_features
    if len(row.numbers) % num_features:
        remedy = "Fill the row up" + ("." if input_format.has_sizes else ", or set another.")
        raise DataError(
            f"{path}:{row.line}: {len(row.numbers):,} numbers are not a whole number of steps of "
            f"{num_features:,} (model.num_features).  {remedy}"
        )
    return row.numbers.reshape(-1, num_features)
