"""Training runs from start to finish: `train` a file of pairs, `resume`, `estimate`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from regard.errors import ConfigError, DataError
from regard.hub.model_folder import ModelFolder
from regard.hub.storage import sweep_temporaries, write_atomic
from regard.runs.model_card import model_card
from regard.runs.registry import TASKS, guess_task
from regard.settings.binding import apply_settings
from regard.setup.base_task import Prepared, Text
from regard.setup.build import (
    build_model,
    drop_report,
    family_for_task,
    resolve_sizes,
)
from regard.setup.config import RunConfig
from regard.setup.estimate import make_budget, make_plan, measure, require_memory
from regard.setup.pretrained import kept_weights, starting_config
from regard.setup.pretrained_encoder_decoder import (
    begins_with_weights,
    joined_config,
    load_weights_of,
    sides_of,
    stored_vocabulary,
)
from regard.setup.resolve import drop_dropout, with_heads, with_patches
from regard.tasks.translation.data import data_hash
from regard.training.checkpoint import (
    Counters,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from regard.training.ema import WeightAverage
from regard.training.events import Evaluated, Event, Finished, Planned, Report, Started, Warned
from regard.training.full_batch_step import build_full_batch
from regard.training.loop import Batches, Trainer
from regard.training.train_step import Stepper, Stepping
from regard.training.training_config import FULL_BATCH


def ignore_events(event: Event) -> None:
    """Take an event and do nothing."""


def train(
    data: str | Path | None,
    output: str | Path,
    *,
    settings: Sequence[str] = (),
    config: RunConfig | None = None,
    report: Report = ignore_events,
    started: float | None = None,
) -> Any:
    """Train a model on a file of text, or on images, recordings or series with labels.

    Args:
        data: TSV, CSV or JSONL file, a folder with one folder a label, ``-`` for standard input, or
            None for the embedded corpus.
        output: Folder of the new model; must not hold one yet.
        settings: ``section.key=value`` each, such as ``training.minutes=15``.
        config: Settings to start from; None takes the defaults.
        report: Called with every event of the run.
        started: Clock (``time.monotonic``) from which the time budget counts; None means now.

    Returns:
        The trained model, ready for use: a `Translator` or what else the task has.

    Raises:
        ConfigError: A setting is wrong or the folder already holds a model.
        DataError: The text cannot be used.
        ResourceError: Memory or disk does not suffice.
        Stopped: Ctrl-C or SIGTERM; a checkpoint has been written.
    """
    started = time.monotonic() if started is None else started
    folder = ModelFolder(output)
    _require_free(folder)
    if data == "-":
        folder.create()
        data = _store(sys.stdin.buffer.read(), folder.path)
    config = _with_data(_configure(config, settings, data), data)
    return _Run(config, folder, report, started).from_start()


def resume(
    output: str | Path, *, report: Report = ignore_events, started: float | None = None
) -> Any:
    """Go on with a run that was stopped or killed, from its last checkpoint.

    Args:
        output: The run's folder.
        report: Called with every event of the run.
        started: Clock (``time.monotonic``) at which this session began; None means now.

    Returns:
        The trained model. A run that has finished is left as it is.

    Raises:
        WeightsError: The folder holds no run, or its checkpoint is damaged.
        DataError: The training data has changed.
    """
    started = time.monotonic() if started is None else started
    folder = ModelFolder(output)
    config = folder.read_config(RunConfig)
    if is_finished(folder):
        return TASKS[config.task].open(folder.path)
    sweep_temporaries(folder.path)
    sweep_temporaries(folder.path / "checkpoints")
    run = _Run(config, folder, report, started)
    run.check_data()
    return run.resumed() if checkpoint_path(folder.path).exists() else run.from_start()


def estimate(
    data: str | Path | None,
    output: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    config: RunConfig | None = None,
    report: Report = ignore_events,
) -> Planned:
    """Predict time, memory and disk of a run from a few measured steps; nothing is written.

    Args:
        data: As for `train`, but not standard input.
        output: Folder of the run to come, which is refused as `train` does; None where it is open.
        settings: As for `train`.
        config: As for `train`.
        report: As for `train`.

    Raises:
        ConfigError: As for `train`.
        DataError: As for `train`.
        ResourceError: As for `train`.
    """
    started = time.monotonic()
    if output is not None:
        _require_free(ModelFolder(output))
    if data == "-":
        raise ConfigError("--dry-run reads the data twice: name a file instead of -.")
    config = _with_data(_configure(config, settings, data), data)
    return _Run(config, ModelFolder("."), report, started).estimated()


def is_finished(folder: ModelFolder) -> bool:
    """Tell whether the run in a folder has come to its end."""
    return any(line.get("event") == "finished" for line in folder.read_metrics())


def _configure(
    config: RunConfig | None, settings: Sequence[str], data: str | Path | None
) -> RunConfig:
    """Apply settings to those of the task, which the data tells where nothing else does."""
    words = {name: value for name, _, value in (s.partition("=") for s in settings)}
    if config is None:
        encoding = words.get("data.encoding", "utf-8")
        guessed = (
            "translation"
            if data is None
            else guess_task(data, has_targets="data.targets" in words, encoding=encoding)
        )
        task = words.get("task", guessed)
        if task not in TASKS:
            raise ConfigError(f"task={task}: one of {', '.join(TASKS)} was expected.")
        config = TASKS[task].defaults
        sides = sides_of(words)
        if "start_from" in words:
            config = starting_config(words["start_from"], task, config)
        elif sides:
            config = joined_config(sides, task, config)
        if "start_from" not in words:
            settings = (*settings, *with_heads(settings, config.model))
    config = apply_settings(config, (*settings, *with_patches(settings, config.model)))
    family_for_task(config)  # before anything is read
    return msgspec.structs.replace(config, settings=(*config.settings, *settings))


def _require_free(folder: ModelFolder) -> None:
    """Refuse a folder that holds a run, or that cannot be made, before anything is read."""
    if not folder.holds_model:
        folder.check_writable()
        return
    state = "a finished model" if is_finished(folder) else "a run that can go on"
    raise ConfigError(
        f"{folder.path}: already holds {state}; nothing was changed.  "
        f"Go on with it: regard train -o {folder.path} --resume;  start anew: another -o."
    )


def _with_data(config: RunConfig, data: str | Path | None) -> RunConfig:
    """Note the data's path and hash."""
    path = config.data.path if data is None else str(data)
    if path is None:
        return config
    changed = msgspec.structs.replace(config.data, path=path)
    changed = msgspec.structs.replace(changed, sha256=data_hash(changed))
    return msgspec.structs.replace(config, data=changed)


