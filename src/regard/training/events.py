"""The events of a run: plain values, shown by the console or written as JSON lines."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from regard.errors import NextStep


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=str.lower):
    """Base of all events; ``event`` names the kind in JSON."""


class DataSummary(Event, frozen=True, kw_only=True, tag="data"):
    """The data is read, cleaned and split.

    Args:
        path: File as named.
        unit: What is counted: pairs, texts or characters.
        contents: Languages, such as ``en -> de``, or labels, in words; empty where there are none.
        languages_are_guessed: Whether the languages were detected in the text.
        num_train: In training.
        num_valid: In validation.
        num_test: Held out for the final test.
        dropped: Number of rows left out, by reason.
        read_as: What the file was read as, in words; empty if unknown.
        columns: Names of the columns that are read; empty for data without a header.
        unused_columns: Names of the other columns.
        warnings: What looks wrong about the data; settings are written in backticks.
    """

    path: str
    unit: str
    contents: str
    languages_are_guessed: bool
    num_train: int
    num_valid: int
    num_test: int
    dropped: dict[str, int]
    read_as: str = ""
    columns: list[str] = []
    unused_columns: list[str] = []
    warnings: list[str] = []


class WorkingOn(Event, frozen=True, kw_only=True, tag="working"):
    """Work on the data that takes long: it is read, cleaned, split, encoded or evaluated.

    What takes less than two seconds is not reported, the rest at most about once a second.

    Args:
        stage: What is done, such as ``reading pairs.tsv``.
        done: So far.
        total: Of all; 0 where it is not known.
        unit: What is counted, such as ``rows``.
    """

    stage: str
    done: int
    total: int
    unit: str


class TokenizerSummary(Event, frozen=True, kw_only=True, tag="tokens"):
    """The vocabulary is built.

    Args:
        kind: Of the tokenizer.
        vocab_size: Number of token ids.
        pieces_per_word: Mean number of tokens for a word, or for a character where words are not
            separated.
        unit: ``word`` or ``character``.
        is_shared: Whether source and target share it.
        knows_all: Whether every text has tokens.
    """

    kind: str
    vocab_size: int
    pieces_per_word: float
    unit: str
    is_shared: bool = False
    knows_all: bool = True


class ModelSummary(Event, frozen=True, kw_only=True, tag="model"):
    """The model is built.

    Args:
        summary: Its dimensions in words.
        num_parameters: Trainable numbers.
        precision: Type of the activations.
    """

    summary: str
    num_parameters: int
    precision: str


class Planned(Event, frozen=True, kw_only=True):
    """The length of the run is planned, from a few measured steps.

    Args:
        optimizer: Name.
        learning_rate: Peak; None where the method has none.
        batch_tokens: Most target tokens in a batch.
        padding_share: Fraction of padding in the batches, 0 to 1.
        total_steps: Planned; with a budget of time there may be more, or fewer.
        steps_per_epoch: Batches that cover the data once; 1 where a step sees all rows.
        seconds: Expected for the whole run.
        memory_bytes: Expected peak of the process, on a GPU of the memory there.
        disk_bytes: Expected size of the folder while training.
        patience: Evaluations without gain after which the run stops; 0 where it runs to its end.
        measured_steps: Steps measured for the estimate.
        num_processes: That train together; 0 without torchrun.
        parallel: What each of them holds: ddp, the whole model; fsdp, a part of it.
        num_shards: Parts of a batch; 0 where it is computed at once.
        is_deterministic: Whether sums over shards are taken in a fixed order.
        sum_fraction: Of a step, for these sums, 0 to 1.
        device: What computes, a GPU with its model.
        pass_minutes: Budget for one pass over the data, where that of the run is too short for one;
            0 for other runs.
        has_budget: Whether time ends the run, and not a number of steps.
    """

    optimizer: str
    learning_rate: float | None
    batch_tokens: int
    padding_share: float
    total_steps: int
    steps_per_epoch: int
    seconds: float
    memory_bytes: int
    disk_bytes: int
    patience: int
    measured_steps: int
    num_processes: int = 0
    parallel: str = "ddp"
    num_shards: int = 0
    is_deterministic: bool = False
    sum_fraction: float = 0.0
    device: str = "cpu"
    pass_minutes: int = 0
    has_budget: bool = False


class Started(Event, frozen=True, kw_only=True):
    """The weights that a run starts from were evaluated on its validation data.

    Args:
        folder: Their source.
        measures: Figures by name.
    """

    folder: str
    measures: dict[str, float]


class Progress(Event, frozen=True, kw_only=True):
    """Some steps have been taken.

    Args:
        step: Steps so far.
        total_steps: Planned at present.
        epoch: Current pass over the data, from 1.
        loss: Mean cross-entropy of recent steps, nats per token.
        tokens_per_second: Target tokens.
        elapsed: Seconds since the run began, over all its sessions.
        left: Expected seconds to the end.
        num_passes: Passes over the data so far, trial steps and products counted.
        gradient_norm: At the last step, before clipping.
        is_full_batch: Whether a step sees all rows.
        learning_rate: Of the last step; None where the method has none.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    tokens_per_second: float
    elapsed: float
    left: float
    num_passes: float = 0.0
    gradient_norm: float = 0.0
    is_full_batch: bool = False
    learning_rate: float | None = None


