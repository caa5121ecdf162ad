"""Held-out rows: a part of the data or data of their own, without rows of the training data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from regard.data.labeled_text import COLUMNS
from regard.data.readers.columns import PAIR_ROLES, SUMMARY_ROLES
from regard.data.readers.tables import sample_records
from regard.data.splits import Splits, TextRows, exclude_overlap, overlap, split
from regard.errors import DataError
from regard.setup.dataset import Dataset, ReadOptions

if TYPE_CHECKING:
    from regard.data.readers.source import DataSource
    from regard.setup.config import DataConfig, RunConfig
    from regard.setup.evaluation_report import EvaluationOptions
    from regard.setup.training_setup import D


def split_rows(
    options: ReadOptions, rows: TextRows, read: Callable[[DataSource], TextRows]
) -> Splits[TextRows]:
    """Split rows; validation and test data of their own stay whole.

    Args:
        options: How the data of the run is read.
        rows: The rows to train on, and to hold out from.
        read: Reads validation or test data of its own.

    Returns:
        The parts, and the rows that were dropped since they would have leaked.

    Raises:
        DataError: Data is malformed, or overlaps with the training data.
    """
    parts = split(
        rows,
        seed=options.seed,
        valid_rows=options.rows_to_hold_out("valid", len(rows)),
        test_rows=options.rows_to_hold_out("test", len(rows)),
    )
    data, held_out = options.data, {"valid": parts.valid, "test": parts.test}
    for name in held_out:
        if (source := options.source(name)) is not None:
            try:
                own_rows = read(source)
            except DataError as error:
                if not (lack := _describe_unanswered(source, data)):
                    raise
                raise DataError(
                    f"{source.path}: {lack}: such rows cannot be scored.  Hold out some of the "
                    f"training data: `data.{name}=10%`"
                ) from error
            if data.drop_overlap or not data.allow_overlap:
                own_rows = exclude_overlap(parts.train, own_rows, drop=data.drop_overlap)
            held_out[name] = own_rows
    if data.valid is not None and data.test is not None:
        _warn_of_shared(held_out["valid"], held_out["test"])
    return Splits(train=parts.train, dropped=parts.dropped, **held_out)


def _describe_unanswered(source: DataSource, data: DataConfig) -> str:
    """Return that rows have what a model reads, and not what it gives, as in a competition."""

    def has(names: Sequence[str]) -> bool:
        return bool(sample_records(source, names, encoding=data.encoding, num_rows=1))

    pairs = [data.columns] if data.columns else [COLUMNS, PAIR_ROLES, SUMMARY_ROLES]
    lacking = (names for names in pairs if has(names[:1]) and not has(names))
    return next((f"a column {names[0]} without {', '.join(names[1:])}" for names in lacking), "")


def _warn_of_shared(valid: TextRows, test: TextRows) -> None:
    """Warn where test rows are also those by which the best weights are chosen."""
    if shared := overlap(valid, test):
        warnings.warn(
            f"{test.path}: {len(shared):,} of {len(test):,} test rows are also in {valid.path}, by "
            "which the best weights are chosen: test scores will be too good.",
            stacklevel=3,
        )


def training_data(read: Callable[[ReadOptions], D], config: RunConfig) -> D | None:
    """Return the data that a model was trained on; None where its files are not available.

    Args:
        read: Reads the data of a run.
        config: The settings of the model.
    """
    if config.tokenizer.kind == "published" and config.start_from is None:
        return None  # a published model that was not trained further here
    try:
        return read(ReadOptions.from_config(config))
    except DataError:
        return None


def training_rows(
    read: Callable[[ReadOptions], Dataset[TextRows]], config: RunConfig
) -> TextRows | None:
    """Return the training rows of a model; None where their files are not available."""
    data = training_data(read, config)
    return None if data is None else data.train


def unseen_rows(train: TextRows | None, rows: TextRows, options: EvaluationOptions) -> TextRows:
    """Return test rows as the options say: without those of the training data, or with them.

    Args:
        train: The training rows; None where they are not known.
        rows: The test rows.
        options: Whether repeated rows are dropped or kept.

    Raises:
        DataError: Some are repeated and the options say neither, or none is left.
    """
    if train is None or options.allow_overlap:
        return rows
    return exclude_overlap(train, rows, drop=options.drop_overlap)