def _store(content: bytes, folder: Path) -> Path:
    """Keep standard input, so that the run can be resumed."""
    first = content.lstrip().partition(b"\n")[0]
    suffix = "jsonl" if first.startswith(b"{") else "tsv" if b"\t" in first else "txt"
    path = folder / f"data.{suffix}"
    write_atomic(path, content)
    return path


class _Run:
    """One session of a run in a folder."""

    def __init__(
        self,
        config: RunConfig,
        folder: ModelFolder,
        report: Report,
        started: float,
    ) -> None:
        self.config, self.folder = config, folder
        self.task = TASKS[config.task]
        self.started = started
        self._report = report
        self._warned = False

    def from_start(self) -> Any:
        """Prepare, plan and train."""
        text = self.task.read(self.config)
        self.config = self.task.note(self.config, text)
        self.folder.create()
        self.folder.write_config(self.config)
        prepared = self._prepare(text)
        measured = measure(prepared)
        plan, planned = make_plan(prepared, measured, time.monotonic() - self.started)
        self._settle_model(prepared, planned)
        self._report(planned)
        self.folder.write_config(self.config)
        self.folder.write_text("data_report.txt", drop_report(text))
        if prepared.tokenizer is not None:
            self.folder.write_tokenizer(prepared.tokenizer)
        self._report_start(prepared)
        counters = Counters(
            plan=plan,
            estimate=planned.seconds,
            evaluation_seconds=measured.evaluation_seconds,
        )
        trainer, average, stepper = self._trainer(prepared)
        save_checkpoint(self.folder.path, counters, prepared.model, average, stepper)
        return self._finish(prepared, trainer.run(counters))

    def _report_start(self, prepared: Prepared) -> None:
        """Tell how good the weights are that the run starts from."""
        if self.config.start_from is None:
            return
        found = prepared.evaluator()(WeightAverage(prepared.model, 0.0))
        self._report(Started(folder=self.config.start_from, measures=found.measures))

    def resumed(self) -> Any:
        """Prepare as the first session did, restore the checkpoint, go on."""
        text = self.task.read(self.config)
        prepared = self.task.prepare(self.config, text, self._report, stored=self.folder)
        trainer, average, stepper = self._trainer(prepared)
        counters = load_checkpoint(self.folder.path, prepared.model, average, stepper)
        kept = [line for line in self.folder.read_metrics() if line["step"] <= counters.step]
        self.folder.write_metrics(kept)
        self._report(
            Warned(text=f"Resumed from step {counters.step:,} of {counters.plan.total_steps:,}.")
        )
        return self._finish(prepared, trainer.run(counters))

    def estimated(self) -> Planned:
        """Prepare and measure, nothing else."""
        text = self.task.read(self.config)
        self.config = self.task.note(self.config, text)
        prepared = self._prepare(text)
        _, planned = make_plan(prepared, measure(prepared), time.monotonic() - self.started)
        self._report(planned)
        return planned

    def check_data(self) -> None:
        """Refuse data that is not what the run began with."""
        data = self.config.data
        if data.path is not None and data_hash(data) != data.sha256:
            raise DataError(
                f"{data.path}: has changed since this run began (sha256 differs).  "
                "Restore the file, or train anew with another -o."
            )

    def _settle_model(self, prepared: Prepared, planned: Planned) -> None:
        """Make the model anew: only the planned number of epochs could tell about dropout."""
        epochs = planned.total_steps / planned.steps_per_epoch
        prepared.config = drop_dropout(prepared.config, epochs)
        prepared.model = build_model(prepared.config, prepared.vocab_size)
        if begins_with_weights(prepared.config):
            load_weights_of(prepared.model, prepared.config)
        self.config = prepared.config

    def _prepare(self, text: Text) -> Prepared:
        self.config = apply_settings(resolve_sizes(self.config, text), self.config.settings)
        stored = stored_vocabulary(self.config)
        prepared = self.task.prepare(self.config, text, self._report, stored=stored)
        require_memory(prepared)
        return prepared

    def _trainer(self, prepared: Prepared) -> tuple[Trainer, WeightAverage, Stepping]:
        model, training = prepared.model, prepared.config.training
        average = WeightAverage(model, training.average)
        stepper, batches = self._stepper(prepared)
        trainer = Trainer(
            model=model,
            average=average,
            stepper=stepper,
            batches=batches,
            evaluate=prepared.evaluator(),
            keep_best=lambda kept: self.folder.write_weights(
                kept_weights(kept.tensors, prepared.config), {}
            ),
            seed_dropout=lambda step: _seed_dropout(prepared, step),
            place=prepared.text.place,
            config=training,
            folder=self.folder.path,
            report=partial(self._record, prepared),
            budget=make_budget(prepared),
            started=self.started,
        )
        return trainer, average, stepper

    def _stepper(self, prepared: Prepared) -> tuple[Stepping, Batches]:
        """Build what takes the steps, and the batches that it takes them on."""
        model, config = prepared.model, prepared.config
        loss = prepared.objective()
        if config.optimizer.name in FULL_BATCH:
            return build_full_batch(
                model,
                loss,
                config.optimizer,
                prepared.batches,
                lambda number: _seed_dropout(prepared, number),
            )
        return Stepper(model, loss, config.optimizer, model.compute_dtype), prepared.batches

    def _record(self, prepared: Prepared, event: Event) -> None:
        """Pass an event on, and keep evaluations in metrics.jsonl."""
        self._report(event)
        if isinstance(event, Evaluated):
            self._append(event)
            warning = prepared.warning(event)
            if warning and not self._warned:
                self._warned = True
                self._report(Warned(text=warning))

    def _append(self, event: Event) -> None:
        self.folder.append_metrics(msgspec.to_builtins(event))

    def _finish(self, prepared: Prepared, counters: Counters) -> Any:
        """Evaluate the kept weights on the test set, and write card and last line."""
        trained_at = time.monotonic()
        opened, folder = self.task.open(self.folder.path), self.folder.path
        outcome = prepared.finish(opened, counters.best_measures)
        finished = Finished(
            step=counters.step,
            best_step=counters.best_step,
            score_name=counters.best_name,
            valid=counters.best_measures,
            test=outcome.test,
            summary=outcome.summary,
            seconds=counters.elapsed + time.monotonic() - trained_at,
            estimate=counters.estimate,
            folder=str(folder),
            tries=[f"regard {command.format(folder=folder)}" for command in outcome.tries],
        )
        num_parameters = sum(parameter.numel() for parameter in prepared.model.parameters())
        card = model_card(self.config, prepared.text.path, outcome, finished, num_parameters)
        self.folder.write_text("README.md", card)
        self._append(finished)
        self._report(finished)
        return opened


def _seed_dropout(prepared: Prepared, number: int) -> None:
    seed = prepared.config.training.seed
    prepared.model.mask_pool.reseed(seed * 1_000_003 + number)
