"""Images, recordings and series through an exported model: the same outputs as the original's.

They are those of the validation data of the run; a file of others cannot be named, since each
kind has readers and settings of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regard.data.labeled_inputs import LabeledInputs
from regard.data.time_series import TimeSeries
from regard.runs.text_check import NUM_TEXTS, Peer, TextCheck, compare_outputs, validation_data
from regard.runs.text_outputs import InputReader, TextOutput, label_output
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.forecasting.predictor import Forecaster

_NOUNS = {"images": "image", "recordings": "recording", "series": "series"}


def check_inputs(folder: Path, opened: InputReader, peer: Peer) -> TextCheck:
    """Compare an exported folder with its model on the validation data of the run.

    Args:
        folder: The export.
        opened: The model.
        peer: Reads the export.

    Returns:
        What is equal, or why nothing was compared.
    """
    if peer.input_outputs is None:
        return TextCheck(reason="this kind of model reads no texts")
    inputs = validation_data(opened.config)
    if not isinstance(inputs, LabeledInputs | TimeSeries):
        return TextCheck(reason="the validation data is not at hand")
    if _are_within_table(opened, inputs):
        return TextCheck(reason="the recordings are within a table")
    if not peer.is_installed:
        return TextCheck(reason=peer.why_missing)
    inputs = inputs.select(range(min(NUM_TEXTS, len(inputs))))
    if isinstance(opened, Forecaster):
        assert isinstance(inputs, TimeSeries), "what a forecaster is trained with"
        inputs = histories(opened, inputs)
        if not len(inputs):
            return TextCheck(reason="no series of the validation data is longer than the horizon")
        own = forecast_outputs(inputs, opened.quantiles(inputs))
        noun, names = "series", inputs.names
    else:
        assert isinstance(inputs, LabeledInputs), "what a classifier is trained with"
        noun, names = _NOUNS[opened.unit], inputs.locations
        own = [
            label_output(best.probabilities, opened.labels)
            for best in opened.classify_rows(inputs.values)
        ]
    outputs = peer.input_outputs(folder, opened, inputs)
    return compare_outputs(names, own, outputs, source="validation data", peer=peer.name, noun=noun)


def _are_within_table(opened: InputReader, inputs: LabeledInputs | TimeSeries) -> bool:
    """Return whether inputs are recordings that are no files, from which they are read again."""
    if not isinstance(inputs, LabeledInputs) or not isinstance(opened, InputClassifier):
        return False
    path = Path(inputs.path) / inputs.locations[0]
    return opened.modality.reads_frames and not path.is_file()


def histories(opened: Forecaster, series: TimeSeries) -> TimeSeries:
    """Return series without their last steps, as many as are predicted; those that have others."""
    ends = [len(values) - opened.horizon for values in series.values]
    rows = [
        row
        for row, (values, end) in enumerate(zip(series.values, ends, strict=True))
        if end > 0 and not np.isnan(values[:end]).all()
    ]
    return series.select(rows).until([ends[row] for row in rows])


def forecast_outputs(series: TimeSeries, quantiles: Sequence[NDArray]) -> list[TextOutput]:
    """Return forecasts as outputs, in units of the deviation of each series.

    Args:
        series: The histories.
        quantiles: Of each, of shape ``[horizon, levels]``.
    """
    deviations = [float(np.nanstd(values)) or 1.0 for values in series.values]
    return [
        TextOutput((), numbers=tuple((values / deviation).ravel().tolist()))
        for values, deviation in zip(quantiles, deviations, strict=True)
    ]
