"""From settings and data to a run: resolve, build, estimate.

A task of your own derives from `Task`, reads a `Dataset` by `ReadOptions`, and its settings are a
`RunConfig`.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.setup.base_task import Task
    from regard.setup.build import build_model
    from regard.setup.config import (
        DataConfig,
        FineTuningConfig,
        ForecastConfig,
        QuestionAnsweringConfig,
        RunConfig,
    )
    from regard.setup.dataset import Dataset, ReadOptions
    from regard.setup.estimate import make_plan, measure
    from regard.setup.evaluation_report import EvaluationOptions, EvaluationReport, TestReport
    from regard.setup.facts import DataFacts, Facts, Machine, Pretrained, inspect_machine
    from regard.setup.presets import Preset
    from regard.setup.pretrained import read_pretrained
    from regard.setup.request import Request
    from regard.setup.resolve import resolve

import_lazily(__name__)

__all__ = [
    "DataConfig",
    "DataFacts",
    "Dataset",
    "EvaluationOptions",
    "EvaluationReport",
    "Facts",
    "FineTuningConfig",
    "ForecastConfig",
    "Machine",
    "Preset",
    "Pretrained",
    "QuestionAnsweringConfig",
    "ReadOptions",
    "Request",
    "RunConfig",
    "Task",
    "TestReport",
    "build_model",
    "inspect_machine",
    "make_plan",
    "measure",
    "read_pretrained",
    "resolve",
]
