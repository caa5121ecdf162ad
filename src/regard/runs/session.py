"""One session of a run in a folder: from its first settings, or from its checkpoint, to the end.

Its steps: read the data, collect the facts, decide all settings (`resolve`), build the model once,
arrange the data in batches, measure a few steps, plan, train, test.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import torch

from regard.data.progress import begin_stage
from regard.data.readers.source import DataSource
from regard.data.tokenizer import Tokenizer, check_tags
from regard.errors import (
    ConfigError,
    DataError,
    NextStep,
    ResourceError,
    WeightsError,
    resource_errors,
)
from regard.hub.any_tokenizer import AnyTokenizer, first_id_of
from regard.hub.file_names import DATA_REPORT, MODEL_CARD
from regard.hub.folder_lock import FolderLock
from regard.hub.model_folder import ModelFolder
from regard.runs.event_files import EventFiles, require_tensorboard
from regard.runs.model_card import model_card
from regard.runs.pictures import write_curves
from regard.runs.start_checks import (
    open_shared_sources,
    require_disk_space,
    require_own_gpus,
    require_same_vocabulary,
    share_config,
    share_machine,
    share_measurement,
    share_tokenizer,
    share_weights,
)
from regard.setup.base_task import FOLDER, Task
from regard.setup.build import (
    build_model,
    dropped_report,
    estimate_num_tokens,
    measure_sources,
    summarize_model,
)
from regard.setup.config import PresetName, RunConfig
from regard.setup.dataset import Dataset, ReadOptions
from regard.setup.estimate import (
    chooses_fsdp,
    describe_late_end,
    describe_overrun,
    make_budget,
    make_plan,
    measure,
)
from regard.setup.facts import Facts, inspect_machine
from regard.setup.fine_tuning import merged_weights
from regard.setup.inspect import source_locations, sources_hash, store_streams, stored_paths
from regard.setup.memory_advice import MemoryAdvice
from regard.setup.pretrained import load_initial_weights, read_pretrained, stored_vocabulary
from regard.setup.request import Request
from regard.setup.resolve import resolve
from regard.setup.shared_predictor import shared_predictor
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks import task_of, task_of_published
from regard.tasks.choice import choose_task
from regard.training.checkpoint import Counters, began_in_shards, load_checkpoint, save_checkpoint
from regard.training.compilation import compile_blocks, compiles_blocks
from regard.training.device import CPU, choose_device
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import (
    Diverged,
    Drawn,
    Evaluated,
    Event,
    Finished,
    Planned,
    Report,
    Started,
    Warned,
)
from regard.training.loop import Trainer
from regard.training.signals import Stopped, request_stop, resumable
from regard.training.steppers import build_stepper, computes_in_shards, reproducible

_COMPILED_BATCHES = 4  # for which a model is compiled before its first step


class SessionContext(NamedTuple):
    """Where a session runs, and who hears of it.

    Args:
        folder: The run's folder.
        report: Called with every event.
        start_time: Clock (``time.monotonic``) at which the session began.
        world: The processes that train together.
    """

    folder: ModelFolder
    report: Report
    start_time: float
    world: World = ALONE


class RunSession:
    """One session of a run in a folder.

    Args:
        context: Where it runs.
        task: The task of the run.
        setup: Model, batches, loss and evaluation.
        advice: Finds settings that need less memory.
        sources: The open data by the name of its setting.
    """

    def __init__(
        self,
        context: SessionContext,
        task: Task,
        setup: TrainingSetup,
        advice: MemoryAdvice,
        sources: Mapping[str, DataSource],
    ) -> None:
        self.folder, self.world = context.folder, context.world
        world = context.world
        if world.watch is not None:
            world.watch.seconds = setup.config.training.heartbeat_seconds
        self.task, self.setup, self._advice = task, setup, advice
        self.config, self._sources = setup.config, sources
        self._report, self._start_time = context.report, world.share(context.start_time)
        self._uses_fsdp = chooses_fsdp(setup)
        # Refused here where it cannot be; what a run takes is known later.
        self._compiles(in_shards=computes_in_shards(self.config.training, world), seconds=0.0)
        self._has_warned = False
        self._first_step_at: float | None = None  # seconds after the start; None where resumed
        self._report_error: OSError | None = None
        self._event_files: EventFiles | None = None

    @classmethod
    def from_request(
        cls,
        request: Request,
        context: SessionContext,
        sources: Mapping[str, DataSource] = MappingProxyType({}),
        *,
        data_from_rank_0: bool = False,
    ) -> RunSession:
        """Read the data, decide the settings, and build the model.

        Args:
            request: What the user set.
            context: Where the session runs.
            sources: Data that is already open, by the name of its setting.
            data_from_rank_0: Whether rank 0 sends its data to the other processes.

        Returns:
            The session of a new run.
        """
        world, report = context.world, context.report
        requested = request.bind_all_but_model(RunConfig())
        if requested.training.tensorboard:
            require_tensorboard()
        require_own_gpus(world, requested.training.device)
        sources = open_shared_sources(world, requested.data, sources, from_first=data_from_rank_0)
        machine = share_machine(
            world, world.together(lambda: inspect_machine(requested.training.device)), report
        )
        task = choose_task(request, sources.get("path"))
        pretrained = world.together(
            lambda: read_pretrained(request, task, task_of, task_of_published)
        )
        draft = request.check(task.defaults if pretrained is None else pretrained.config)
        task.require_family(draft.model)
        has_sizes = pretrained is not None and not pretrained.parts
        options = ReadOptions.from_request(request, draft, sources, has_sizes=has_sizes)
        dataset = task.read(options)
        report(dataset.summary())
        tokenizer: AnyTokenizer | None = None
        if not task.reads_inputs:
            if pretrained is not None:
                vocabulary = stored_vocabulary(pretrained)
                tokenizer = world.together(
                    lambda: task.fit_vocabulary(vocabulary.read_tokenizer(), dataset)
                )
                require_same_vocabulary(world, tokenizer, str(vocabulary.path))
            else:
                check_tags(draft.tokenizer)
                vocab_size = draft.tokenizer.vocab_size or dataset.vocab_size
                settings = msgspec.structs.replace(draft.tokenizer, vocab_size=vocab_size)
                tokenizer = share_tokenizer(
                    world, lambda: Tokenizer.train(dataset.texts(), settings)
                )
        facts = Facts(
            data=dataset.facts(),
            paths=stored_paths(sources, context.folder),
            sha256=sources_hash(sources),
            vocab_size=0 if tokenizer is None else len(tokenizer),
            num_tokens=estimate_num_tokens(dataset, tokenizer),
            sources=measure_sources(dataset, tokenizer),
            pretrained=pretrained,
            first_id=None if tokenizer is None else first_id_of(tokenizer),
        )
        config = share_config(world, resolve(request, facts, machine, task))

        def resolve_preset(preset: PresetName) -> RunConfig | None:
            other = request.with_preset(preset)
            return None if other is None else resolve(other, facts, machine, task)

        device = choose_device(config.training.device)
        advice = MemoryAdvice(
            config, task, facts.vocab_size, resolve_preset, world=world, device=device
        )
        setup = _set_up(context, task, config, dataset, tokenizer, advice, device)
        if pretrained is not None:
            note = load_initial_weights(setup.model, config, pretrained)
            if note:
                report(Warned(text=note))
        share_weights(world, setup.model, request.start_from)
        return cls(context, task, setup, advice, sources)

    @classmethod
    def from_folder(
        cls,
        config: RunConfig,
        context: SessionContext,
        sources: Mapping[str, DataSource],
        device: torch.device = CPU,
    ) -> RunSession:
        """Read the data and build the model as the first session did, on the device of this one.

        Args:
            config: The saved settings.
            context: Where the session runs.
            sources: The open data by the name of its setting.
            device: What this session computes on.

        Returns:
            The session of a run that is resumed.
        """
        folder, report, world = context.folder, context.report, context.world
        if config.training.tensorboard:
            require_tensorboard()
        task = task_of(config)
        dataset = task.read(ReadOptions.from_config(config, sources))
        report(dataset.summary())
        world.on_first(lambda: _require_same_rows(folder, dataset, report))
        tokenizer = None if task.reads_inputs else share_tokenizer(world, folder.read_tokenizer)
        vocab_size = 0 if tokenizer is None else len(tokenizer)
        advice = MemoryAdvice(config, task, vocab_size, world=world, device=device)
        setup = _set_up(context, task, config, dataset, tokenizer, advice, device)
        return cls(context, task, setup, advice, sources)

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
        with closing(files) as self._event_files:
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
            error = self._report_error
            reason = self.world.share("" if error is None else str(error.strerror or error))
            if not reason:
                self._show_curves()
                raise
        folder = str(self.folder.path)
        raise ResourceError(
            f"the report of the run cannot be written ({reason}).  Saved: {folder}, "
            f"step {counters.step:,}.",
            NextStep("Continue", "train", settings=(("output", folder), ("resume", ""))),
        ) from self._report_error

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
            on_event=partial(self._record, lock),
            budget=make_budget(setup),
            start_time=self._start_time,
            world=self.world,
        )

    def _seed_dropout(self, number: int) -> None:
        seed = self.config.training.seed * 1_000_003 + number
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)

    def _record(self, lock: FolderLock, event: Event) -> None:
        """Report an event, and append evaluations and a failure to ``metrics.jsonl``."""
        lock.check()
        if self._report_error is None:
            try:
                self._report(event)
            except OSError as error:
                self._report_error = error
                request_stop()
            lock.check()  # what was called may have deleted the folder
        if self._event_files is not None:
            self._event_files.write(event)
        if isinstance(event, Evaluated):
            line = msgspec.to_builtins(event)
            del line["examples"]  # the folder of a model has no texts of its data
            self.folder.append_metrics(line)
            warning = self.setup.data_warning(event)
            if warning is not None and not self._has_warned:
                self._has_warned = True
                self._record(lock, warning)
        elif isinstance(event, Diverged):
            self.folder.append_metrics(msgspec.to_builtins(event))

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
        if self._event_files is not None:
            self._event_files.write(finished)
        if picture is not None:
            self._report(picture)
        training = counters.elapsed - (self._first_step_at or 0.0)
        if late := describe_late_end(self.config.training, finished, training, self._first_step_at):
            self._report(Warned(text=late))
        self._report(finished)
        return predictor


def _set_up(
    context: SessionContext,
    task: Task,
    config: RunConfig,
    dataset: Dataset,
    tokenizer: AnyTokenizer | None,
    advice: MemoryAdvice,
    device: torch.device,
) -> TrainingSetup:
    """Build the model where its weights fit into memory, and arrange the data in batches."""
    context.world.together(advice.require_weights)
    with resource_errors(advice.describe):
        model = build_model(config, 0 if tokenizer is None else len(tokenizer), task).to(device)
        parts = RunParts(
            config=config, dataset=dataset, tokenizer=tokenizer, model=model, world=context.world
        )
        setup = task.set_up(parts, context.report)
    context.report(summarize_model(config, model, task))
    return setup


def _require_same_rows(folder: ModelFolder, dataset: Dataset, report: Report) -> None:
    """Check that a resumed run reads the rows that it began with, from files that are the same.

    Another version may leave out other rows. A run without a hash of its rows has a list of those
    that were left out, of which a difference is reported.

    Raises:
        DataError: It reads other rows.
    """
    if (recorded := folder.manifest.rows()) and recorded != dataset.rows_sha256:
        raise DataError(
            f"{dataset.path}: other rows are read of it than when this run began, by another "
            "version of regard.  Resume with that version, or train again with another `output`."
        )
    path = folder.path / DATA_REPORT
    if recorded or not path.is_file():
        return
    before, now = path.read_text(encoding="utf-8", errors="replace"), dropped_report(dataset)
    if before.count("\n") != now.count("\n"):
        text = f"{path} lists other rows than are left out now: the run may continue on other rows."
        report(Warned(text=text))


def _in_folder(step: NextStep, folder: str) -> NextStep:
    """Return a suggested command with the folder of the model."""
    return step._replace(
        arguments=tuple(folder if word == FOLDER else word for word in step.arguments),
        settings=tuple(
            (name, folder if value == FOLDER else value) for name, value in step.settings
        ),
    )
