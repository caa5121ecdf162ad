"""What an evaluation of a model on new data returns: the interface of every task's report.

A report has named scores with intervals, floors that need no model, and a verdict. It describes
itself for JSON and for people, so that whoever prints it knows no task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from regard.errors import ConfigError, NextStep
from regard.metrics import floor_named
from regard.setup.evaluation_details import EvaluationDetails


class Picture(Protocol):
    """What a report shows in a picture."""

    def draw(self, path: str | Path) -> None:
        """Draw it into a file, ``.svg``, ``.png`` or ``.pdf``."""
        ...


class EvaluationOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is evaluated.

    Args:
        model: Name of the model in the report.
        other: Name of the model that it is compared with; None without one.
        beam: Hypotheses in a beam search; None uses the setting of each model.
        lang: Languages such as ``en-de`` of sentence pairs, for a model of many; empty guesses
            them.
        num_worst: Number of worst rows to list.
        drop_overlap: Leave out rows that are also in the training data.
        allow_overlap: Keep rows that are also in the training data.
        has_details: Collect what a page shows beyond the scores.
        loss_rose: Whether the validation loss rose before the run of the model ended.
    """

    model: str
    other: str | None = None
    beam: int | None = None
    lang: str = ""
    num_worst: int = 20
    drop_overlap: bool = False
    allow_overlap: bool = False
    has_details: bool = False
    loss_rose: bool = False

    def report_fields(self) -> dict[str, Any]:
        """Return the fields of a report that the options decide, by name."""
        return {"model": self.model, "other": self.other, "loss_rose": self.loss_rose}


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a model on data.

    Args:
        model: Name of the model.
        path: The data.
        other: Name of the model that it is compared with; None without one.
        picture: What `draw` draws; None where there is nothing to show.
        details: What a page shows beyond the scores; None where they were not asked for.
        loss_rose: Whether the validation loss rose before the run of the model ended.
    """

    model: str
    path: str
    other: str | None = None
    picture: Picture | None = None
    details: EvaluationDetails | None = None
    loss_rose: bool = False

    @property
    def remedy(self) -> str:
        """What to do about a score below that of a floor."""
        if self.loss_rose:
            return "train on more data, not longer: the validation loss rose in its run"
        return "train longer, or on more data"

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Number of rows scored."""

    @property
    @abstractmethod
    def intervals(self) -> dict[str, Any]:
        """Every score by name, an object with ``value``, ``low`` and ``high``."""

    @property
    @abstractmethod
    def floors(self) -> dict[str, float | None]:
        """Scores that need no model, by name; None where they are not known."""

    def floor_title(self, name: str) -> str:
        """Return what people read of a floor, the same in text and on a page."""
        return floor_named(name).title

    @property
    @abstractmethod
    def verdict(self) -> str:
        """The comparison with the floors, in a sentence."""

    @abstractmethod
    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the report as lines: a short title, empty where a line continues, and the text.

        The worst rows follow the first line, so that scores and verdict are what remains in sight.
        """

    def draw(self, path: str | Path) -> None:
        """Draw the report as a picture.

        Args:
            path: File of the picture, ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ConfigError: The report has no picture, the file cannot be written, or matplotlib is
                missing.
            ResourceError: The disk is full, or fails.
        """
        if self.picture is None:
            raise ConfigError(f"{path}: the evaluation of {self.model} has no picture.")
        self.picture.draw(path)

    def json_fields(self) -> dict[str, Any]:
        """Return the report as plain values, with the fields that the reports of all tasks have."""
        shared = {
            "rows": self.num_rows,
            "scores": self.intervals,
            "floors": self.floors,
            "verdict": self.verdict,
        }
        fields = msgspec.structs.asdict(self)
        del fields["picture"], fields["details"]
        return {"worst": []} | msgspec.to_builtins(fields) | shared


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a finished run.

    Args:
        test: Figures on the test data by name; empty without test data.
        summary: Validation and test figures in a line.
        suggested: Commands to try next, with `FOLDER` for the model folder.
        kind: Description of the model, such as ``A translation model (en-de)``.
        rows: Sizes of the parts of the data, in words.
        notes: What the figures mean.
        limits: What the model cannot do.
    """

    __test__ = False  # pytest collects classes of this name

    test: dict[str, float]
    summary: str
    suggested: list[NextStep]
    kind: str
    rows: str
    notes: str
    limits: str = (
        "The model knows the kind of text it was trained on and nothing else; what it writes may "
        "be fluent\nand wrong. Check what matters."
    )


def score_interval(
    value: float, low: float | None = None, high: float | None = None
) -> dict[str, float | None]:
    """Return a score with its 95 % interval, None where it has none."""
    return {"value": value, "low": low, "high": high}
