"""Training: the loop, its steps, early stopping, checkpoints, and the events that it reports.

A name is loaded when it is first used, because events and signals need no torch.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.training.checkpoint import Counters, load_checkpoint, save_checkpoint
    from regard.training.early_stopping import EarlyStopping
    from regard.training.ema import ExponentialMovingAverage
    from regard.training.evaluation_loop import LossEvaluator
    from regard.training.events import Drawn, Evaluated, Event, Finished, Progress, Saved, Warned
    from regard.training.full_batch_step import FullBatchStep, build_full_batch
    from regard.training.loop import Batches, Evaluation, Trainer
    from regard.training.plan import Plan, TimeBudget
    from regard.training.signals import Stopped, StopRequest
    from regard.training.stability_monitor import StabilityMonitor
    from regard.training.token_loss import TokenLoss
    from regard.training.train_step import Loss, LossFunction, MiniBatchStep, StepOutput, TrainStep
    from regard.training.training_config import OptimizerConfig, TrainingConfig

import_lazily(__name__)

__all__ = [
    "Batches",
    "Counters",
    "Drawn",
    "EarlyStopping",
    "Evaluated",
    "Evaluation",
    "Event",
    "ExponentialMovingAverage",
    "Finished",
    "FullBatchStep",
    "Loss",
    "LossEvaluator",
    "LossFunction",
    "MiniBatchStep",
    "OptimizerConfig",
    "Plan",
    "Progress",
    "Saved",
    "StabilityMonitor",
    "StepOutput",
    "StopRequest",
    "Stopped",
    "TimeBudget",
    "TokenLoss",
    "TrainStep",
    "Trainer",
    "TrainingConfig",
    "Warned",
    "build_full_batch",
    "load_checkpoint",
    "save_checkpoint",
]