class LayerSample(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one sampled step by layer, with four digits.

    Args:
        step: Its number, from 1.
        gradient_norms: Before clipping, by layer.
        update_ratios: Norm of the change of the weights over that of the weights, by layer.
    """

    step: int
    gradient_norms: dict[str, float]
    update_ratios: dict[str, float]


class Stability(msgspec.Struct, frozen=True, kw_only=True):
    """The stability of the training since the last evaluation.

    Args:
        num_samples: Steps that the means by layer are taken over.
        gradient_norms: Mean norm of the gradient before clipping, by layer.
        update_ratios: Mean of the norm of a step's change over that of the weights, by layer; about
            1e-3 is healthy, 1e-1 unsteady, 1e-5 idle.
        largest_gradient_norm: Of the whole gradient before clipping, over all steps.
        oscillation: Fraction of the variance of the training loss in its strongest oscillation, 0
            to 1; None after fewer than 128 steps.
        gap: Validation less training loss, nats per token; None without a validation loss.
        alarms: Texts of the alarms.
        largest_gradient_step: Step with the largest gradient; 0 where unknown.
        largest_gradient_layer: Layer with the largest part of it; empty where unknown.
        samples: At most eight of the sampled steps, evenly spaced.
        loss_oscillation: Strongest oscillation of the training loss over the last 256 steps, the
            fields of `regard.training.loss_oscillation.Oscillation`; empty after fewer than 128.
        oscillation_by_layer: Where the loss oscillates: by layer, the relative amplitude (root mean
            square of the logarithm) of its gradient norm in the same band of frequencies.
    """

    num_samples: int
    gradient_norms: dict[str, float]
    update_ratios: dict[str, float]
    largest_gradient_norm: float
    oscillation: float | None
    gap: float | None
    alarms: list[str]
    largest_gradient_step: int = 0
    largest_gradient_layer: str = ""
    samples: list[LayerSample] = []
    loss_oscillation: dict[str, float] = {}
    oscillation_by_layer: dict[str, float] = {}


class OutputExample(msgspec.Struct, frozen=True, kw_only=True):
    """What the averaged weights make of a row of the validation data.

    Args:
        source: What is read; the end of a long text is cut off, of the others too.
        output: What is written.
        reference: What is to be written.
    """

    source: str
    output: str
    reference: str


class Evaluated(Event, frozen=True, kw_only=True):
    """The averaged weights were evaluated on the validation set.

    Args:
        step: Steps so far.
        epoch: Current pass over the data, from 1.
        train_loss: Mean cross-entropy since the last evaluation, nats per token.
        measures: Figures by name; ``loss`` among them.
        score: The measure that early stopping watches; higher is better.
        score_name: Its name.
        is_best: Whether it is the best so far.
        tokens_per_second: Target tokens, since the last evaluation.
        gradient_norm: Mean since the last evaluation, before clipping.
        elapsed: Seconds since the run began, over all its sessions.
        left: Expected seconds to the end.
        total_steps: As planned before this evaluation.
        num_passes: Passes over the data so far, trial steps and products counted.
        learning_rate: Of the last step; None where the method has none.
        stability: Figures by layer and alarms, where the run was watched.
        examples: What a few rows become, always the same rows; empty for models of masked tokens.
    """

    step: int
    epoch: int
    train_loss: float
    measures: dict[str, float]
    score: float
    score_name: str
    is_best: bool
    tokens_per_second: float
    gradient_norm: float
    elapsed: float
    left: float
    total_steps: int
    num_passes: float = 0.0
    learning_rate: float | None = None
    stability: Stability | None = None
    examples: list[OutputExample] = []


class Diverged(Event, frozen=True, kw_only=True):
    """Loss, gradient or weights are not finite: the run has ended without a result.

    Args:
        step: Number of the step that failed, from 1.
        problem: What is not finite, in words.
        cause: Where it is not finite, in words.
        stability: Figures by layer since the last evaluation, up to the last good step.
    """

    step: int
    problem: str
    cause: str
    stability: Stability


class Saved(Event, frozen=True, kw_only=True):
    """A checkpoint is on disk.

    Args:
        path: File.
        step: Steps it holds.
    """

    path: str
    step: int


class Drawn(Event, frozen=True, kw_only=True):
    """A picture of the run is on disk.

    Args:
        path: File.
    """

    path: str


class Warned(Event, frozen=True, kw_only=True):
    """A warning to the user.

    Args:
        text: One line.
        next_steps: Commands that help.
    """

    text: str
    next_steps: tuple[NextStep, ...] = ()


class Interrupted(Event, frozen=True, kw_only=True):
    """The run was asked to stop and has saved.

    Args:
        path: Checkpoint.
        step: Steps it holds.
        folder: Of the run, which can be resumed.
    """

    path: str
    step: int
    folder: str


class Finished(Event, frozen=True, kw_only=True):
    """The run is over and its model evaluated.

    Args:
        step: Steps taken.
        best_step: Steps of the weights that are kept.
        score_name: Measure that chose them.
        valid: Validation figures of the kept weights.
        test: Test figures of the kept weights, empty without a test set.
        summary: The figures in a line for people.
        seconds: Of the whole run, over all its sessions.
        estimate: Seconds that were planned.
        folder: Where the model is.
        tries: What to try next: verbs with their arguments.
        planned_steps: Steps that were planned, where the time was enough for less than 9 of 10.
    """

    step: int
    best_step: int
    score_name: str
    valid: dict[str, float]
    test: dict[str, float]
    summary: str
    seconds: float
    estimate: float
    folder: str
    tries: list[NextStep]
    planned_steps: int | None = None


Report = Callable[[Event], None]
