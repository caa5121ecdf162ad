"""One session of a run in a folder: from its first settings, or from its checkpoint, to the end.

Its steps: set up model and batches (`session_setup`), measure a few steps, plan, train, test.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
import torch

from regard.data.progress import begin_stage
from regard.data.readers.source import DataSource
from regard.errors import ConfigError, NextStep, ResourceError, WeightsError, resource_errors
from regard.hub.file_names import DATA_REPORT, MODEL_CARD
from regard.hub.folder_lock import FolderLock
from regard.runs.event_files import EventFiles
from regard.runs.event_recorder import EventRecorder
from regard.runs.model_card import model_card
from regard.runs.pictures import write_curves
from regard.runs.session_setup import (
    SessionContext,
    SessionParts,
    set_up_new_run,
    set_up_resumed_run,
)
from regard.runs.start_checks import require_disk_space, share_measurement
from regard.setup.base_task import FOLDER
from regard.setup.build import dropped_report
from regard.setup.config import RunConfig
from regard.setup.estimate import (
    chooses_fsdp,
    describe_late_end,
    describe_overrun,
    make_budget,
    make_plan,
    measure,
)
from regard.setup.fine_tuning import merged_weights
from regard.setup.inspect import source_locations, store_streams
from regard.setup.request import Request
from regard.setup.shared_predictor import shared_predictor
from regard.training.checkpoint import Counters, began_in_shards, load_checkpoint, save_checkpoint
from regard.training.compilation import compile_blocks, compiles_blocks
from regard.training.device import CPU
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import Drawn, Finished, Planned, Started, Warned
from regard.training.loop import Trainer
from regard.training.signals import Stopped, resumable
from regard.training.steppers import build_stepper, computes_in_shards, reproducible

_COMPILED_BATCHES = 4  # for which a model is compiled before its first step


class RunSession:
    """One session of a run in a folder.

    Args:
        context: Where it runs.
        parts: What it trains.
    """

    def __init__(self, context: SessionContext, parts: SessionParts) -> None:
        self.folder, self.world = context.folder, context.world
        world = context.world
        self.task, self.setup, self._advice, self._sources = parts
        self.config = self.setup.config
        if world.watch is not None:
            world.watch.seconds = self.config.training.heartbeat_seconds
        self._report, self._start_time = context.report, world.share(context.start_time)
        self._uses_fsdp = chooses_fsdp(self.setup)
        # Refused here where it cannot be; what a run takes is known later.
        self._compiles(in_shards=computes_in_shards(self.config.training, world), seconds=0.0)
        self._first_step_at: float | None = None  # seconds after the start; None where resumed
        self._recorder = EventRecorder(self.folder, self._report, self.setup.data_warning)

    @classmethod
    def from_request(
        cls,
        request: Request,
        context: SessionContext,
        sources: Mapping[str, DataSource] = MappingProxyType({}),
    ) -> RunSession:
        """Return the session of a new run; see `set_up_new_run`."""
        return cls(context, set_up_new_run(request, context, sources))

    @classmethod
    def from_folder(
        cls,
        config: RunConfig,
        context: SessionContext,
        sources: Mapping[str, DataSource],
        device: torch.device = CPU,
    ) -> RunSession:
        """Return the session of a run that is resumed; see `set_up_resumed_run`."""
        return cls(context, set_up_resumed_run(config, context, sources, device))

    def plan(self) -> tuple[Counters, Planned]:
        """Measure a few steps, and return the plan in the counters of the run and as an event."""
        self.world.together(lambda: self._advice.require(self.setup, uses_fsdp=self._uses_fsdp))
        prepared = self.world.clock() - self._start_time
        begin_stage("measuring a few steps")
        with resource_errors(self._advice.describe):
            measured = measure(self.setup, uses_fsdp=self._uses_fsdp, elapsed=prepared)
            measured = share_measurement(self.world, measured)
        plan, planned = make_plan(
            self.setup,
            measured,
            self.world.clock() - self._start_time,
            uses_fsdp=self._uses_fsdp,
        )
        self._report(planned)
        if overrun := describe_overrun(self.setup, planned, measured, prepared):
            self._report(Warned(text=overrun))
        counters = Counters(
            plan=plan,
            estimate=planned.seconds,
            evaluation_seconds=measured.evaluation_seconds,
            in_shards=computes_in_shards(self.config.training, self.world),
        )
        return counters, planned

    def start(self, lock: FolderLock) -> Any:
        """Plan, write settings and vocabulary, and train; return the predictor."""
        with reproducible(self.config.training, self.setup.device):
            counters, planned = self.plan()
            require_disk_space(self.world, self.folder.path, planned)
            with resumable(str(self.folder.path), lambda: self.folder.holds_model):
                self.world.on_first(self._write_start)
                if self.world.watch is not None:
                    self.world.watch.note_resumable()
                return self._begin(lock, counters)

    def _begin(self, lock: FolderLock, counters: Counters) -> Any:
        """Write the first checkpoint, and train; return the predictor."""
        if self.config.start_from is not None:
            evaluation = self.setup.evaluator()(ExponentialMovingAverage(self.setup.model, 0.0))
            self._report(Started(folder=self.config.start_from, measures=evaluation.measures))
        trainer = self._trainer(lock)
        self._first_step_at = self.world.clock() - self._start_time
        save_checkpoint(
            self.folder.path,
            counters,
            self.setup.model,
            trainer.average,
            trainer.stepper,
            self.world,
        )
        return self._complete(trainer, counters)

    def _write_start(self) -> None:
        """Write what a resumed run needs besides its checkpoint."""
        self.folder.create()
        store_streams(self._sources, self.folder)
        self.folder.manifest.record_sources(
            {name: source.sha256 for name, source in self._sources.items()},
            source_locations(self._sources, self.folder),
            self.setup.dataset.rows_sha256,
        )
        self.folder.write_config(self.config)
        self.folder.write_text(DATA_REPORT, dropped_report(self.setup.dataset))
        if self.setup.tokenizer is not None:
            self.folder.write_tokenizer(self.setup.tokenizer)

    def resume(self, lock: FolderLock) -> Any:
        """Restore the checkpoint, and continue training; return the predictor."""
        same_bits = reproducible(self.config.training, self.setup.device)
        with same_bits, resumable(str(self.folder.path)):
            in_shards = self.world.on_first(lambda: began_in_shards(self.folder.path))
            trainer = self._trainer(lock, in_shards=in_shards)
            counters = load_checkpoint(
                self.folder.path, self.setup.model, trainer.average, trainer.stepper, self.world
            )
            counters.in_shards |= computes_in_shards(self.config.training, self.world)
            self.world.on_first(lambda: self.folder.drop_metrics_after(counters.step))
            text = f"Resumed from step {counters.step:,} of {counters.plan.total_steps:,}."
            self._report(Warned(text=text))
            return self._complete(trainer, counters)

    def _complete(self, trainer: Trainer, counters: Counters) -> Any:
        """Train and finish, with event files where the settings ask for them."""
        if not self.config.training.tensorboard or not self.world.is_first:
            return self._finish(self._train(trainer, counters))
        files = EventFiles(self.folder.path, self._report, counters.step)
        with closing(files) as self._recorder.event_files:
            return self._finish(self._train(trainer, counters))

    def _compiles(self, *, in_shards: bool, seconds: float) -> bool:
        """Return whether the model is compiled; raise `ConfigError` where it should and cannot."""
        training, optimizer = self.config.training, self.config.optimizer
        device = self.setup.device
        return compiles_blocks(training, optimizer, device, in_shards=in_shards, seconds=seconds)

    def _compile(self, trainer: Trainer, counters: Counters) -> None:
        """Compile the model where the settings ask for it or it pays, and say what it takes."""
        if not self._compiles(in_shards=counters.in_shards, seconds=counters.estimate):
            return
        batches = map(trainer.batches.batch, trainer.batches.order(0)[:_COMPILED_BATCHES])
        try:
            seconds = compile_blocks(trainer.model.train(), trainer.stepper.loss_function, batches)
        except ConfigError as error:
            if self.config.training.compile != "auto":
                raise
            self._report(Warned(text=str(error)))
            return
        text = f"The blocks of the model were compiled in {seconds:.0f} s (`training.compile`)."
        self._report(Warned(text=text))

    def _train(self, trainer: Trainer, counters: Counters) -> Counters:
        """Train; a report that cannot be written ends the run once its state is saved.

        A run that is stopped, or fails, has its curves so far.

        Returns:
            The counters at the end of training.

        Raises:
            ResourceError: The report cannot be written, or there is not enough memory.
            Stopped: A signal asked for it; a checkpoint has been written.
            WeightsError: Loss or gradient is not finite; the last good state has been written.
        """
        try:
            with resource_errors(self._advice.describe):
                self._compile(trainer, counters)
                return trainer.run(counters)
        except WeightsError:
            self._show_curves()
            raise
        except Stopped:
            error = self._recorder.report_error
            reason = self.world.share("" if error is None else str(error.strerror or error))
            if not reason:
                self._show_curves()
                raise
        folder = str(self.folder.path)
        raise ResourceError(
            f"the report of the run cannot be written ({reason}).  Saved: {folder}, "
            f"step {counters.step:,}.",
            NextStep("Continue", "train", settings=(("output", folder), ("resume", ""))),
        ) from self._recorder.report_error

    def _trainer(self, lock: FolderLock, *, in_shards: bool = False) -> Trainer:
        setup, training, optimizer = self.setup, self.config.training, self.config.optimizer
        model, loss = setup.model, setup.loss()
        evaluate = setup.evaluator()  # copies the model, which cannot be copied in parts
        stepper, batches = build_stepper(
            model,
            loss,
            training,
            optimizer,
            setup.batches,
            self._seed_dropout,
            self.world,
            dtype=model.compute_dtype,
            uses_fsdp=self._uses_fsdp,
            in_shards=in_shards,
        )
        average = ExponentialMovingAverage(model, training.average)

        def save_best(best: ExponentialMovingAverage) -> None:
            is_writer = self.world.is_first
            weights = {name: value for name, value in best.whole_tensors() if is_writer}

            def write() -> None:
                lock.check()
                self.folder.write_weights(merged_weights(weights, self.config))

            self.world.on_first(write)

        return Trainer(
            model=model,
            average=average,
            stepper=stepper,
            batches=batches,
            evaluate=evaluate,
            save_best=save_best,
            seed_dropout=self._seed_dropout,
            describe_rows=setup.dataset.locate,
            config=training,
            folder=self.folder.path,
            on_event=partial(self._recorder.record, lock),
            budget=make_budget(setup),
            start_time=self._start_time,
            world=self.world,
        )

    def _seed_dropout(self, number: int) -> None:
        seed = self.config.training.seed * 1_000_003 + number
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)

    def _show_curves(self) -> None:
        """Draw the evaluations so far, and report the picture, on rank 0.

        The others wait: one that ends leaves rank 0 seconds, and Matplotlib may take them to load.
        """
        picture = write_curves(self.folder, self.task.loss_unit) if self.world.is_first else None
        if picture is not None:
            self._report(picture)
        self.world.barrier()

    def _finish(self, counters: Counters) -> Any:
        """Evaluate the best weights on the test data, write model card and last metrics.

        All ranks evaluate; rank 0 writes.

        Returns:
            The predictor.
        """
        end_of_training = time.monotonic()
        with (
            resource_errors(self._advice.describe),
            shared_predictor(self.task, self.folder.path, self.setup) as predictor,
        ):
            if calibration := self.setup.calibrate(predictor):
                self.world.on_first(lambda: self.folder.write_calibration(calibration))
            report = self.setup.evaluate_test(predictor, counters.best_measures)
        if not self.world.is_first:
            return predictor
        picture = write_curves(self.folder, self.task.loss_unit)
        finished = Finished(
            step=counters.step,
            best_step=counters.best_step,
            score_name=counters.best_name,
            valid=counters.best_measures,
            test=report.test,
            summary=report.summary,
            seconds=counters.elapsed + time.monotonic() - end_of_training,
            estimate=counters.estimate,
            folder=str(self.folder.path),
            tries=[_in_folder(step, str(self.folder.path)) for step in report.suggested],
            planned_steps=counters.steps_before_cut,
        )
        card = model_card(
            self.config,
            report,
            finished,
            path=self.setup.dataset.path,
            architecture=self.task.summarize(self.config),
            num_parameters=self.setup.model.num_parameters,
            loss_unit=self.task.loss_unit,
            has_curves=isinstance(picture, Drawn),
        )
        self.folder.write_text(MODEL_CARD, card)
        line = msgspec.to_builtins(finished)
        del line["tries"]
        self.folder.append_metrics(line)
        if self._recorder.event_files is not None:
            self._recorder.event_files.write(finished)
        if picture is not None:
            self._report(picture)
        training = counters.elapsed - (self._first_step_at or 0.0)
        if late := describe_late_end(self.config.training, finished, training, self._first_step_at):
            self._report(Warned(text=late))
        self._report(finished)
        return predictor


def _in_folder(step: NextStep, folder: str) -> NextStep:
    """Return a suggested command with the folder of the model."""
    return step._replace(
        arguments=tuple(folder if word == FOLDER else word for word in step.arguments),
        settings=tuple(
            (name, folder if value == FOLDER else value) for name, value in step.settings
        ),
    )
